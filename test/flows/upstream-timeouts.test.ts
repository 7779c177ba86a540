import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw } from '../support/raw-client.ts';
import { startVanishingPeer } from '../support/vanishing-peer.ts';
import { until } from '../support/wait.ts';

// timeouts.total: an exchange that takes too long ends, whatever it is busy with (T94). timeouts.headers: the upstream has
// that long once it is its turn.

let world: ProxyWorld;
let vanishing: Awaited<ReturnType<typeof startVanishingPeer>>;

beforeAll(async () => {
  vanishing = await startVanishingPeer();
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    data.apis.limited = { path: '/api/limited', upstream, timeouts: { total: '400ms' }, breaker: { failures: 1000 } };
    data.apis.narrow = {
      path: '/api/narrow',
      upstream,
      timeouts: { total: '400ms' },
      limits: { connections: 1, queue: 2 },
      breaker: { failures: 1000 },
    };
    const own = { upstream, breaker: { failures: 1000 } };
    data.apis.strict = { path: '/api/strict', ...own, timeouts: { headers: '400ms', body: '400ms' } };
    const single = { ...own, limits: { connections: 1, queue: 2 } };
    data.apis.headers = { path: '/api/headers', ...single, timeouts: { headers: '1500ms', body: '400ms' } };
    data.apis.shared = { path: '/api/shared', upstream, limits: { connections: 5 }, timeouts: { headers: '2s' } };
    data.apis.slow = { path: '/api/slow', upstream, timeouts: { total: '2s' } };
    const timeouts = { connect: '1500ms', headers: '300ms' };
    data.apis.vanishing = { path: '/api/vanishing', upstream: `http://127.0.0.1:${vanishing.port}`, timeouts };
    data.apis.total = { path: '/api/total', ...single, timeouts: { total: '1500ms' } };
  });
});
beforeEach(() => world.fresh());
afterAll(async () => {
  await world.stop();
  await vanishing.stop();
});

/** A piece of body every 50 ms, for ever: no other timeout notices. */
async function* drip(): AsyncGenerator<string> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    yield 'x';
  }
}

it('T94 answers 504 when nothing came within the whole time', async () => {
  world.upstream.respond = hang();
  const answer = await world.alice.fetch('/api/limited/1');
  expect(answer.status).toBe(504);
  expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_TIMEOUT' });
  await until(() => world.upstream.active === 0, { message: 'the upstream request to be given up' });
});

it('T94 cuts an answer that drips for ever, never with a clean end; without a limit it goes on', async () => {
  world.upstream.respond = (request, socket) => reply({ body: drip() })(request, socket);
  const endless = await world.alice.open('/api/orders/1');
  const limited = await world.alice.open('/api/limited/1');
  expect(await limited.ended).toBe('aborted');
  let isOver = false;
  void endless.ended.then(() => {
    isOver = true;
  });
  await endless.readUntil((text) => text.length > 12); // longer than the limit of the other
  expect(isOver).toBe(false);
  endless.abort();
  await until(() => world.upstream.active === 0, { message: 'both to be given up' });
});

it('T91 answers 408 when it was the browser’s upload that took so long, and thinks no worse of the target', async () => {
  const connection = await openRaw(world.port);
  await connection.write(world.head('/api/limited/1', ['Content-Length: 100'], 'POST'));
  await connection.write('x');
  expect((await connection.response(1)).status).toBe(408);
  connection.close();
});

it('counts the wait for a connection, and lets no more than limits.queue wait', async () => {
  world.upstream.respond = hang();
  const startedAt = performance.now();
  const answers = await Promise.all(Array.from({ length: 5 }, () => world.alice.fetch('/api/narrow/1')));
  expect(answers.map(({ status }) => status).sort()).toEqual([503, 503, 504, 504, 504]);
  const [busy] = answers.filter(({ status }) => status === 503);
  expect(busy?.json()).toMatchObject({ code: 'BFF_UPSTREAM_BUSY' });
  expect(busy?.header('retry-after')).toBe('1');
  expect(performance.now() - startedAt).toBeLessThan(4000);
  await until(() => world.upstream.active === 0);
});

/** Longer than the limit of `/api/strict` and two looks. */
const pastLimit = () => pass(1200);

const pass = (ms: number) => {
  const startedAt = performance.now();
  return until(() => performance.now() - startedAt > ms);
};

it.each(['headers', 'total'])('T94 counts the wait for a connection for timeouts.%s too', async (api) => {
  let release = () => {};
  world.upstream.respond = async (request, socket) => {
    if (request.target === '/2') return hang()(request, socket);
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return reply()(request, socket);
  };
  const startedAt = performance.now();
  const answers = Promise.all([world.alice.fetch(`/api/${api}/1`), world.alice.fetch(`/api/${api}/2`)]);
  await pass(1300);
  release();
  expect((await answers).map(({ status }) => status)).toEqual([200, 504]);
  const tookMs = performance.now() - startedAt;
  expect(tookMs).toBeGreaterThanOrEqual(1500);
  expect(tookMs).toBeLessThan(1300 + 1500); // what it would be from when it had its connection
  expect(world.upstream.requests.length).toBe(2);
});

