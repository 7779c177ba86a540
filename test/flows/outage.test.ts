import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import { redisError } from '../support/fault-proxy.ts';
import { commandTimeoutMs, type OutageWorld, startOutageWorld } from '../support/outage-world.ts';
import { startRedis } from '../support/redis.ts';
import { countCommands } from '../support/redis-commands.ts';
import { restart } from '../support/restart.ts';
import { until } from '../support/wait.ts';
import type { ConfigData } from '../support/world.ts';

// Redis and the provider fail in the ways that they do in production; nobody is logged out by it (SE12, T105, T106).

const recoverWithinMs = 5000;
const csrf = { 'x-csrf': '1' };

let world: OutageWorld;
let data: ConfigData;
beforeEach(async () => {
  world = await startOutageWorld((config) => {
    data = config;
  });
});
afterEach(() => world.stop());

/** Every way to ask for a session, each measured. */
async function askEverywhere(browser: Browser): Promise<{ page: Page; ms: number; what: string }[]> {
  const asks: [string, () => Promise<Page>][] = [
    ['api', () => browser.fetch('/api/orders/1')],
    ['api write', () => browser.fetch('/api/orders/1', { method: 'POST', headers: csrf, body: 'x' })],
    ['session', () => browser.fetch('/bff/session')],
    ['refresh', () => browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })],
    ['logout', () => browser.fetch('/bff/logout', { method: 'POST', headers: csrf })],
  ];
  return Promise.all(
    asks.map(async ([what, ask]) => {
      const startedAt = performance.now();
      return { what, page: await ask(), ms: performance.now() - startedAt };
    }),
  );
}

async function expectUnavailable(browser: Browser) {
  for (const { page, ms, what } of await askEverywhere(browser)) {
    expect(page.status, what).toBe(503);
    expect(page.json(), what).toMatchObject({ code: 'BFF_STORE_UNAVAILABLE' });
    expect(page.header('retry-after'), what).toBe('1');
    expect(page.setCookies, what).toEqual([]);
    expect(ms, what).toBeLessThan(commandTimeoutMs + 1000);
  }
}

async function expectRecovery(browser: Browser) {
  const startedAt = performance.now();
  await until(
    async () => {
      const { status } = await browser.fetch('/api/orders/1');
      expect([200, 503]).toContain(status);
      return status === 200;
    },
    { timeoutMs: recoverWithinMs, message: 'the recovery' },
  );
  expect(performance.now() - startedAt).toBeLessThan(recoverWithinMs);
  expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
}

const outages: [string, () => void, () => void][] = [
  ['refuses connections', () => world.proxy.refuse(), () => world.proxy.reset()],
  ['is frozen', () => world.redis.pause(), () => world.redis.resume()],
  ['swallows packets', () => Object.assign(world.proxy.faults, { blackHole: true }), () => world.proxy.reset()],
  ...[
    'LOADING Redis is loading',
    "READONLY You can't write",
    'OOM command not allowed',
    'NOAUTH Authentication required',
    'BUSY script',
    'MOVED 1 10.0.0.1:6379',
    'CLUSTERDOWN The cluster is down',
    'ERR whatever',
  ].map((message): [string, () => void, () => void] => [
    `answers ${message.split(' ')[0]}`,
    () => Object.assign(world.proxy.faults, { answer: redisError(message) }),
    () => world.proxy.reset(),
  ]),
];

