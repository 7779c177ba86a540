import { Redis } from 'ioredis';
import { expect, inject } from 'vitest';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { createRedisStore } from '../../src/store/redis-store.ts';
import { createClock } from '../support/clock.ts';
import '../support/global-redis.ts';
import { uniqueKeyPrefix } from '../support/redis.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import type { StoreUnderTest } from './session-store.ts';

/** The memory store on a clock of its own. */
export async function openMemory(): Promise<StoreUnderTest> {
  const clock = createClock();
  const store = createMemoryStore(clock.now);
  return { store, fastForward: clock.advance, close: () => store.close() };
}

/** The Redis store under a prefix of its own. Closing it looks for keys without an end. */
export async function openRedis(): Promise<StoreUnderTest> {
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
