import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startLoad } from '../support/load.ts';
import { userOf } from '../support/login-steps.ts';
import { type RedisSentinel, startRedisSentinel } from '../support/redis-sentinel.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// A failover of a real primary to a real replica. Replication is asynchronous: what it had not sent is lost, and these
// tests show what that means for people (docs/operations.md).

const csrf = { 'x-csrf': '1' };
const recoverWithinMs = 5000;

let sentinel: RedisSentinel;
let world: World;
beforeEach(async () => {
  sentinel = await startRedisSentinel();
  world = await startWorld({
    redisUrl: sentinel.replica.url, // what the checks at the end read: it lives on
    config(data) {
      const { url: _replica, ...rest } = data.session.redis;
      data.session.redis = {
        ...rest,
        sentinel: { name: sentinel.name, nodes: sentinel.nodes },
        commandTimeout: '500ms',
        connectTimeout: '500ms',
      };
    },
  });
});
afterEach(async () => {
  sentinel.primary.resume();
  await world.stop();
  await sentinel.stop();
});

async function expectRecovery(): Promise<void> {
  const failedOverAt = performance.now();
  await until(async () => (await world.app.ops.inject('/readyz')).statusCode === 200, {
    timeoutMs: recoverWithinMs,
    message: 'the recovery',
  });
  expect(performance.now() - failedOverAt).toBeLessThan(recoverWithinMs);
}

describe('a Sentinel failover', () => {
  const ends: [string, () => unknown][] = [
    ['dies', () => sentinel.primary.stop()],
    ['is frozen', () => sentinel.primary.pause()],
  ];
  it.each(ends)(
    'T107 logs nobody out when the primary %s during load, and calls work again in time',
    async (_how, end) => {
      const browser = await world.loggedIn('alice');
      await sentinel.replicated();
      const load = startLoad(browser);
      await until(() => load.seen.length > 20);
      await end();
      await sentinel.failedOver();
      await expectRecovery();
      const back = load.seen.length;
      await until(() => load.seen.slice(back).filter((status) => status === 200).length > 20);
      await load.stop();
      expect([...new Set(load.seen)].sort()).toEqual([200, 503]);
      expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
      expect(await userOf(browser)).toBe('alice');
      expect(await userOf(await world.loggedIn('bob'))).toBe('bob');
    },
  );

  it('T107 to which an old primary comes back as a replica is not undone by it', async () => {
    const browser = await world.loggedIn('alice');
    await sentinel.replicated();
    sentinel.primary.pause();
    await sentinel.failedOver();
    await expectRecovery();
    expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
    sentinel.primary.resume();
    const other = await world.loggedIn('bob');
    expect((await browser.fetch('/api/orders/1')).status).toBe(401);
    expect(await userOf(other)).toBe('bob');
  });

  it('T107 that loses the newest login asks for another one, and keeps the others', async () => {
    const alice = await world.loggedIn('alice');
    await sentinel.replicated();
    sentinel.replication.faults.blackHole = true;
    const bob = await world.loggedIn('bob');
    await sentinel.primary.stop();
    await sentinel.failedOver();
    await expectRecovery();
    expect((await bob.fetch('/api/orders/1')).status).toBe(401);
    expect(await userOf(alice)).toBe('alice');
    world.provider.nextLogin({ sub: 'bob' });
    await bob.login('/');
    expect(await userOf(bob)).toBe('bob');
  });

  it('T107 that loses a refresh goes on with the reuse grace of the provider, or asks for a login, but mixes up nobody', async () => {
    const alice = await world.loggedIn('alice');
    await sentinel.replicated();
    sentinel.replication.faults.blackHole = true;
    expect((await alice.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    await sentinel.primary.stop();
    await sentinel.failedOver();
    await expectRecovery();
    // The record has the used refresh token again: the provider decides, once.
    const asked = await alice.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    expect([200, 401]).toContain(asked.status);
    const user = await alice.fetch('/bff/session');
    expect(user.json()).toMatchObject({ authenticated: asked.status === 200 });
  });
});
