import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { redisError } from '../support/fault-proxy.ts';
import { commandTimeoutMs, type OutageWorld, startOutageWorld } from '../support/outage-world.ts';
import { until } from '../support/wait.ts';

// A Redis that is too slow, and what keeps requests from queueing up before it.

const csrf = { 'x-csrf': '1' };

let world: OutageWorld;
beforeEach(async () => {
  world = await startOutageWorld();
});
afterEach(() => world.stop());

async function timed(browser: Browser): Promise<{ status: number; ms: number }> {
  const startedAt = performance.now();
  const { status } = await browser.fetch('/api/orders/1');
  return { status, ms: performance.now() - startedAt };
}

const storeState = async () => (await world.app.ops.inject('/readyz')).json<{ store: string }>().store;
const circuitOpens = async () =>
  await until(async () => (await storeState()) === 'probing', { message: 'the circuit' });

async function expectRecovery(browser: Browser): Promise<void> {
  const startedAt = performance.now();
  await until(async () => {
    const { status } = await timed(browser);
    expect([200, 503]).toContain(status);
    return status === 200;
  });
  expect(performance.now() - startedAt).toBeLessThan(5000);
}

describe('a Redis that takes 2 s to answer', () => {
  it('T105 is a 503 in time, keeps the cookie, and calls work again when it is fast', async () => {
    const browser = await world.loggedIn();
    world.proxy.faults.delayMs = 2000;
    const page = await browser.fetch('/api/orders/1');
    expect(page.status).toBe(503);
    expect(page.setCookies).toEqual([]);
    world.proxy.reset();
    await expectRecovery(browser);
  });
});

describe('while Redis does not answer', () => {
  it('T105 only the first requests wait, then all are refused at once', async () => {
    const browser = await world.loggedIn();
    world.redis.pause();
    const first = await Promise.all(Array.from({ length: 5 }, () => timed(browser)));
    expect(first.map(({ status }) => status)).toEqual([503, 503, 503, 503, 503]);
    await circuitOpens();
    const times: number[] = [];
    for (let call = 0; call < 50; call++) {
      const { status, ms } = await timed(browser);
      expect(status).toBe(503);
      times.push(ms);
    }
    // None waited for a timeout, although the whole takes no longer than one.
    expect(Math.max(...times)).toBeLessThan(commandTimeoutMs / 2);
    world.redis.resume();
    await expectRecovery(browser);
    expect(await storeState()).toBe('up');
  });

  it('T105 one probe at a time asks it, however many requests come', async () => {
    const browser = await world.loggedIn();
    const asked: Buffer[] = [];
    world.proxy.faults.answer = (request) => {
      asked.push(request);
      return ''; // nothing
    };
    await Promise.all(Array.from({ length: 5 }, () => timed(browser)));
    await circuitOpens();
    asked.length = 0;
    const until2s = performance.now() + 2000;
    let refused = 0;
    while (performance.now() < until2s) if ((await timed(browser)).status === 503) refused++;
    const commands = asked.map((request) => request.toString('latin1'));
    expect(refused).toBeGreaterThan(50);
    expect(commands.filter((text) => /evalsha/i.test(text))).toEqual([]);
    // A probe or a handshake for every connection that was given up, and the subscription's own pings.
    expect(commands.length).toBeLessThan(30);
    world.proxy.reset();
    await expectRecovery(browser);
  });

  it.each(['OOM command not allowed', 'BUSY script', 'MISCONF Errors writing'])(
    'T106 an error reply (%s) is an answer: the circuit stays closed',
    async (message) => {
      const browser = await world.loggedIn();
      world.proxy.faults.answer = (request) =>
        /evalsha/i.test(request.toString('latin1')) ? redisError(message)(request) : undefined;
      for (let call = 0; call < 10; call++) expect((await timed(browser)).status).toBe(503);
      expect((await world.app.ops.inject('/metrics')).body).toMatch(/^cloakroom_store_circuit_open 0$/m);
      world.proxy.reset();
      await expectRecovery(browser);
    },
  );

  it('T106 an answer of a server that became a replica makes us connect anew', async () => {
    const browser = await world.loggedIn();
    const connected = () => world.log.lines.filter(({ msg }) => msg === 'redis is connected').length;
    const before = connected();
    world.proxy.faults.answer = (request) =>
      /evalsha/i.test(request.toString('latin1'))
        ? redisError("READONLY You can't write against a read only replica.")(request)
        : undefined;
    expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(503);
    world.proxy.reset();
    await until(() => connected() > before, { message: 'the new connection' });
    expect((await timed(browser)).status).toBe(200);
  });
});
