import { setTimeout as delay } from 'node:timers/promises';
import * as graphqlSse from 'graphql-sse';
import * as graphqlWs from 'graphql-ws';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGate, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type GraphqlApi, startGraphql } from '../support/clients/graphql-api.ts';
import { type ClientPage, openPage } from '../support/clients/page.ts';
import { bff, recipe, recipeApis, runRecipe } from '../support/clients/recipe.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// GraphQL over WebSocket (graphql-ws) and over server-sent events (graphql-sse), the libraries on both sides.

let world: World;
let api: GraphqlApi;
let browser: Browser;
let page: ClientPage;
const clients: Client[] = [];

beforeEach(async () => {
  api = await startGraphql();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.dispose()));
  await world.stop();
  await api.stop();
});

/** What the page says about the API, with other settings. */
const as =
  (heading: string, others: object = {}) =>
  (data: ConfigData) => {
    Object.assign(data.apis, recipeApis(heading, api.url));
    Object.assign(data.apis.shop, others);
  };
const [overWebSocket, overSse] = ['GraphQL over WebSocket', 'GraphQL over SSE'] as const;
async function start(config: (data: ConfigData) => void) {
  world = await startWorld({ store: 'memory', config });
  browser = await world.loggedIn();
  page = openPage(world, browser);
}

type Client = Pick<graphqlWs.Client, 'iterate' | 'subscribe' | 'dispose'>;

/** The client of a recipe; options that only a test has: no page waits so shortly. */
async function clientOf(heading: string, more: object): Promise<Client> {
  const { bffFetch } = await runRecipe<{ bffFetch: typeof fetch }>(recipe(bff), page, {});
  const { client } = await runRecipe<{ client: Client }>(recipe(heading).replaceAll('wss://', 'ws://'), page, {
    './bff-fetch.js': { bffFetch },
    'graphql-ws': {
      createClient: (options: graphqlWs.ClientOptions) =>
        graphqlWs.createClient({
          webSocketImpl: page.WebSocket,
          retryWait: async () => undefined,
          ...options,
          ...more,
        }),
    },
    'graphql-sse': {
      createClient: (options: graphqlSse.ClientOptions) =>
        graphqlSse.createClient({ retry: async () => undefined, ...options, ...more } as never),
    },
  });
  clients.push(client);
  return client;
}

/** An endless subscription; returns what was heard, and how it ended. */
function listen(client: Client, query = 'subscription { lines }') {
  const heard: unknown[] = [];
  const ended = new Promise<unknown>((resolve) => {
    client.subscribe(
      { query },
      { next: (result) => heard.push(result), error: resolve, complete: () => resolve('end') },
    );
  });
  return { heard, ended };
}
async function all(results: AsyncIterable<unknown>): Promise<unknown[]> {
  const list: unknown[] = [];
  for await (const result of results) list.push(result);
  return list;
}
const lines = (...texts: string[]) => texts.map((text) => ({ data: { lines: text } }));
/** A line, and then nothing until the other side has left. */
const endless = async function* () {
  yield 'one';
  await new Promise(() => undefined);
};

describe('over WebSocket', () => {
  const open = (more: object = {}) => clientOf(overWebSocket, more);

  it('asks, subscribes and gets errors of fields and of queries', async () => {
    await start(as(overWebSocket));
    const client = await open();
    expect(await all(client.iterate({ query: '{ hello }' }))).toEqual([{ data: { hello: 'world' } }]);
    expect(await all(client.iterate({ query: 'subscription { lines }' }))).toEqual(lines('one', 'two', 'three'));
    expect(await all(client.iterate({ query: '{ broken }' }))).toMatchObject([
      { data: { broken: null }, errors: [{ message: 'this field is broken' }] },
    ]);
    await expect(all(client.iterate({ query: '{ none }' }))).rejects.toMatchObject([
      { message: expect.stringContaining('none') },
    ]);
    expect(api.requests[0]?.headers).toMatchObject({
      authorization: expect.stringMatching(/^Bearer ./),
      'sec-websocket-protocol': 'graphql-transport-ws',
    });
    expect(api.requests[0]?.headers).not.toHaveProperty('cookie');
  });

  it.each([
    [4400, 'Invalid message'],
    [4409, 'Subscriber for 1 already exists'],
    [4429, 'Too many initialisation requests'],
    [4500, 'Internal server error'],
  ])('hears why the API closed: %i %s', async (code, reason) => {
    await start(as(overWebSocket));
    api.lines = endless;
    const { heard, ended } = listen(await open());
    await until(() => heard.length === 1);
    for (const socket of api.sockets) socket.close(code, reason);
    expect(await ended).toMatchObject({ code, reason });
    expect(page.left).toEqual([]);
  });

  it('hears that the API does not let it in', async () => {
    await start(as(overWebSocket));
    api.accepts = () => false;
    const { ended } = listen(await open({ retryAttempts: 0 }));
    expect(await ended).toMatchObject({ code: 4403, reason: 'Forbidden' });
  });

  it('connects again by itself when the API vanished', async () => {
    await start(as(overWebSocket));
    api.lines = endless;
    const { heard } = listen(await open());
    await until(() => heard.length === 1);
    for (const socket of api.sockets) socket.terminate();
    await until(() => heard.length === 2);
  });

  it('ends with the session, and the page goes to the login', async () => {
    await start(as(overWebSocket));
    api.lines = endless;
    const { heard, ended } = listen(await open());
    await until(() => heard.length === 1);
    await logOut(browser);
    expect(await ended).toMatchObject({ code: 4401, reason: 'logout' });
    expect(page.left).toEqual(['/bff/login?return_to=/']);
    expect(api.requests).toHaveLength(1);
  });

  it('goes to the login when nobody is logged in, whom no handshake would tell', async () => {
    await start(as(overWebSocket));
    await logOut(browser);
    const { ended } = listen(await open({ retryAttempts: 1 }));
    expect(await ended).toBeInstanceOf(Object);
    expect(page.left[0]).toMatch(/^\/bff\/login/);
    expect(api.requests).toEqual([]);
  });

  it('tries a handshake again that was refused, as with a replica that is full', async () => {
    await start(as(overWebSocket, { websocket: { connectionsPerSession: 1 } }));
    api.lines = endless;
    const first = new page.WebSocket('/api/shop/graphql', 'graphql-transport-ws');
    await until(() => first.readyState === 1);
    const waits: number[] = [];
    const { heard } = listen(
      await open({
        async retryWait(count: number) {
          waits.push(count);
          first.close();
          await until(() => api.sockets.size === 0);
        },
      }),
    );
    await until(() => heard.length === 1);
    expect(waits.length).toBeGreaterThan(0);
  });
});

