import { afterEach, describe, expect, it } from 'vitest';
import type { WebSocket } from 'ws';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, type PageSocket, refusalOf } from '../support/websocket/page.ts';
import { createChat, createWebSocketApi, echo, type WebSocketApi } from '../support/websocket/upstream.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// WebSockets between a page and an API, through the proxy.

let world: World;
afterEach(() => world.stop());

/** A world whose orders API is this one. */
async function startWith(
  api: WebSocketApi,
  settings: object = {},
  change: (data: ConfigData) => void = () => undefined,
) {
  world = await startWorld({
    store: 'memory',
    config(data) {
      data.apis.orders.websocket = settings;
      change(data);
    },
  });
  world.upstream.respond = api.respond;
  return world.loggedIn();
}

const lastMessage = (page: PageSocket) => page.messages.at(-1);
const metric = async (name: string) => {
  const { body } = await world.app.ops.inject('/metrics');
  return body.split('\n').filter((line) => line.startsWith(name));
};

describe('messages', () => {
  it('go both ways, text and binary, also those that the API says at once', async () => {
    const api = createWebSocketApi((socket, request) => {
      socket.send('welcome');
      echo(socket, request);
    });
    const browser = await startWith(api);
    const page = await openWebSocket(world, browser);
    page.socket.send('héllo');
    page.socket.send(Buffer.from([0, 255, 1]));
    page.socket.send('');
    await until(() => page.messages.length === 4);
    expect(page.messages).toEqual(['welcome', 'héllo', Buffer.from([0, 255, 1]).toString(), '']);
    page.socket.terminate();
  });

  it('of a chat reach everybody, on every replica', async () => {
    world = await startWorld({ replicas: 2, config: (data) => Object.assign(data.apis.orders, { websocket: {} }) });
    world.upstream.respond = createChat().respond;
    const alice = await openWebSocket(world, await world.loggedIn('alice'));
    const bob = await openWebSocket(world, await world.loggedIn('bob'), { replica: 1 });
    alice.socket.send('hello bob');
    await until(() => lastMessage(bob) === 'hello bob');
    bob.socket.send('hello alice');
    await until(() => lastMessage(alice) === 'hello alice');
    for (const { socket } of [alice, bob]) socket.terminate();
  });

  it('wait where they are while the API reads nothing, and none gets lost', async () => {
    const received: number[] = [];
    const api = createWebSocketApi((socket) => {
      socket.pause();
      socket.on('message', (data) => received.push((data as Buffer).readUInt32BE(0)));
    });
    const browser = await startWith(api);
    const page = await openWebSocket(world, browser);
    const sent = sendAll(page.socket);
    expect(await untilSteady(() => sent.count)).toBeLessThan(fits);
    for (const socket of api.sockets) socket.resume();
    await until(() => received.length === mostMessages, { timeoutMs: 15_000 });
    expect(received).toEqual(Array.from({ length: mostMessages }, (_, index) => index));
    page.socket.terminate();
  });

  it('wait where they are while the page reads nothing, and none gets lost', async () => {
    let sent = { count: 0 };
    const browser = await startWith(
      createWebSocketApi((socket) => {
        sent = sendAll(socket);
      }),
    );
    const page = await openWebSocket(world, browser);
    page.socket.pause();
    expect(await untilSteady(() => sent.count)).toBeLessThan(fits);
    page.socket.resume();
    await until(() => page.messages.length === mostMessages, { timeoutMs: 15_000 });
    page.socket.terminate();
  });
});

/** 100 MB, and what fits into the kernel's buffers of two connections and a little in ours. */
const [mostMessages, messageSize, fits] = [400, 256 * 1024, 100];

/** Sends numbered messages, each when the one before has gone to the kernel; tells how many did. */
function sendAll(socket: WebSocket): { count: number } {
  const sent = { count: 0 };
  const next = () => {
    if (sent.count === mostMessages) return;
    const message = Buffer.alloc(messageSize);
    message.writeUInt32BE(sent.count);
    socket.send(message, (error) => {
      if (error) return;
      sent.count++;
      next();
    });
  };
  next();
  return sent;
}

/** Waits until this number has not moved for a while, and returns it. */
async function untilSteady(read: () => number): Promise<number> {
  let [seen, since] = [read(), performance.now()];
  await until(
    () => {
      const now = read();
      if (now !== seen) [seen, since] = [now, performance.now()];
      return performance.now() - since > 1000;
    },
    { timeoutMs: 15_000 },
  );
  return seen;
}

