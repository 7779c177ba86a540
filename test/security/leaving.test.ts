import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createGate } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { hang, type Respond, reply, serverSentEvents } from '../support/echo-upstream/answers.ts';
import { pendingLogin } from '../support/login-steps.ts';
import { openRaw, type RawConnection, rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';
import { handshake } from '../support/websocket/raw.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { startWorld, type World } from '../support/world.ts';

// W1: every way in which a browser can leave, at each step, more often within a second than the breaker bears failures.
// Whatever counts failures (breakers, the circuit of Redis, pauses) counts none of it: the next user is answered at once.

/** The breaker opens at 5. */
const leavers = 12;

const ways: Record<string, (connection: RawConnection) => void> = {
  FIN: ({ socket }) => void socket.destroy(),
  RST: ({ socket }) => void socket.resetAndDestroy(),
  'RST a turn later': ({ socket }) => void setImmediate(() => socket.resetAndDestroy()),
  'half-close': ({ socket }) => void socket.end(),
};

let world: World;
let alice: Browser;
let bob: Browser;
const sockets = createWebSocketApi(echo);

async function* ticks() {
  for (;;) {
    yield 'tick';
    await new Promise((resolve) => setTimeout(resolve, 10).unref());
  }
}
const stream: Respond = (request, socket) => reply({ body: ticks() })(request, socket);
const events: Respond = (request, socket) => serverSentEvents(ticks())(request, socket);

/** By the path that arrives. */
const answers: Record<string, Respond> = {
  '/hang': hang(),
  '/stream': stream,
  '/events': events,
  '/ws': sockets.respond,
};

beforeAll(async () => {
  world = await startWorld({
    nearCache: false, // every call asks Redis
    config(data) {
      const { upstream } = data.apis.orders;
      const breaker = { openFor: '20s' };
      data.apis.orders = { path: '/api/orders', upstream, websocket: {}, breaker };
      data.apis.public = { path: '/api/public', upstream, token: 'none', websocket: {}, breaker };
      const limits = { connections: 1, queue: 50 };
      data.apis.narrow = { path: '/api/narrow', upstream, token: 'none', limits, breaker };
    },
  });
  world.upstream.respondOn = 'head';
  const ok = reply({ body: { ok: true } });
  world.upstream.respond = (request, socket) => (answers[request.target] ?? ok)(request, socket);
  [alice, bob] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
});
afterAll(() => world.stop());
beforeEach(() => {
  world.log.clear();
  world.upstream.requests.length = 0;
});

/** The bytes of a request that a page of ours sends. */
function head(target: string, browser: Browser = alice, method = 'GET', lines: string[] = []): string {
  const cookies = browser.cookies().map(({ name, value }) => `${name}=${value}`);
  const own = [`Cookie: ${cookies.join('; ')}`, 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
  return [`${method} ${target} HTTP/1.1`, `Host: localhost:${world.port}`, ...own, ...lines, '', ''].join('\r\n');
}

async function open(text: string | ((index: number) => string)): Promise<RawConnection[]> {
  const connections = await Promise.all(Array.from({ length: leavers }, () => openRaw(world.port)));
  for (const [index, connection] of connections.entries())
    void connection.write(typeof text === 'string' ? text : text(index)).catch(() => undefined);
  return connections;
}

/** Waits until so many requests for the path stand at the API. */
async function openUntilThere(text: string, path: string): Promise<RawConnection[]> {
  const connections = await open(text);
  const there = () => world.upstream.requests.filter(({ target }) => target === path);
  await until(() => there().length === leavers, { message: `${path} to be asked` });
  return connections;
}

async function openUntilRead(text: string, piece: string): Promise<RawConnection[]> {
  const connections = await open(text);
  await Promise.all(connections.map((connection) => connection.readUntil((read) => read.includes(piece))));
  return connections;
}

const upload = ['Content-Type: text/plain', 'Content-Length: 1000'];
const webSocket = (browser: Browser | undefined, path: string) => handshake(world, browser, {}, `GET ${path} HTTP/1.1`);

/** How connections come to a step, and what has to be let go after they left. */
const steps: Record<string, () => Promise<{ connections: RawConnection[]; finish?: () => unknown }>> = {
  'before the end of its headers': async () => ({ connections: await open(head('/api/orders/1').slice(0, -4)) }),
  'right after the head of a call': async () => ({ connections: await open(head('/api/orders/1')) }),
  'right after the head of a public call': async () => ({ connections: await open(head('/api/public/1')) }),
  'in the middle of an upload': async () => ({
    connections: await openUntilThere(`${head('/api/orders/hang', alice, 'POST', upload)}begun`, '/hang'),
  }),
  'right after the beginning of an upload': async () => ({
    connections: await open(`${head('/api/orders/1', alice, 'POST', upload)}begun`),
  }),
  'while it waits for the answer': async () => ({
    connections: await openUntilThere(head('/api/orders/hang'), '/hang'),
  }),
  'in the middle of a download': async () => ({ connections: await openUntilRead(head('/api/orders/stream'), 'tick') }),
  'right after a handshake': async () => ({ connections: await open(webSocket(alice, '/api/orders/ws')) }),
  'right after a public handshake': async () => ({ connections: await open(webSocket(undefined, '/api/public/ws')) }),
  'while the API considers a handshake': async () => ({
    connections: await openUntilThere(webSocket(alice, '/api/orders/hang'), '/hang'),
  }),
  'with an open WebSocket': async () => ({
    connections: await openUntilRead(webSocket(alice, '/api/orders/ws'), '101'),
  }),
  'with an event stream of the API': async () => ({
    connections: await openUntilRead(head('/api/orders/events'), 'tick'),
  }),
  'with an event stream of ours': async () => ({ connections: await openUntilRead(head('/bff/events'), '200 OK') }),
  'waiting in line': async () => {
    const holder = await openRaw(world.port);
    await holder.write(head('/api/narrow/hang'));
    await until(() => world.upstream.active === 1);
    const connections = await open(head('/api/narrow/1'));
    await bob.fetch('/api/orders/1'); // they were read before this
    return { connections, finish: () => holder.close() };
  },
  'during the refresh that its call brought about': async () => {
    world.provider.settings.accessTokenSeconds = 1;
    const carol = await world.loggedIn('carol');
    const expiresAt = Date.now() + 1000; // not before the token
    await until(() => Date.now() > expiresAt, { message: 'the token to expire' });
    const before = world.provider.tokenRequests('refresh_token').length;
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    const connections = await open(head('/api/orders/1', carol));
    await until(() => world.provider.tokenRequests('refresh_token').length > before);
    return {
      connections,
      async finish() {
        world.provider.reset();
        gate.open();
        expect((await carol.fetch('/api/orders/1')).status).toBe(200);
      },
    };
  },
  'right after the start of a login': async () => ({
    connections: await open(
      head('/bff/login', world.browser(), 'GET', ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document']),
    ),
  }),
  'right after the start of a callback': async () => ({
    connections: await open(head('/bff/callback?code=x&state=y')),
  }),
  'while its code is redeemed': async () => {
    const browsers = Array.from({ length: leavers }, () => world.browser());
    const urls: URL[] = [];
    for (const browser of browsers) urls.push(new URL((await pendingLogin(browser)).callbackUrl));
    const before = world.provider.tokenRequests('authorization_code').length;
    const gate = createGate();
    world.provider.faults.tokenResponse = { holdUntil: gate.opened };
    const navigation = ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document'];
    const connections = await open((index) => {
      const { pathname, search } = urls[index] as URL;
      return head(`${pathname}${search}`, browsers[index], 'GET', navigation);
    });
    await until(() => world.provider.tokenRequests('authorization_code').length === before + leavers);
    return {
      connections,
      finish() {
        world.provider.reset();
        gate.open();
      },
    };
  },
};

/** Another user is served at once by everything there is, and nobody who watches saw anything. */
async function expectUnharmed(): Promise<void> {
  const before = performance.now();
  for (const path of ['/api/orders/1', '/api/public/1', '/bff/session']) {
    const { status, text } = await bob.fetch(path);
    expect([path, status, text.slice(0, 11)]).toEqual([
      path,
      200,
      path === '/bff/session' ? '{"authentic' : '{"ok":true}',
    ]);
  }
  const socket = await openRaw(world.port);
  await socket.write(webSocket(bob, '/api/orders/ws'));
  await socket.readUntil((text) => text.startsWith('HTTP/1.1 101'));
  socket.close();
  expect(performance.now() - before).toBeLessThan(2000);
  const metrics = (await world.app.ops.inject('/metrics')).body.split('\n');
  const counted = metrics.filter((line) => /^\w+_circuit_open\b|^\w+_responses_total\{.*"failed"/.test(line));
  expect(counted.length).toBeGreaterThanOrEqual(4); // three targets and Redis
  expect(counted.filter((line) => !line.endsWith(' 0'))).toEqual([]);
  expect(world.log.warnings()).toEqual([]);
  expect(world.log.errors()).toEqual([]);
}

describe.each(Object.entries(ways))('W1 a browser that leaves by %s', (_way, leave) => {
  it.each(Object.entries(steps))('W1 harms nobody: %s', async (_step, arrive) => {
    const { connections, finish } = await arrive();
    for (const connection of connections) leave(connection);
    await expectUnharmed();
    await finish?.();
    for (const connection of connections) connection.close();
    await until(() => world.upstream.active === 0, { message: 'the API to be let go' });
    await until(() => sockets.sockets.size === 0, { message: 'the WebSockets to be let go' });
    await expectUnharmed();
    expect((await rawRequest(world.port, head('/api/narrow/1', bob))).status).toBe(200);
  });
});