it('T91 gives the browser time to send, whether it pauses or is slow', async () => {
  const connection = await openRaw(world.port);
  await connection.write(world.head('/api/strict/1', ['Content-Length: 24'], 'POST'));
  await pastLimit();
  for (let sent = 0; sent < 24; sent++) {
    await connection.write('x');
    await until(() => world.upstream.requests[0]?.bodyLength === sent + 1);
    await pass(50);
  }
  expect((await connection.response(1)).status).toBe(200);
  connection.close();
});

it('T94 answers 504 when the upstream takes nothing more of an upload', async () => {
  world.upstream.respondOn = 'head';
  world.upstream.respond = (_request, socket) => {
    socket.pause();
    return new Promise(() => {});
  };
  const body = Buffer.alloc(9 * 1024 * 1024);
  const connection = await openRaw(world.port);
  void connection.write(world.head('/api/strict/1', [`Content-Length: ${body.length}`], 'POST'));
  void connection.write(body).catch(() => undefined);
  expect((await connection.response(1)).status).toBe(504);
  connection.close();
});

it('T94 interim answers put nothing off once the upload is there, but may come while it is on its way', async () => {
  world.upstream.respondOn = 'head';
  world.upstream.respond = async (request, socket) => {
    while (!socket.destroyed) {
      socket.write('HTTP/1.1 103 Early Hints\r\n\r\n');
      await pass(50);
      if (request.bodyLength === 2) break;
    }
    await reply({ body: 'done' })(request, socket);
  };
  const connection = await openRaw(world.port);
  await connection.write(world.head('/api/strict/1', ['Content-Length: 2'], 'POST'));
  await connection.write('x');
  await pastLimit();
  await connection.write('x');
  expect((await connection.response(1)).status).toBe(200);
  connection.close();
});

it('T94 waits for an upstream that takes an upload slowly', async () => {
  world.upstream.respondOn = 'head';
  const body = Buffer.alloc(32 * 1024 * 1024); // much more than the system’s buffers take
  world.upstream.respond = async (request, socket) => {
    socket.on('data', () => {
      socket.pause();
      setTimeout(() => socket.resume(), 6);
    });
    await until(() => request.bodyLength === body.length, { timeoutMs: 20_000 });
    await reply()(request, socket);
  };
  const startedAt = performance.now();
  const connection = await openRaw(world.port);
  await connection.write(world.head('/api/headers/1', [`Content-Length: ${body.length}`], 'POST'));
  void connection.write(body);
  expect((await connection.response(1, 20_000)).status).toBe(200);
  expect(performance.now() - startedAt).toBeGreaterThan(2100);
  connection.close();
});

it('T94 counts from the last that came: a body may come slowly, and after a head that took its time', async () => {
  world.upstream.respond = async (request, socket) => {
    await pass(900);
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n');
    await pass(150);
    for (let sent = 0; sent < 20 && !socket.destroyed; sent++) {
      socket.write('x');
      await pass(80);
    }
    request.sentBodyBytes = 20;
  };
  const answer = await world.alice.fetch('/api/headers/1');
  expect(answer.text).toBe('x'.repeat(20));
});

it('T94 gives a connection the time of timeouts.connect, not of timeouts.headers', async () => {
  const startedAt = performance.now();
  expect((await world.alice.fetch('/api/vanishing/1')).status).toBe(504);
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(1450);
});

/** Nobody else has called this target for long, so that every failure would count: the breaker opens at five. */
async function expectInUse(path: string): Promise<void> {
  world.upstream.respond = reply({ body: 'done' });
  expect((await world.alice.fetch(path)).status).toBe(200);
}

it('W1 blames no target for the time that calls spent in line behind others', async () => {
  world.upstream.respond = hang();
  const leaving = new AbortController();
  const holders = Array.from({ length: 5 }, () => world.alice.fetch('/api/shared/1', { signal: leaving.signal }));
  await until(() => world.upstream.requests.length === 5);
  const late = Promise.all(Array.from({ length: 5 }, () => world.alice.fetch('/api/shared/2')));
  await pass(1500);
  leaving.abort();
  await Promise.allSettled(holders);
  expect((await late).map(({ status }) => status)).toEqual([504, 504, 504, 504, 504]);
  expect(world.upstream.requests).toHaveLength(10);
  await expectInUse('/api/shared/3');
});

it('W1 blames no target for the time that an upload took', async () => {
  world.upstream.respond = hang();
  const connections = await Promise.all(Array.from({ length: 5 }, () => openRaw(world.port)));
  for (const connection of connections)
    await connection.write(world.head('/api/slow/1', ['Content-Length: 2'], 'POST'));
  await pass(1400);
  for (const connection of connections) await connection.write('xx');
  for (const connection of connections) expect((await connection.response(1)).status).toBe(504);
  for (const connection of connections) connection.close();
  await expectInUse('/api/slow/2');
});