describe('the handshake with the API', () => {
  it('has the path and query as they came', async () => {
    const browser = await startWith(createWebSocketApi(echo));
    const query = "?room='a'&q=%2F..%252e&t=a+b%20c&x=[1]&%71=~";
    const page = await openWebSocket(world, browser, { path: `/api/orders/ws/%7Ea;v=1/caf%C3%A9${query}` });
    expect(world.upstream.requests[0]?.target).toBe(`/ws/%7Ea;v=1/caf%C3%A9${query}`);
    page.socket.terminate();
  });

  it('offers the subprotocols of the page, and the page gets the one that the API chose', async () => {
    const browser = await startWith(createWebSocketApi(echo, { protocol: 'chat.v1' }));
    const page = await openWebSocket(world, browser, { protocols: ['chat.v2', 'chat.v1'] });
    expect(world.upstream.requests[0]?.header('sec-websocket-protocol')).toBe('chat.v2,chat.v1');
    expect(page.socket.protocol).toBe('chat.v1');
    page.socket.terminate();
  });

  it('happens once more, with another token, when the API refuses a token that should be good', async () => {
    const api = createWebSocketApi(echo);
    const browser = await startWith(api);
    const challenge: [string, string][] = [['WWW-Authenticate', 'Bearer error="invalid_token"']];
    world.upstream.respond = (request, socket) =>
      (world.upstream.requests.length === 1 ? reply({ status: 401, headers: challenge }) : api.respond)(
        request,
        socket,
      );
    const page = await openWebSocket(world, browser);
    const tokens = world.upstream.requests.map((request) => request.header('authorization'));
    expect([tokens.length, new Set(tokens).size]).toEqual([2, 2]);
    page.socket.terminate();
  });

  it('goes to another target when the connection to the first fails', async () => {
    const dead = await freePort();
    const api = createWebSocketApi(echo);
    const browser = await startWith(api, {}, (data) => {
      data.apis.orders.upstream = [`http://127.0.0.1:${dead}`, data.apis.orders.upstream];
    });
    const page = await openWebSocket(world, browser);
    page.socket.send('x');
    await until(() => lastMessage(page) === 'x');
    page.socket.terminate();
  });

  it.each([
    ['can’t be reached', 502, 'BFF_UPSTREAM_UNREACHABLE'],
    ['does not answer in time', 504, 'BFF_UPSTREAM_TIMEOUT'],
    ['does not speak HTTP', 502, 'BFF_UPSTREAM_INVALID'],
  ])('fails with the API that %s', async (how, status, code) => {
    const browser = await startWith(createWebSocketApi(echo), {}, (data) =>
      Object.assign(data.apis.orders, { timeouts: { headers: '300ms' } }),
    );
    if (status === 504) world.upstream.respond = () => new Promise(() => undefined);
    else if (how.includes('HTTP')) world.upstream.respond = rawBytes('SSH-2.0-OpenSSH\r\n\r\n');
    else await world.upstream.stop();
    const refusal = await refusalOf(world, browser);
    expect([refusal.status, refusal.code]).toEqual([status, code]);
  });

  it('leaves ordinary requests to the same API as they are', async () => {
    const api = createWebSocketApi(echo);
    const browser = await startWith(api);
    world.upstream.respond = reply({ body: { ok: true } });
    const answer = await browser.fetch('/api/orders/ws', { headers: { 'x-csrf': '1' } });
    expect([answer.status, answer.text]).toEqual([200, '{"ok":true}']);
    expect(world.upstream.requests[0]?.header('upgrade')).toBeUndefined();
  });

  it('is given up at once when the browser leaves meanwhile', async () => {
    const browser = await startWith(createWebSocketApi(echo));
    world.upstream.respond = () => new Promise(() => undefined);
    const leaving = new AbortController();
    const opening = openWebSocket(world, browser, { signal: leaving.signal }).catch(() => 'left');
    await until(() => world.upstream.active === 1);
    leaving.abort();
    expect(await opening).toBe('left');
    await until(() => world.upstream.connections === 0);
  });
});