describe('while Redis', () => {
  it.each(outages)('T105 %s: 503 in time, the cookie is kept, and it recovers by itself', async (_name, fail, heal) => {
    const browser = await world.loggedIn();
    fail();
    await expectUnavailable(browser);
    await expectUnavailable(browser);
    heal();
    await expectRecovery(browser);
  });

  it.each(outages.slice(0, 3))('T105 %s: anonymous visitors and login starts notice nothing', async (_name, fail) => {
    fail();
    const visitor = world.browser();
    expect((await visitor.fetch('/bff/session')).json()).toMatchObject({ authenticated: false });
    expect((await visitor.fetch('/api/orders/1')).status).toBe(401);
    expect((await visitor.navigate('/bff/login', { followRedirects: false })).status).toBe(303);
  });

  it('T105 is down, a callback gets a page that says "later" and leaves nobody half logged in', async () => {
    const browser = world.browser();
    const begun = await browser.navigate('/bff/login', { followRedirects: false });
    const atProvider = await browser.navigate(begun.hops[0]?.location ?? '', { followRedirects: false });
    world.proxy.refuse();
    const page = await browser.navigate(atProvider.hops[0]?.location ?? '');
    expect(page.status).toBe(503);
    expect(page.header('content-type')).toContain('text/html');
    expect(browser.cookie('cloakroom')).toBeUndefined();
    expect(world.provider.tokenRequests()).toEqual([]);
  });

  it('OP5 is down, the replica is alive but not ready', async () => {
    const ask = async (path: string) => (await world.app.ops.inject(path)).statusCode;
    expect([await ask('/livez'), await ask('/readyz')]).toEqual([200, 200]);
    world.proxy.refuse();
    await until(async () => (await ask('/readyz')) === 503);
    expect(await ask('/livez')).toBe(200);
    expect(['down', 'probing']).toContain((await world.app.ops.inject('/readyz')).json().store);
    await until(async () => (await world.app.ops.inject('/readyz')).json().store === 'probing');
    const metrics = (await world.app.ops.inject('/metrics')).body;
    expect(metrics).toMatch(/^cloakroom_store_up 0$/m);
    expect(metrics).toMatch(/^cloakroom_store_circuit_open 1$/m);
    world.proxy.reset();
    await until(async () => (await ask('/readyz')) === 200);
    const metricsAfter = (await world.app.ops.inject('/metrics')).body;
    expect(metricsAfter).toMatch(/^cloakroom_store_up 1$/m);
    expect(metricsAfter).toMatch(/^cloakroom_store_circuit_open 0$/m);
    expect((await world.app.ops.inject('/readyz')).json()).toEqual({ ready: true, store: 'up', draining: false });
  });

  it('writes one line when it goes and one when it comes back', async () => {
    const browser = await world.loggedIn();
    const lines = (message: string) => world.log.lines.filter(({ msg }) => msg === message).length;
    const connected = lines('redis is connected');
    world.proxy.refuse();
    for (let call = 0; call < 5; call++) await expectUnavailable(browser);
    world.proxy.reset();
    await expectRecovery(browser);
    expect(lines('redis is not reachable')).toBe(1);
    expect(lines('redis is connected')).toBe(connected + 1);
  });

  it('T105 vanishes without a word, the dead connection is replaced', async () => {
    const browser = await world.loggedIn();
    world.proxy.abandon();
    await expectUnavailable(browser);
    await expectRecovery(browser);
    expect(world.log.lines.filter(({ msg }) => msg === 'redis is not reachable')).toHaveLength(1);
  });

  it('T106 restarts and forgets its scripts, they are sent again', async () => {
    const port = world.redis.port;
    await world.redis.stop();
    world.redis = await startRedis({ port });
    await until(async () => (await world.app.ops.inject('/readyz')).statusCode === 200);
    const browser = await world.loggedIn();
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
  });
});

describe('starting', () => {
  it.each(outages.slice(0, 3))('starts while Redis %s, and recovers by itself', async (_name, fail, heal) => {
    const browser = await world.loggedIn();
    fail();
    const startedAt = performance.now();
    await restart(world, data);
    expect(performance.now() - startedAt).toBeLessThan(5000);
    await expectUnavailable(browser);
    heal();
    await expectRecovery(browser);
  });

  it('OP10 starts while the provider is down: sessions go on, logins get 503, and it recovers by itself', async () => {
    const browser = await world.loggedIn();
    await world.provider.down();
    await restart(world, data);
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect((await world.app.ops.inject('/readyz')).statusCode).toBe(200);
    const refused = await world.browser().navigate('/bff/login', { followRedirects: false });
    expect(refused.status).toBe(503);
    expect(refused.header('retry-after')).toBeDefined();
    await world.provider.up();
    const visitor = world.browser();
    await until(async () => (await visitor.navigate('/bff/login', { followRedirects: false })).status === 303);
  });
});

describe('requests without a session cookie', () => {
  it('never touch Redis', async () => {
    const before = await countCommands(world.redis.url);
    const visitor = world.browser();
    for (const path of ['/', '/bff/session', '/bff/login', '/bff/logout', '/bff/callback', '/api/orders/1', '/nothing'])
      await visitor.fetch(path, { headers: csrf });
    for (const path of ['/bff/refresh', '/bff/logout', '/api/orders/1'])
      await visitor.fetch(path, { method: 'POST', headers: csrf });
    await visitor.navigate('/bff/callback?state=made-up&code=x&iss=y');
    expect((await countCommands(world.redis.url)) - before).toBe(0);
  });
});
