import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import type { RedisConfig } from '../config/config.ts';

/** The store can't be asked now. Never "no session": the browser keeps its cookie and gets a 503 (SE12). */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

export interface RedisLog {
  warn(facts: object, message: string): void;
  info(facts: object, message: string): void;
}

/**
 * Connects in the background and keeps trying. ioredis's defaults would let a request wait 73 s while Redis is down,
 * for ever while it hangs, and run a command twice after a reconnect (measured, REQUIREMENTS S16); hence the settings.
 */
export function createRedisClient(config: RedisConfig, log: RedisLog): Redis {
  const redis = new Redis(config.url, {
    lazyConnect: true,
    connectTimeout: config.connectTimeout,
    commandTimeout: config.commandTimeout,
    // A peer that vanished without a word would otherwise hold the connection, and every command, for a quarter of an hour.
    socketTimeout: 2 * config.commandTimeout,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2000) + Math.floor(Math.random() * 200),
    // After a failover the old primary answers READONLY: find the new one.
    reconnectOnError: (error) => /^(READONLY|LOADING|NOAUTH)/.test(error.message),
    ...(config.username === undefined ? {} : { username: config.username }),
    ...(config.password === undefined ? {} : { password: config.password.reveal() }),
    ...(config.url.startsWith('rediss:')
      ? { tls: config.caFile === undefined ? {} : { ca: readFileSync(config.caFile, 'utf8') } }
      : {}),
  });
  let isDown = false;
  const goDown = (reason: string) => {
    if (isDown) return; // one line an outage, not one a retry
    isDown = true;
    log.warn({ reason }, 'redis is not reachable');
  };
  redis.on('error', (error: unknown) => goDown(errorCode(error)));
  // A balancer in front accepts and closes at once: that is an outage too, but no error of the socket.
  redis.on('reconnecting', () => goDown('connection closed'));
  redis.on('ready', () => {
    isDown = false;
    log.info({}, 'redis is connected');
  });
  return redis;
}

/** Runs a Redis call; whatever goes wrong becomes a `StoreUnavailableError` with the cause for operators. */
export async function askRedis<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw new StoreUnavailableError(`redis: ${errorCode(cause)}`, { cause });
  }
}

/** A short code that holds no key, value or address: `ECONNREFUSED`, `READONLY`, `timeout`, `not connected`. */
function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (error.message === 'Command timed out') return 'timeout';
  if (/isn't writeable|Connection is closed|max retries/i.test(error.message)) return 'not connected';
  return /^([A-Z]{4,})\b/.exec(error.message)?.[1] ?? error.name;
}