describe('what is open', () => {
  it('is limited for each session, and places are given back', async () => {
    const browser = await startWith(createWebSocketApi(echo), { connectionsPerSession: 2 });
    const first = await openWebSocket(world, browser);
    const second = await openWebSocket(world, browser);
    const refusal = await refusalOf(world, browser);
    expect([refusal.status, refusal.code, refusal.headers['retry-after']]).toEqual([429, 'BFF_WEBSOCKET_LIMIT', '30']);
    const other = await openWebSocket(world, await world.loggedIn('bob'));
    first.socket.close();
    await first.closed;
    const again = await eventually(() => openWebSocket(world, browser));
    for (const page of [first, second, other, again]) page.socket.terminate();
  });

  it('is limited for the API, also what is only being opened', async () => {
    const api = createWebSocketApi(echo);
    const browser = await startWith(api, { connections: 2 });
    const page = await openWebSocket(world, browser);
    world.upstream.respond = () => new Promise(() => undefined);
    const leaving = new AbortController();
    const opening = openWebSocket(world, browser, { signal: leaving.signal }).catch(() => 'left');
    await until(() => world.upstream.active === 1);
    const refusal = await refusalOf(world, await world.loggedIn('bob'));
    expect([refusal.status, refusal.code]).toEqual([503, 'BFF_WEBSOCKETS_FULL']);
    leaving.abort();
    await opening;
    world.upstream.respond = api.respond;
    const again = await eventually(() => openWebSocket(world, browser));
    for (const one of [page, again]) one.socket.terminate();
  });

  it('gives its place back whatever became of the handshake', async () => {
    const api = createWebSocketApi(echo);
    const browser = await startWith(api, { connections: 1 });
    for (const respond of [reply({ status: 403 }), rawBytes('nonsense\r\n\r\n'), rawBytes('')]) {
      world.upstream.respond = respond;
      expect((await refusalOf(world, browser)).status).toBe(502);
    }
    world.upstream.respond = api.respond;
    (await openWebSocket(world, browser)).socket.terminate();
  });

  it('is counted, and logged without its query', async () => {
    const browser = await startWith(createWebSocketApi(echo));
    const page = await openWebSocket(world, browser, { path: '/api/orders/ws?ticket=secret-query' });
    expect(await metric('cloakroom_websockets{')).toEqual(['cloakroom_websockets{frontend="default",api="orders"} 1']);
    page.socket.send('one');
    await until(() => page.messages.length === 1);
    page.socket.close(1000);
    await until(() => world.log.lines.some(({ msg }) => msg === 'websocket closed'));
    expect(await metric('cloakroom_websockets{')).toEqual(['cloakroom_websockets{frontend="default",api="orders"} 0']);
    expect(await metric('cloakroom_websockets_closed_total{')).toEqual([
      'cloakroom_websockets_closed_total{frontend="default",api="orders",by="browser"} 1',
    ]);
    const [opened, closed] = ['websocket opened', 'websocket closed'].map((message) =>
      world.log.lines.find(({ msg }) => msg === message),
    );
    expect(opened).toMatchObject({ api: 'orders', path: '/api/orders/ws', session: expect.stringMatching(/^.{12}$/) });
    expect(closed).toMatchObject({ reqId: opened?.reqId, by: 'browser', code: 1000, fromBrowser: 1, fromUpstream: 1 });
    expect(world.log.text()).not.toContain('secret-query');
  });

  it('counts refusals by status', async () => {
    const browser = await startWith(createWebSocketApi(echo));
    await refusalOf(world, browser, { origin: 'https://evil.example' });
    await refusalOf(world);
    expect(await metric('cloakroom_websocket_refusals_total{')).toEqual([
      'cloakroom_websocket_refusals_total{frontend="default",api="orders",status="403"} 1',
      'cloakroom_websocket_refusals_total{frontend="default",api="orders",status="401"} 1',
    ]);
  });
});

describe('guests and public APIs', () => {
  it('have WebSockets where the API lets them in, with its token or none', async () => {
    const api = createWebSocketApi(echo);
    await startWith(api, {}, (data) => {
      data.apis.orders.token = 'user-or-client';
      data.apis.news = { path: '/api/news', upstream: data.apis.orders.upstream, token: 'none', websocket: {} };
    });
    for (const [path, header] of [
      ['/api/orders/ws', expect.stringMatching(/^Bearer ./)],
      ['/api/news/ws', undefined],
    ]) {
      const page = await openWebSocket(world, world.browser(), { path: path as string });
      page.socket.send('x');
      await until(() => lastMessage(page) === 'x');
      expect(world.upstream.requests.at(-1)?.header('authorization')).toEqual(header);
      const foreign = await refusalOf(world, undefined, { path: path as string, origin: 'https://evil.example' });
      expect(foreign.status).toBe(403);
      page.socket.terminate();
    }
  });
});

/** What a place that is given back only a moment later lets happen. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  return until(() => attempt().catch(() => undefined)) as Promise<T>;
}
