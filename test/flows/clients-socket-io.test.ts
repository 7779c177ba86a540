import * as client from 'socket.io-client';
import { afterEach, describe, expect, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type ClientPage, openPage } from '../support/clients/page.ts';
import { bff, recipe, recipeApis, runRecipe } from '../support/clients/recipe.ts';
import { type SocketIoApi, startSocketIo } from '../support/clients/socket-io-api.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// socket.io, the library on both sides. Here it is its build for Node, which is given what a browser sends by itself;
// in Chromium: test/e2e/clients.test.ts.

let world: World;
let apis: SocketIoApi[];
let browser: Browser;
let page: ClientPage;
const sockets: client.Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.disconnect();
  for (const api of apis) api.cut(); // else a poll is waited for until the next ping
  await world.stop();
  await Promise.all(apis.map((api) => api.stop()));
});

async function start(change: (api: ConfigData) => void = () => undefined, count = 1): Promise<SocketIoApi> {
  apis = await Promise.all(Array.from({ length: count }, () => startSocketIo()));
  world = await startWorld({
    store: 'memory',
    config(data) {
      const targets = apis.map(({ url }) => url);
      Object.assign(data.apis, recipeApis('socket.io', targets));
      change(data.apis.live);
    },
  });
  browser = await world.loggedIn();
  page = openPage(world, browser);
  return apis[0] as SocketIoApi;
}

type Options = Partial<client.ManagerOptions & client.SocketOptions>;

/** The socket of the recipe, not connected yet. */
async function prepare(more: Options): Promise<client.Socket> {
  const { bffFetch } = await runRecipe<{ bffFetch: typeof fetch }>(recipe(bff), page, {});
  const io = (options: Options) => {
    const given = { ...options, reconnectionDelay: 10, reconnectionDelayMax: 50, forceNew: true, ...more };
    const ours = page.headers('POST');
    // Read for each request: the cookie of a session that ended is gone.
    return client.io(world.origin, { ...given, extraHeaders: { ...given.extraHeaders, ...ours } });
  };
  const { socket } = await runRecipe<{ socket: client.Socket }>(recipe('socket.io'), page, {
    'socket.io-client': { io },
    './bff-fetch.js': { bffFetch },
  });
  sockets.push(socket);
  return socket;
}
async function open(more: Options): Promise<client.Socket> {
  const socket = await prepare(more);
  socket.connect();
  await until(() => socket.connected);
  return socket;
}
const failureOf = (socket: client.Socket) => {
  const failure = new Promise<Error & { data?: unknown; description?: unknown }>((resolve) =>
    socket.once('connect_error', resolve),
  );
  socket.connect();
  return failure;
};

const ways: [string, Options, string[]][] = [
  ['polling alone', { transports: ['polling'] }, ['GET', 'POST']],
  ['WebSocket alone', { transports: ['websocket'] }, ['websocket']],
  ['polling and then WebSocket, as by default', {}, ['GET', 'POST', 'websocket']],
];

