import { Redis } from 'ioredis';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import { createMemoryStore } from '../../src/session/memory-store.ts';
import { createRedisStore } from '../../src/session/redis-store.ts';
import { createClock } from '../support/clock.ts';
import '../support/global-redis.ts';
import { uniqueKeyPrefix } from '../support/redis.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { describeRefreshLease } from './refresh-lease.ts';
import { describeSessionStore, newRecord, type StoreUnderTest } from './session-store.ts';

async function openMemory(): Promise<StoreUnderTest> {
  const clock = createClock();
  const store = createMemoryStore(clock.now);
  return { store, fastForward: clock.advance, close: () => store.close() };
}

async function openRedis(): Promise<StoreUnderTest> {
  const url = inject('redisUrl');
  const prefix = uniqueKeyPrefix();
  const client = new Redis(url);
  const helper = new Redis(url);
  const store = createRedisStore(client, prefix);
  return {
    store,
    fastForward: (ms) => age(helper, `${prefix}*`, ms),
    async close() {
      await store.close();
      helper.disconnect();
      const endless = (await dumpRedis(url, `${prefix}*`)).filter(({ pttl }) => pttl === -1);
      expect(endless.map(({ key }) => key)).toEqual([]);
    },
  };
}

/** Redis has no clock to move: every key becomes `ms` older instead, in what it says and in how long it lives. */
async function age(redis: Redis, pattern: string, ms: number): Promise<void> {
  for (const key of await redis.keys(pattern)) {
    const type = await redis.type(key);
    if (type === 'hash') {
      for (const field of ['c', 'x', 'a']) await redis.hincrby(key, field, -Math.round(ms / 1000));
      if (Number(await redis.hget(key, 'b')) > 0) await redis.hincrby(key, 'b', -ms);
    }
    if (type === 'zset') {
      for (const member of await redis.zrange(key, 0, '-1')) await redis.zincrby(key, -ms / 1000, member);
    }
    const left = (await redis.pttl(key)) - ms;
    if (left <= 0) await redis.del(key);
    else await redis.pexpire(key, left);
  }
}

for (const [name, open] of Object.entries({ 'the memory store': openMemory, 'the Redis store': openRedis })) {
  describeSessionStore(name, open);
  describeRefreshLease(name, open);
}

describe('the Redis store alone', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each([-5, 5])('T53 decides nothing by the clock of a replica that is %i minutes off', async (minutes) => {
    const under = await openRedis();
    const record = newRecord({ absoluteTimeout: 240, idleTimeout: 120 });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * 60_000 });
    await under.store.create(record);
    const session = await under.store.read(record.handle);
    expect((session?.expiresAt ?? 0) - (session?.now ?? 0)).toBeGreaterThan(238);
    expect(await under.store.listBySub(record.subKey)).toEqual([record.handle]);
    expect((await under.store.acquire(record.handle, 1, 'a', 10_000)).kind).toBe('acquired');
    expect((await under.store.acquire(record.handle, 1, 'b', 10_000)).kind).toBe('busy');
    await under.close();
  });

  it('keeps the keys of one session in one slot of a cluster', async () => {
    const under = await openRedis();
    const record = newRecord();
    await under.store.create(record);
    await under.store.acquire(record.handle, 1, 'a', 1000);
    const keys = (await dumpRedis(inject('redisUrl'), `*{${record.handle}}*`)).map(({ key }) => key);
    expect(keys).toHaveLength(2);
    expect(new Set(keys.map((key) => /\{([^}]*)\}/.exec(key)?.[1]))).toEqual(new Set([record.handle]));
    await under.close();
  });

  it('T109 takes a record with damaged or missing fields for no session', async () => {
    const under = await openRedis();
    const redis = new Redis(inject('redisUrl'));
    for (const damage of [{ g: 'x' }, { x: 'NaN' }, { c: '1e999' }, { f: '' }]) {
      const record = newRecord();
      await under.store.create(record);
      const [found] = await redis.keys(`*{${record.handle}}:s`);
      await redis.hset(found as string, damage);
      expect(await under.store.read(record.handle)).toBeUndefined();
    }
    redis.disconnect();
    await under.close();
  });
});
