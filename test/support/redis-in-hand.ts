import { Redis } from 'ioredis';
import type { Browser } from './browser.ts';
import { handleOf } from './ticket.ts';
import { type ConfigData, startWorld, type World } from './world.ts';

/** Two replicas that ask Redis for every call, and somebody who has their Redis. */
export interface RedisInHand {
  world: World;
  /** The configuration of the replicas. */
  data: ConfigData;
  redis: Redis;
  /** The record of this browser's session; `l` its lease, `x` its tombstone. */
  keyOf(browser: Browser, kind?: 's' | 'l' | 'x'): string;
  stop(): Promise<void>;
}

export async function startRedisInHand(): Promise<RedisInHand> {
  let data: ConfigData = {};
  const world = await startWorld({
    replicas: 2,
    nearCache: false,
    config: (config) => {
      data = config;
    },
  });
  const redis = new Redis(world.redisUrl as string);
  return {
    world,
    data,
    redis,
    keyOf: (browser, kind = 's') => `${world.keyPrefix}{${handleOf(browser)}}:${kind}`,
    async stop() {
      redis.disconnect();
      await world.stop();
    },
  };
}
