import { setTimeout as pause } from 'node:timers/promises';
import type { SessionConfig } from '../config/config.ts';
import type { Metrics } from '../ops/metrics.ts';
import { createRedisChannel, type RedisChannel } from '../redis/channel.ts';
import { createCircuit } from '../redis/circuit.ts';
import { createRedisClient, expectNoMore, type RedisLog } from '../redis/client.ts';
import { warnAboutEviction } from '../redis/eviction.ts';
import { createMemoryStore } from './memory-store.ts';
import { createRedisStore } from './redis-store.ts';
import type { SessionStore } from './store.ts';

/** Where sessions live, and how replicas hear of each other. */
export interface OpenStore {
  store: SessionStore;
  /** Absent in a single process. */
  transport?: RedisChannel;
  /** True while requests are refused without asking Redis, because it has not answered lately. */
  isCircuitOpen(): boolean;
}

/** Starts while Redis is down: the client goes on trying, requests get 503 until it succeeds. */
export async function openStore(
  { redis }: SessionConfig,
  { log, metrics, nowMs }: { log: RedisLog; metrics: Metrics; nowMs: () => number },
): Promise<OpenStore> {
  if (redis === undefined) return { store: createMemoryStore(nowMs), isCircuitOpen: () => false };
  const client = createRedisClient(redis, log);
  warnAboutEviction(client, log);
  const circuit = createCircuit({
    probe: () => client.ping(),
    onChange(isOpen) {
      metrics.storeCircuitOpen.set(isOpen ? 1 : 0);
      metrics.storeUp.set(isOpen ? 0 : 1);
      if (isOpen) log.warn({}, 'redis does not answer: requests are refused without asking it');
      else log.info({}, 'redis answers again');
    },
  });
  // Sentinels that can't be reached would be asked for ever.
  const connected = client.connect().catch(() => undefined);
  await Promise.race([connected, pause(redis.connectTimeout, undefined, { ref: false })]);
  const store = createRedisStore(client, redis.keyPrefix);
  return {
    store: {
      ...circuit.guard(store),
      async close() {
        circuit.close();
        expectNoMore(client);
        await store.close();
      },
    },
    transport: createRedisChannel(redis, client, 'events', log),
    isCircuitOpen: circuit.isOpen,
  };
}
