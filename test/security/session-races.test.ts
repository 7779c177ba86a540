import { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import { hashId } from '../../src/crypto/keys.ts';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

let world: World;
const cleanups: (() => unknown)[] = [];
const start = async (options: WorldOptions = {}) => {
  world = await startWorld(options);
};
afterEach(async () => {
  try {
    await world.stop();
  } finally {
    for (const cleanup of cleanups.splice(0)) await cleanup();
  }
});

const csrf = { 'x-csrf': '1' };
const ticketOf = (browser: Browser) => browser.cookie('cloakroom')?.value ?? '';
const sessionIdOf = (browser: Browser) => ticketOf(browser).split('.')[0] ?? '';
const handleOf = (browser: Browser) => hashId(sessionIdOf(browser));
const isLoggedIn = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ authenticated: boolean }>().authenticated;
const records = async () => (await dumpRedis(world.redisUrl as string, `${world.keyPrefix}*:s`)).map(({ key }) => key);

/** The same user on another replica. */
function onReplica(browser: Browser, replica: number): Browser {
  const other = world.browser(replica);
  other.setCookie(`cloakroom=${ticketOf(browser)}; Path=/; HttpOnly; SameSite=Strict`);
  return other;
}

describe('T49 an ended session', () => {
  it.each(['logged out on another replica', 'deleted in Redis', 'deleted together with its tombstone'])(
    'T49 stays ended when it was %s during a slow request',
    async (how) => {
      await start({ replicas: 2, ...(how.startsWith('deleted') ? { nearCache: false } : {}) });
      const browser = await world.loggedIn();
      const key = `${world.keyPrefix}{${handleOf(browser)}}`;
      const slow = Promise.withResolvers<void>();
      const copy = onReplica(browser, 0);
      world.upstream.respond = async (request, socket) => {
        await slow.promise;
        await reply({ body: 'late' })(request, socket);
      };
      const [call, refresh] = [copy.fetch('/api/orders/slow'), copy.clone().fetch('/api/orders/slow2')];
      await until(() => world.upstream.active === 2);

      const redis = new Redis(world.redisUrl as string);
      cleanups.push(() => redis.disconnect());
      if (how.startsWith('logged out')) {
        await onReplica(browser, 1).fetch('/bff/logout', { method: 'POST', headers: csrf });
      } else await redis.del(`${key}:s`);
      if (how.endsWith('tombstone')) await redis.del(`${key}:x`);
      slow.resolve();
      expect([(await call).status, (await refresh).status]).toEqual([200, 200]);

      expect(await redis.exists(`${key}:s`)).toBe(0);
      for (const replica of [0, 1]) {
        const late = onReplica(browser, replica);
        expect((await late.clone().fetch('/api/orders/1')).status).toBe(401);
        expect((await late.clone().fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(401);
        expect(await isLoggedIn(late)).toBe(false);
      }
      expect(await redis.exists(`${key}:s`)).toBe(0);
    },
  );

  it('T49 stays ended when the logout comes during a refresh, and the new refresh token is revoked', async () => {
    await start({ replicas: 2 });
    const browser = await world.loggedIn();
    const held = Promise.withResolvers<void>();
    world.provider.faults.refreshResponse = [{ holdUntil: held.promise }];
    const refreshing = onReplica(browser, 0).fetch('/bff/refresh', { method: 'POST', headers: csrf });
    await until(() => world.provider.tokenRequests('refresh_token').length === 1);
    expect((await onReplica(browser, 1).fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
    held.resolve();
    expect((await refreshing).status).toBe(401);
    expect(await records()).toEqual([]);
    await until(() => world.provider.revoked.length >= 1);
    await until(() => world.provider.refreshFamilies().every(({ valid, revoked }) => revoked || valid.size === 0));
  });
});

describe('T50 writes at the same time', () => {
  it('T50 loses no generation and no token among 50 parallel refreshes and calls on two replicas', async () => {
    await start({ replicas: 2 });
    const browser = await world.loggedIn();
    const replicas: [Browser, Browser] = [onReplica(browser, 0), onReplica(browser, 1)];
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => {
        const one = index % 2 === 0 ? replicas[0] : replicas[1];
        return index % 5 < 2
          ? one.fetch('/bff/refresh', { method: 'POST', headers: csrf })
          : one.fetch(`/api/orders/${index}`, { method: 'PUT', headers: csrf, body: 'x' });
      }),
    );
    expect([...new Set(answers.map(({ status }) => status))]).toEqual([200]);
    const grants = world.provider.tokenRequests('refresh_token').length;
    expect(grants).toBeGreaterThanOrEqual(1);
    expect(world.provider.reuseDetected()).toBe(0);

    const redis = new Redis(world.redisUrl as string);
    cleanups.push(() => redis.disconnect());
    const key = `${world.keyPrefix}{${handleOf(browser)}}`;
    expect(await redis.hget(`${key}:s`, 'g')).toBe(String(1 + grants));
    expect(await redis.exists(`${key}:l`)).toBe(0);
    // The stored refresh token is the newest: it still works.
    expect((await replicas[0].fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(world.provider.reuseDetected()).toBe(0);
  });
});
