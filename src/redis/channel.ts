import { setTimeout as pause } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import type { RedisConfig } from '../config/config.ts';
import {
  askRedis,
  connectionOptions,
  expectNoMore,
  nodeAddress,
  openRedis,
  type RedisClient,
  type RedisLog,
} from './client.ts';
import { followFiles, type LiveSettings } from './live-settings.ts';
import { closed, reasonOf } from './reasons.ts';

/** Messages to all replicas, this one included. Lost while the subscription is down: that is what `isUp` is for. */
export interface RedisChannel {
  /** Rejects with `StoreUnavailableError` when Redis did not take it. */
  publish(text: string): Promise<void>;
  onMessage(listener: (text: string) => void): void;
  onStatus(listener: (isUp: boolean) => void): void;
  /** True only while Redis has confirmed the subscription and answers on its connection. */
  isUp(): boolean;
  close(): Promise<void>;
}

/**
 * Subscribes on a connection of its own to `<keyPrefix><name>`, and again after each loss. We keep this connection
 * ourselves, as ioredis calls itself connected before it has subscribed again, and not at all on a peer that fell
 * silent. On a cluster sharded pub/sub keeps the messages to one node; the subscription follows the slot.
 */
export function createRedisChannel(
  config: RedisConfig,
  client: RedisClient,
  name: string,
  log: RedisLog,
): RedisChannel {
  const channel = `${config.keyPrefix}${name}`;
  const messageListeners: ((text: string) => void)[] = [];
  const statusListeners: ((isUp: boolean) => void)[] = [];
  const closing = new AbortController();
  const settings = followFiles(config);
  let isUp: boolean | undefined;
  let told: string | undefined;
  const setUp = (next: boolean, reason?: string) => {
    if (next) log.info({}, 'the session channel is connected');
    else if (told !== reason && !closing.signal.aborted) log.warn({ reason }, 'the session channel is down');
    told = reason;
    if (isUp === next) return;
    isUp = next;
    for (const listener of statusListeners) listener(next);
  };
  const hear = (from: unknown, text: unknown) => {
    if (String(from) === channel) for (const listener of messageListeners) listener(String(text));
  };
  const finished = keepSubscribed();

  async function keepSubscribed(): Promise<void> {
    let moved: Address | undefined;
    for (let attempt = 0; !closing.signal.aborted; attempt++) {
      const end = await subscribeOnce(moved, attempt);
      moved = end.movedTo;
      if (isUp === true) attempt = 0;
      setUp(false, end.reason);
      const delayMs = moved === undefined ? Math.min(100 * 2 ** Math.min(attempt, 4), 1000) + Math.random() * 100 : 0;
      await pause(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  }

  /** Connects, subscribes and listens until that breaks. */
  async function subscribeOnce(node: Address | undefined, attempt: number): Promise<End> {
    const redis = openConnection(settings, client, node, attempt);
    let fault: unknown;
    redis.on('error', (error: unknown) => {
      fault = error; // `connect` rejects with less
    });
    redis.on('message', hear);
    redis.on('smessage', hear);
    // From here on, so that nothing that happens while connecting is missed.
    const broken = whenBroken(redis, closing.signal);
    try {
      await Promise.race([redis.connect(), broken]);
      await Promise.race([client instanceof Cluster ? redis.ssubscribe(channel) : redis.subscribe(channel), broken]);
      setUp(true);
      return await Promise.race([keepPinging(redis, config.commandTimeout, closing.signal), broken]);
    } catch (error) {
      const moved = movedTo(error, redis);
      return { reason: reasonOf(fault ?? error), ...(moved === undefined ? {} : { movedTo: moved }) };
    } finally {
      expectNoMore(redis);
      redis.disconnect();
    }
  }

  return {
    async publish(text) {
      await askRedis(() =>
        client instanceof Cluster ? client.spublish(channel, text) : client.publish(channel, text),
      );
    },
    onMessage: (listener) => void messageListeners.push(listener),
    onStatus: (listener) => void statusListeners.push(listener),
    isUp: () => isUp === true,
    async close() {
      closing.abort();
      await finished;
    },
  };
}

interface Address {
  host: string;
  port: number;
}

/** How a subscription, or an attempt at one, ended. */
interface End {
  reason: string;
  /** The node that a cluster names instead. */
  movedTo?: Address;
}

function openConnection(
  settings: () => LiveSettings,
  client: RedisClient,
  moved: Address | undefined,
  attempt: number,
): Redis {
  const { config } = settings();
  // Nothing may come for hours; the pings notice a dead connection.
  const { socketTimeout: _none, reconnectOnError: _never, ...shared } = connectionOptions(settings());
  const options = { ...shared, enableOfflineQueue: false, autoResubscribe: false, retryStrategy: null };
  if (!(client instanceof Cluster)) return openRedis(settings, { ...options, sentinelRetryStrategy: () => null });
  const known = client.nodes('master').map(({ options: { host = '', port = 0 } }) => ({ host, port }));
  const nodes = [...known, ...(config.cluster ?? []).map((node) => nodeAddress(node))];
  return new Redis({ ...options, ...(moved ?? nodes[attempt % nodes.length]) });
}

/** Rejects when the connection ends, when a cluster moves the channel to another node, and when we are closing. */
function whenBroken(redis: Redis, closing: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => undefined);
  redis.once('end', () => reject(ending(closed)));
  redis.once('moved', () => reject(ending('channel moved')));
  if (closing.aborted) reject(ending('closing'));
  closing.addEventListener('abort', () => reject(ending('closing')), { once: true });
  return promise;
}

function ending(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** Rejects when Redis does not answer in time: a connection that fell silent must not count as a subscription. */
async function keepPinging(redis: Redis, everyMs: number, signal: AbortSignal): Promise<never> {
  for (;;) {
    await pause(everyMs, undefined, { signal });
    await redis.ping();
  }
}

/** `MOVED 866 10.0.0.2:6379`: who has the channel now. Without a host it is another port of the same one. */
function movedTo(error: unknown, asked: Redis): Address | undefined {
  const [, host, port] = /^MOVED \d+ (.*):(\d+)$/.exec(error instanceof Error ? error.message : '') ?? [];
  if (port === undefined) return undefined;
  return { host: host === undefined || host === '' ? (asked.options.host ?? '') : host, port: Number(port) };
}
