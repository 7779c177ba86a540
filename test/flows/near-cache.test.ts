import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashId } from '../../src/crypto/keys.ts';
import { call, forceRefresh, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// The near cache saves calls the way to Redis. What it must never do is keep an ended session alive.

let redis: RedisServer;
let admin: Redis;
let world: World;
beforeEach(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
});
afterEach(async () => {
  admin.disconnect();
  await world.stop();
  await redis.stop();
});

async function start(nearCache: Record<string, unknown> = {}) {
  world = await startWorld({
    replicas: 2,
    redisUrl: redis.url,
    config(data) {
      data.session.nearCache = nearCache;
    },
  });
  await untilSubscribed(2);
}
const untilSubscribed = (count: number) =>
  until(async () => {
    const list = (await admin.call('CLIENT', 'LIST', 'TYPE', 'PUBSUB')) as string;
    return list.split('\n').filter((line) => /\bsub=1\b/.test(line)).length === count;
  });
function onReplica(browser: Browser, replica: number): Browser {
  const other = world.browser(replica);
  for (const { name, value } of browser.cookies()) other.setCookie(`${name}=${value}; Path=/`, { force: true });
  return other;
}
/** How often a script was asked to run: the round trips that calls cost. */
async function roundTrips(): Promise<number> {
  const stats = await admin.info('commandstats');
  return [...stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}
/** Ends the session in Redis, and tells nobody. */
async function endInSilence(browser: Browser) {
  const id = (browser.cookie('cloakroom')?.value ?? '').split('.')[0] ?? '';
  expect(await admin.del(`${world.keyPrefix}{${hashId(id)}}:s`)).toBe(1);
}

describe('the near cache', () => {
  it('costs Redis nothing while it is warm, and one round trip when it is cold', async () => {
    await start({ maxAge: '60s' });
    const browser = onReplica(await world.loggedIn(), 1);
    const before = await roundTrips();
    expect((await call(browser)).status).toBe(200);
    expect(await roundTrips()).toBe(before + 1);
    for (let index = 0; index < 20; index++) expect((await call(browser)).status).toBe(200);
    expect(await roundTrips()).toBe(before + 1);
  });

  it('is off by one setting: then every call is one round trip', async () => {
    await start({ enabled: false });
    const browser = await world.loggedIn();
    await call(browser);
    const before = await roundTrips();
    for (let index = 0; index < 20; index++) await call(browser);
    expect(await roundTrips()).toBe(before + 20);
    await endInSilence(browser);
    expect((await call(browser)).status).toBe(401);
  });

  it('SE4 refuses a session at once that another replica ended', async () => {
    await start({ maxAge: '60s' });
    const here = await world.loggedIn();
    const there = onReplica(here, 1);
    await call(there);
    const before = await roundTrips();
    await call(there);
    expect(await roundTrips()).toBe(before); // it would have been served from memory for a minute
    expect((await logOut(here)).status).toBe(200);
    await until(async () => (await call(there)).status === 401, { timeoutMs: 1000 });
    expect(world.upstream.requests).toHaveLength(2);
  });

  it('SE4 refuses it after maxAge at the latest when the message got lost', async () => {
    await start({ maxAge: '400ms' });
    const browser = await world.loggedIn();
    await call(browser);
    const readAt = performance.now();
    expect((await call(browser)).status).toBe(200);
    await endInSilence(browser);
    await until(async () => (await call(browser)).status === 401);
    // One more read may have been just before the end.
    expect(performance.now() - readAt).toBeLessThan(2000);
  });

  it('SE4 serves nothing from memory while the subscription is down', async () => {
    await start({ maxAge: '60s' });
    const browser = await world.loggedIn();
    await call(browser);
    await admin.call('ACL', 'SETUSER', 'default', '-subscribe');
    await admin.call('CLIENT', 'KILL', 'TYPE', 'PUBSUB');
    await until(() => /the session channel is down/.test(world.log.text()));
    const before = await roundTrips();
    for (let index = 0; index < 5; index++) expect((await call(browser)).status).toBe(200);
    expect(await roundTrips()).toBe(before + 5);
    await endInSilence(browser);
    expect((await call(browser)).status).toBe(401);
    await admin.call('ACL', 'SETUSER', 'default', '+subscribe');
    await untilSubscribed(2);
    expect((await call(browser)).status).toBe(401);
  });

  it('SE4 forgets what it knew from before the subscription was lost', async () => {
    await start({ maxAge: '60s' });
    const browser = await world.loggedIn();
    await call(browser);
    await admin.call('CLIENT', 'KILL', 'TYPE', 'PUBSUB');
    await until(() => /the session channel is down/.test(world.log.text()));
    await endInSilence(browser);
    await untilSubscribed(2);
    expect((await call(browser)).status).toBe(401);
  });

  it('RF9 uses the tokens at once that another replica got', async () => {
    await start({ maxAge: '60s' });
    const here = await world.loggedIn();
    const there = onReplica(here, 1);
    await call(there);
    expect((await forceRefresh(here)).status).toBe(200);
    await until(async () => {
      await call(there);
      return world.upstream.requests
        .at(-1)
        ?.header('authorization')
        ?.endsWith(world.provider.issuedSecrets('access_token').at(-1) ?? '-');
    });
  });

  it('SE1 keeps a session alive that is only served from memory', async () => {
    world = await startWorld({
      redisUrl: redis.url,
      config(data) {
        Object.assign(data.session, { idleTimeout: '2s', nearCache: { maxAge: '60s' } });
      },
    });
    const browser = await world.loggedIn();
    const until3s = performance.now() + 3000;
    await until(async () => {
      expect((await call(browser)).status).toBe(200);
      return performance.now() > until3s;
    });
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
  });

  it('SE1 a session that is over in the meantime is refused', async () => {
    world = await startWorld({
      redisUrl: redis.url,
      config(data) {
        Object.assign(data.session, { idleTimeout: '3s', absoluteTimeout: '3s', nearCache: { maxAge: '60s' } });
      },
    });
    const browser = await world.loggedIn();
    expect((await call(browser)).status).toBe(200);
    await until(async () => (await call(browser)).status === 401, { timeoutMs: 9000 });
  });
});