describe.each(ways)('by %s', (way, options, uses) => {
  it('events go both ways, with answers and bytes', async () => {
    const api = await start();
    const socket = await open(options);
    const said: string[] = [];
    socket.on('said', (text: string) => said.push(text));
    expect(await socket.emitWithAck('echo', 'héllo')).toBe('héllo');
    expect(Buffer.from(await socket.emitWithAck('echo', Buffer.from([0, 255])))).toEqual(Buffer.from([0, 255]));
    socket.emit('say', 'to all');
    await until(() => said.length === 1);
    api.io.emit('said', 'from the API');
    await until(() => said.length === 2);
    expect(said).toEqual(['to all', 'from the API']);
    const last = way.startsWith('polling alone') ? 'polling' : 'websocket';
    await until(() => socket.io.engine.transport.name === last);
    expect(await socket.emitWithAck('echo', 'after')).toBe('after');
    const methods = new Set(api.requests.map(({ method, headers }) => headers.upgrade ?? method));
    expect([...methods].sort()).toEqual(uses);
    for (const { headers } of api.requests) {
      expect(headers.authorization).toMatch(/^Bearer ./);
      expect(headers).not.toHaveProperty('cookie');
    }
  });

  it('hears why the API does not let it in', async () => {
    await start();
    const failure = await failureOf(await prepare({ ...options, auth: { room: 'closed' } }));
    expect([failure.message, failure.data]).toEqual(['the room is closed', { opens: 'tomorrow' }]);
  });

  it('hears that the API let it go', async () => {
    await start();
    const socket = await open(options);
    const reason = new Promise((resolve) => socket.once('disconnect', resolve));
    socket.emit('leave');
    expect(await reason).toBe('io server disconnect');
  });

  it('connects again by itself when the API vanished', async () => {
    const api = await start();
    const socket = await open(options);
    const before = socket.id;
    api.forget();
    await until(() => socket.connected && socket.id !== before, { timeoutMs: 10_000 });
    expect(await socket.emitWithAck('echo', 'back')).toBe('back');
    expect(page.left).toEqual([]);
  });

  it('ends with the session, and the page goes to the login', async () => {
    const api = await start();
    const socket = await open(options);
    if (!way.startsWith('polling alone')) await until(() => socket.io.engine.transport.name === 'websocket');
    await logOut(browser);
    if (way.startsWith('polling alone')) api.io.emit('said', 'the poll that was under way'); // a ping, at the latest
    await until(() => page.left.length > 0, { timeoutMs: 10_000 });
    expect(page.left[0]).toMatch(/^\/bff\/login/);
  });

  it('does not connect without a session, and the page goes to the login', async () => {
    const api = await start();
    await logOut(browser);
    const failure = await failureOf(await prepare(options));
    if (!way.startsWith('WebSocket')) expect(failure.description).toBe(401);
    await until(() => page.left.length > 0);
    expect(api.requests).toEqual([]);
  });
});

it('by polling needs the CSRF header', async () => {
  await start();
  const without = { extraHeaders: {}, transports: ['polling'] };
  // The first poll passes, what is said then does not; and the library tells the application nothing of it.
  const refused = await prepare(without);
  const closed = new Promise((resolve) => refused.io.once('close', (_reason, details) => resolve(details)));
  refused.connect();
  expect(await closed).toMatchObject({ description: 403 });
  expect(refused.connected).toBe(false);
});

it('by polling needs no CSRF header with csrf: origin', async () => {
  await start((api) => Object.assign(api, { csrf: 'origin' }));
  const socket = await open({ extraHeaders: {}, transports: ['polling'] });
  expect(await socket.emitWithAck('echo', 1)).toBe(1);
});

it('by WebSocket alone needs no CSRF header', async () => {
  await start();
  expect(await (await open({ extraHeaders: {}, transports: ['websocket'] })).emitWithAck('echo', 1)).toBe(1);
});

describe('with two targets, neither of which knows the connections of the other', () => {
  it('does not work by polling when each call may go to another', async () => {
    await start(undefined, 2);
    const failure = await failureOf(await prepare({ transports: ['polling'] }));
    expect(failure.description).toBe(400); // Session ID unknown
  });

  it('works by WebSocket alone, which is one call', async () => {
    await start(undefined, 2);
    const socket = await open({ transports: ['websocket'] });
    expect(await socket.emitWithAck('echo', 1)).toBe(1);
  });

  it.each(ways)('W64 works with affinity: session, by %s', async (_way, options) => {
    await start((api) => Object.assign(api, { affinity: 'session' }), 2);
    for (const who of ['alice', 'bob', 'carol', 'dave']) {
      browser = await world.loggedIn(who);
      page = openPage(world, browser);
      const socket = await open(options);
      expect(await socket.emitWithAck('echo', who)).toBe(who);
    }
  });
});
