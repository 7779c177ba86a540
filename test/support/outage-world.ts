import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { type RedisServer, startRedis } from './redis.ts';
import { type ConfigData, startWorld, type World } from './world.ts';

/** How long a command may take there. Milliseconds. */
export const commandTimeoutMs = 500;

/** A world with a Redis of its own, behind a proxy, which every call asks: it can be frozen, refused, slowed down. */
export interface OutageWorld extends World {
  redis: RedisServer;
  proxy: FaultProxy;
}

export async function startOutageWorld(config: (data: ConfigData) => void = () => undefined): Promise<OutageWorld> {
  const redis = await startRedis();
  const proxy = await startFaultProxy(redis.port);
  const world = await startWorld({
    nearCache: false,
    redisUrl: proxy.redisUrl,
    config(data) {
      Object.assign(data.session.redis, { commandTimeout: `${commandTimeoutMs}ms`, connectTimeout: '500ms' });
      config(data);
    },
  });
  const { stop } = world;
  const outage = Object.assign(world, {
    redis,
    proxy,
    async stop() {
      outage.redis.resume();
      proxy.reset();
      await stop();
      await proxy.stop();
      await outage.redis.stop();
    },
  });
  return outage;
}
