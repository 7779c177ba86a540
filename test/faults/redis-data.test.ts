import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn, userOf } from '../support/login-steps.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { restart } from '../support/restart.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// What is in Redis is not what we wrote: evicted, flushed, overwritten by someone else. Never a crash, never trust.

const csrf = { 'x-csrf': '1' };
const evictionWarning = 'redis evicts sessions when its memory is full: set maxmemory-policy to noeviction';

let redis: RedisServer;
let admin: Redis;
let world: World;
let data: ConfigData;
beforeEach(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
  world = await startWorld({
    replicas: 2,
    nearCache: false,
    redisUrl: redis.url,
    config(config) {
      data = config;
    },
  });
});
afterEach(async () => {
  await world.stop();
  admin.disconnect();
  await redis.stop();
});

const keys = (end: string) => admin.keys(`${world.keyPrefix}${end}`);
const statusOf = async (browser: Browser) => (await browser.fetch('/api/orders/1')).status;
const warnings = () => world.log.warnings().filter(({ msg }) => msg === evictionWarning);

describe('eviction', () => {
  it.each(['allkeys-lru', 'allkeys-random', 'volatile-lru', 'volatile-lfu'])(
    'T108 the policy %s is warned about once at the start, with the fix',
    async (policy) => {
      await admin.config('SET', 'maxmemory-policy', policy);
      await restart(world, data);
      await until(() => warnings().length > 0, { message: 'the warning' });
      expect(warnings()).toMatchObject([{ maxmemoryPolicy: policy, fix: 'CONFIG SET maxmemory-policy noeviction' }]);
    },
  );

  it.each(['noeviction', 'volatile-ttl'])('T108 the policy %s is no reason to warn', async (policy) => {
    await admin.config('SET', 'maxmemory-policy', policy);
    const asked = async () => Number(/^cmdstat_info:calls=(\d+)/m.exec(await admin.info('commandstats'))?.[1]);
    const before = await asked();
    await restart(world, data);
    await until(async () => (await asked()) >= before + 3, { message: 'the policy to be asked for' });
    await world.loggedIn();
    expect(warnings()).toEqual([]);
  });

  it('T108 a session that was evicted is a 401, and its orphaned index entries do nothing', async () => {
    const evicted = await world.loggedIn('alice');
    await admin.del(...(await keys('*:s')));
    const kept = await world.loggedIn('alice');
    expect(await statusOf(evicted)).toBe(401);
    const listed = (await kept.fetch('/bff/sessions', { headers: csrf })).json<{ sessions: unknown[] }>();
    expect(listed.sessions).toHaveLength(1);
    expect(await userOf(kept)).toBe('alice');
    expect((await kept.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(await isLoggedIn(kept)).toBe(false);
  });

  it('T108 an index that was evicted costs the session nothing, also not its logout', async () => {
    const browser = await world.loggedIn('alice');
    await admin.del(...(await keys('su[b]:*')), ...(await keys('frontend:*')));
    expect(await statusOf(browser)).toBe(200);
    expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(await statusOf(browser)).toBe(401);
  });
});

describe('data that is not ours', () => {
  it('T109 FLUSHALL and SCRIPT FLUSH are a 401 and a new login, which works at once', async () => {
    const browser = await world.loggedIn('alice');
    await admin.flushall();
    await admin.script('FLUSH');
    expect(await statusOf(browser)).toBe(401);
    await browser.login('/');
    expect(await statusOf(browser)).toBe(200);
  });

  it.each(['string', 'list', 'zset'])(
    'T109 a session key that became a %s is a 503, and a new browser can log in',
    async (type) => {
      const browser = await world.loggedIn('alice');
      const [key = ''] = await keys('*:s');
      await admin.del(key);
      if (type === 'string') await admin.set(key, 'garbage', 'EX', 60);
      if (type === 'list') await admin.rpush(key, 'garbage');
      if (type === 'zset') await admin.zadd(key, 1, 'garbage');
      await admin.expire(key, 60);
      for (const path of ['/api/orders/1', '/bff/session'])
        expect((await browser.fetch(path)).json(), path).toMatchObject({ code: 'BFF_STORE_UNAVAILABLE' });
      expect(await userOf(await world.loggedIn('bob'))).toBe('bob');
      expect((await world.app.ops.inject('/readyz')).json()).toMatchObject({ store: 'up' });
    },
  );

  it.each(['f', 'g', 'x', 'a', 'i', 't'])(
    'T109 garbage in field %s of a session is a 401 or 503, never trusted',
    async (field) => {
      const opened = await world.loggedIn('alice');
      // One that has opened this generation goes on with what it opened: ask the other replica.
      const browser = world.browser(1);
      for (const { name, value } of opened.cookies()) browser.setCookie(`${name}=${value}; Path=/`, { force: true });
      const [key = ''] = await keys('*:s');
      for (const garbage of ['', 'NaN', '-1', '1e400', '\u0000\u0001\u0002', '999999999999999999999', '{"a":1}']) {
        await admin.hset(key, field, garbage);
        const page = await browser.fetch('/api/orders/1');
        expect([401, 503], `${field}=${garbage}`).toContain(page.status);
      }
      await admin.hdel(key, field);
      expect([401, 503]).toContain(await statusOf(browser));
      expect(world.upstream.requests).toHaveLength(0);
    },
  );

  it('T109 an index that became a string stops no session that is there', async () => {
    const browser = await world.loggedIn('alice');
    for (const key of [...(await keys('sub:*')), ...(await keys('sid:*')), ...(await keys('frontend:*'))])
      await admin.set(key, 'garbage', 'EX', 60);
    expect(await statusOf(browser)).toBe(200);
  });
});
