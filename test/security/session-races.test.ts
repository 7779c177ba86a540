import { Redis } from 'ioredis';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { handleOf, onReplica } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const csrf = { 'x-csrf': '1' };
const records = async () => (await dumpRedis(world.redisUrl as string, `${world.keyPrefix}*:s`)).map(({ key }) => key);

describe('T49 an ended session', () => {
  it.each(['logged out on another replica', 'deleted in Redis', 'deleted together with its tombstone'])(
    'T49 stays ended when it was %s during a slow request',
    async (how) => {
      world = await startWorld({ replicas: 2, ...(how.startsWith('deleted') ? { nearCache: false } : {}) });
      const browser = await world.loggedIn();
      const key = `${world.keyPrefix}{${handleOf(browser)}}`;
      const slow = Promise.withResolvers<void>();
      const copy = onReplica(world, 0, browser);
      world.upstream.respond = async (request, socket) => {
        await slow.promise;
        await reply({ body: 'late' })(request, socket);
      };
      const [call, refresh] = [copy.fetch('/api/orders/slow'), copy.clone().fetch('/api/orders/slow2')];
      await until(() => world.upstream.active === 2);

      const redis = new Redis(world.redisUrl as string);
      onTestFinished(() => redis.disconnect());
      if (how.startsWith('logged out')) {
        await onReplica(world, 1, browser).fetch('/bff/logout', { method: 'POST', headers: csrf });
      } else await redis.del(`${key}:s`);
      if (how.endsWith('tombstone')) await redis.del(`${key}:x`);
      slow.resolve();
      expect([(await call).status, (await refresh).status]).toEqual([200, 200]);

      expect(await redis.exists(`${key}:s`)).toBe(0);
      for (const replica of [0, 1]) {
        const late = onReplica(world, replica, browser);
        expect((await late.clone().fetch('/api/orders/1')).status).toBe(401);
        expect((await late.clone().fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(401);
        expect(await isLoggedIn(late)).toBe(false);
      }
      expect(await redis.exists(`${key}:s`)).toBe(0);
    },
  );

  it('T49 stays ended when the logout comes during a refresh, and the new refresh token is revoked', async () => {
    world = await startWorld({ replicas: 2 });
    const browser = await world.loggedIn();
    const held = Promise.withResolvers<void>();
    world.provider.faults.refreshResponse = [{ holdUntil: held.promise }];
    const refreshing = onReplica(world, 0, browser).fetch('/bff/refresh', { method: 'POST', headers: csrf });
    await until(() => world.provider.tokenRequests('refresh_token').length === 1);
    expect((await onReplica(world, 1, browser).fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(
      200,
    );
    held.resolve();
    expect((await refreshing).status).toBe(401);
    expect(await records()).toEqual([]);
    await until(() => world.provider.revoked.length >= 1);
    await until(() => world.provider.refreshFamilies().every(({ valid, revoked }) => revoked || valid.size === 0));
  });
});

describe('T50 writes at the same time', () => {
  it('T50 loses no generation and no token among 50 parallel refreshes and calls on two replicas', async () => {
    world = await startWorld({ replicas: 2 });
    const browser = await world.loggedIn();
    const replicas: [Browser, Browser] = [onReplica(world, 0, browser), onReplica(world, 1, browser)];
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
    onTestFinished(() => redis.disconnect());
    const key = `${world.keyPrefix}{${handleOf(browser)}}`;
    expect(await redis.hget(`${key}:s`, 'g')).toBe(String(1 + grants));
    expect(await redis.exists(`${key}:l`)).toBe(0);
    // The stored refresh token is the newest: it still works.
    expect((await replicas[0].fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(world.provider.reuseDetected()).toBe(0);
  });
});
