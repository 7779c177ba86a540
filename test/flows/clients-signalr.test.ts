import type * as SignalR from '@microsoft/signalr';
import { afterEach, describe, expect, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type ClientPage, loadScript, openPage } from '../support/clients/page.ts';
import { bff, recipe, recipeApis, runRecipe } from '../support/clients/recipe.ts';
import { type Hub, startHub } from '../support/clients/signalr-hub.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// SignalR: the browser build of @microsoft/signalr, and a hub of our own behind, since Microsoft has none for Node.

let world: World;
let hubs: Hub[];
let browser: Browser;
let page: ClientPage;
const connections: SignalR.HubConnection[] = [];

afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.stop()));
  await world.stop();
  await Promise.all(hubs.map((hub) => hub.stop()));
});

async function start(
  change: (api: ConfigData, data: ConfigData) => void = () => undefined,
  options: Parameters<typeof startHub>[0] & { hubs?: number } = {},
): Promise<Hub> {
  hubs = await Promise.all(Array.from({ length: options.hubs ?? 1 }, () => startHub(options)));
  world = await startWorld({
    store: 'memory',
    config(data) {
      const targets = hubs.map(({ url }) => url);
      Object.assign(data.apis, recipeApis('SignalR', targets));
      change(data.apis.live, data);
    },
  });
  browser = await world.loggedIn();
  page = openPage(world, browser);
  return hubs[0] as Hub;
}

interface Recipe {
  connection: SignalR.HubConnection;
  start(): Promise<void>;
}

/** The connection of the recipe by one transport alone, else the library would fall back to the next. */
async function prepare(transport: Transport | undefined, more: SignalR.IHttpConnectionOptions = {}): Promise<Recipe> {
  const signalR = loadScript<typeof SignalR>(page, '@microsoft/signalr/dist/browser/signalr.js', 'signalR');
  const { bffFetch } = await runRecipe<{ bffFetch: typeof fetch }>(recipe(bff), page, {});
  class Builder extends signalR.HubConnectionBuilder {
    override withUrl(url: string, given?: unknown) {
      const by = transport === undefined ? {} : { transport: signalR.HttpTransportType[transport] };
      return super.withUrl(url, { ...(given as object), ...by, ...more }).configureLogging(signalR.LogLevel.None);
    }
  }
  const ready = await runRecipe<Recipe>(recipe('SignalR'), page, {
    '@microsoft/signalr': { HubConnectionBuilder: Builder },
    './bff-fetch.js': { bffFetch },
  });
  connections.push(ready.connection);
  return ready;
}
async function open(transport: Transport | undefined): Promise<SignalR.HubConnection> {
  const ready = await prepare(transport);
  await ready.start();
  return ready.connection;
}

type Transport = 'WebSockets' | 'ServerSentEvents' | 'LongPolling';
const transports: Transport[] = ['WebSockets', 'ServerSentEvents', 'LongPolling'];

function streamed(connection: SignalR.HubConnection, upTo: number): Promise<number[]> {
  const items: number[] = [];
  return new Promise((resolve, reject) => {
    const stream = connection.stream<number>('count', upTo);
    stream.subscribe({ next: (item) => items.push(item), complete: () => resolve(items), error: reject });
  });
}

describe.each(transports)('by %s', (transport) => {
  it('calls go both ways, and streams', async () => {
    const hub = await start();
    const connection = await open(transport);
    const said: string[] = [];
    connection.on('said', (text: string) => said.push(text));
    expect(await connection.invoke('echo', 'héllo')).toBe('héllo');
    await connection.send('say', 'to all');
    await until(() => said.length === 1);
    hub.broadcast('said', 'from the hub');
    await until(() => said.length === 2);
    expect(said).toEqual(['to all', 'from the hub']);
    expect(await streamed(connection, 4)).toEqual([1, 2, 3, 4]);
    await expect(connection.invoke('nothing')).rejects.toThrow("An unexpected error occurred invoking 'nothing'.");
    for (const { headers } of hub.requests) {
      expect(headers.authorization).toMatch(/^Bearer ./);
      expect(headers).not.toHaveProperty('cookie');
    }
    await connection.stop();
    await until(() => hub.connections.size === 0);
  });

  it('the hub’s goodbye arrives with its reason', async () => {
    const hub = await start();
    const connection = await open(transport);
    const closed = new Promise<Error | undefined>((resolve) => connection.onclose(resolve));
    hub.close('maintenance');
    expect((await closed)?.message).toContain('maintenance');
    await until(() => page.statuses.at(-1) === 200); // of the session, which is still there
    expect(page.left).toEqual([]);
  });

  it('connects again by itself when the hub vanished', async () => {
    const hub = await start();
    const connection = await open(transport);
    const before = connection.connectionId;
    const again = new Promise<string | undefined>((resolve) => connection.onreconnected(resolve));
    hub.connections.clear();
    hub.cut();
    expect(await again).not.toBe(before);
    expect(await connection.invoke('echo', 'back')).toBe('back');
    expect(page.left).toEqual([]);
  });

  it('ends with the session, and the page goes to the login', async () => {
    const hub = await start(undefined, { pollMs: 300 });
    await open(transport);
    await logOut(browser);
    await until(() => page.left.length > 0, { timeoutMs: 10_000 });
    expect(page.left[0]).toMatch(/^\/bff\/login/);
    if (transport !== 'LongPolling') await until(() => hub.connections.size === 0);
  });
});

it('takes WebSockets by itself, after the negotiation', async () => {
  const hub = await start();
  const connection = await open(undefined);
  expect(await connection.invoke('echo', 1)).toBe(1);
  expect(hub.requests.map(({ method, headers }) => [method, headers.upgrade])).toEqual([
    ['POST', undefined],
    ['GET', 'websocket'],
  ]);
});

it('falls back to event streams where no WebSocket is offered', async () => {
  const hub = await start((api) => {
    delete api.websocket;
  });
  const connection = await open(undefined);
  expect(await connection.invoke('echo', 1)).toBe(1);
  expect(hub.requests.some(({ headers }) => headers.accept === 'text/event-stream')).toBe(true);
});

it('is told 403 without the CSRF header', async () => {
  const hub = await start();
  const { start: begin } = await prepare(undefined, { headers: {} });
  await expect(begin()).rejects.toThrow('403');
  expect(page.left).toEqual([]);
  expect(hub.requests).toEqual([]);
});

it('is told 401 without a session, and the page goes to the login', async () => {
  await start();
  await logOut(browser);
  const { start: begin } = await prepare(undefined);
  await expect(begin()).rejects.toThrow('401');
  expect(page.left[0]).toMatch(/^\/bff\/login/);
});

it('polls no longer than timeouts.headers: with less than the hub waits, the client is cut off', async () => {
  await start((api) => Object.assign(api, { timeouts: { headers: '300ms' } }));
  const connection = await open('LongPolling');
  const lost = new Promise<Error | undefined>((resolve) => connection.onreconnecting(resolve));
  expect((await lost)?.message).toContain('504');
});

describe('with two hubs, neither of which knows the connections of the other', () => {
  it.each(transports)('does not work by %s when each call may go to another', async (transport) => {
    await start(undefined, { hubs: 2 });
    await expect(open(transport)).rejects.toThrow();
  });

  it.each(transports)('W64 works with affinity: session, by %s', async (transport) => {
    await start((api) => Object.assign(api, { affinity: 'session' }), { hubs: 2 });
    for (const who of ['alice', 'bob', 'carol', 'dave']) {
      page = openPage(world, await world.loggedIn(who));
      const connection = await open(transport);
      expect(await connection.invoke('echo', who)).toBe(who);
    }
  });
});
