import { Redis } from 'ioredis';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import '../support/global-redis.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { openMemory, openRedis } from './open-stores.ts';
import { describeRefreshLease } from './refresh-lease.ts';
import { describeSessionStore, newRecord } from './session-store.ts';

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

  it('W12 takes a record that was copied back for none while its tombstone lives, whatever is asked', async () => {
    const under = await openRedis();
    const { store } = under;
    const redis = new Redis(inject('redisUrl'));
    const record = newRecord();
    await store.create(record);
    const { handle } = record;
    const [key = ''] = await redis.keys(`*{${handle}}:s`);
    const copy = await redis.dumpBuffer(key);
    await store.end(handle);
    await redis.restore(key, 100_000, copy);
    expect(await store.read(handle)).toBeUndefined();
    expect(await store.readIfMoved({ handle, generation: 1 })).toBeUndefined();
    expect(await store.readIfMoved({ handle, generation: 7 })).toBeUndefined();
    expect(await store.acquire(handle, 1, 'a', 1000)).toEqual({ kind: 'gone' });
    const sealed = { tokens: Buffer.from('t'), identity: Buffer.from('i') };
    expect(await store.commit({ handle, owner: 'a', expectedGeneration: 1, ...sealed })).toBe('gone');
    await redis.del(key);
    redis.disconnect();
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
