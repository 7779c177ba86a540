import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// timeouts.total: an exchange that takes too long ends, whatever it is busy with (T94).

let world: ProxyWorld;

beforeAll(async () => {
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
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

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