describe('over WebSocket, when the access token ends', () => {
  const startShort = async (others: object, says: GraphqlApi['lines']) => {
    world = await startWorld({
      store: 'memory',
      config: as(overWebSocket, others),
      provider: { accessTokenSeconds: 2 },
    });
    browser = await world.loggedIn();
    page = openPage(world, browser);
    api.lines = says;
    return listen(await clientOf(overWebSocket, {}));
  };

  it('a subscription goes on with outliveToken', async () => {
    const { heard } = await startShort({}, async function* () {
      while (api.sockets.size > 0) {
        yield 'tick';
        await delay(100);
      }
      await new Promise(() => undefined); // an end would be told, to nobody
    });
    const startedAt = performance.now();
    await until(() => performance.now() - startedAt > 4000 && heard.length > 30, { timeoutMs: 8000 });
    expect(api.requests).toHaveLength(1);
  });

  it('it is over without: graphql-ws takes 4401 for final', async () => {
    const { ended } = await startShort({ websocket: {} }, endless);
    expect(await ended).toMatchObject({ code: 4401, reason: 'token-expired' });
    expect(api.requests).toHaveLength(1);
  });
});

describe.each([
  ['one connection for each operation', { singleConnection: false }],
  ['a single connection', { singleConnection: true }],
])('over SSE with %s', (_name, { singleConnection }) => {
  const open = (more: object = {}) => clientOf(overSse, { singleConnection, ...more });

  it('asks, subscribes and gets errors of fields and of queries', async () => {
    await start(as(overSse));
    const client = await open();
    expect(await all(client.iterate({ query: '{ hello }' }))).toEqual([{ data: { hello: 'world' } }]);
    expect(await all(client.iterate({ query: 'subscription { lines }' }))).toEqual(lines('one', 'two', 'three'));
    expect(await all(client.iterate({ query: '{ broken }' }))).toMatchObject([
      { data: { broken: null }, errors: [{ message: 'this field is broken' }] },
    ]);
    const methods = new Set(api.requests.map(({ method }) => method));
    expect([...methods]).toEqual(singleConnection ? ['PUT', 'GET', 'POST'] : ['POST']);
    for (const { headers } of api.requests) expect(headers.authorization).toMatch(/^Bearer ./);
  });

  it('hears from the API that a query is none', async () => {
    await start(as(overSse));
    const client = await open({ retryAttempts: 0 });
    const answer = all(client.iterate({ query: '{ none }' }));
    if (singleConnection) await expect(answer).rejects.toThrow(/400/);
    else expect(await answer).toMatchObject([{ errors: [{ message: expect.stringContaining('none') }] }]);
    expect(page.left).toEqual([]);
  });

  it('streams piece by piece, and lets the API know when nobody listens any more', async () => {
    await start(as(overSse));
    const [gate, left] = [createGate(), createGate()];
    api.lines = async function* () {
      try {
        yield 'one';
        await gate.opened;
        yield 'two';
        for (;;) yield await new Promise<string>((resolve) => setTimeout(resolve, 5, 'more'));
      } finally {
        left.open();
      }
    };
    const results = (await open()).iterate({ query: 'subscription { lines }' });
    expect((await results.next()).value).toEqual(lines('one')[0]);
    gate.open();
    expect((await results.next()).value).toEqual(lines('two')[0]);
    await results.return?.();
    await left.opened;
    if (singleConnection) await until(() => api.requests.some(({ method }) => method === 'DELETE'));
  });

  it('ends with the session, and the page goes to the login', async () => {
    await start(as(overSse));
    api.lines = endless;
    const { heard, ended } = listen(await open({ retryAttempts: 1 }));
    await until(() => heard.length === 1);
    await logOut(browser);
    expect(await ended).toBeInstanceOf(Error);
    expect(page.left[0]).toBe(`${world.origin}/bff/login?return_to=%2Fapp`);
    expect(page.statuses.at(-1)).toBe(401);
  });
});
