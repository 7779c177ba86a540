import { readFileSync } from 'node:fs';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { RedisConfig } from '../config/config.ts';

/** The store can't be asked now. Never "no session": the browser keeps its cookie and gets a 503 (SE12). */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

export interface RedisLog {
  warn(facts: object, message: string): void;
  info(facts: object, message: string): void;
}

/** A single Redis, or the primary that Sentinels name; or a cluster. */
export type RedisClient = Redis | Cluster;

/**
 * Connects in the background and keeps trying. ioredis's defaults would let a request wait 73 s while Redis is down,
 * for ever while it hangs, and run a command twice after a reconnect (measured, REQUIREMENTS S16); hence the settings.
 */
export function createRedisClient(config: RedisConfig, log: RedisLog): RedisClient {
  const redis = config.cluster === undefined ? createSingle(config) : createCluster(config, config.cluster);
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

function createSingle(config: RedisConfig): Redis {
  return openRedis(config, {
    ...connectionOptions(config),
    enableOfflineQueue: false,
    sentinelRetryStrategy: retryDelay,
    retryStrategy: retryDelay,
  });
}

/** A connection to the single Redis, or to the primary that the Sentinels name. */
export function openRedis(config: RedisConfig, options: Omit<RedisOptions, 'replyMapping'>): Redis {
  return config.url === undefined
    ? new Redis({ ...sentinelOptions(config), ...options })
    : new Redis(config.url, options);
}

function createCluster(config: RedisConfig, nodes: string[]): Cluster {
  return new Cluster(
    nodes.map((node) => nodeAddress(node)),
    {
      enableOfflineQueue: false,
      clusterRetryStrategy: retryDelay,
      // A command follows a slot that moves, and waits out a short hole, but for no longer than one that hangs.
      maxRedirections: 6,
      retryDelayOnFailover: config.commandTimeout / 10,
      retryDelayOnClusterDown: config.commandTimeout / 10,
      retryDelayOnTryAgain: config.commandTimeout / 10,
      slotsRefreshTimeout: config.connectTimeout,
      // Names in certificates are verified: they must not be turned into addresses first.
      dnsLookup: (address, done) => done(null, address),
      redisOptions: connectionOptions(config),
      lazyConnect: true,
    },
  );
}

/** What every connection to Redis has, also the one of the session channel. */
export function connectionOptions(config: RedisConfig) {
  const { username, password, connectTimeout, commandTimeout } = config;
  return {
    lazyConnect: true,
    connectTimeout,
    commandTimeout,
    // A peer that vanished without a word would otherwise hold the connection, and every command, for a quarter of an hour.
    socketTimeout: 2 * commandTimeout,
    maxRetriesPerRequest: 1,
    autoResendUnfulfilledCommands: false,
    disableClientInfo: true, // commands that an ACL user need not have
    // After a failover the old primary answers READONLY: find the new one.
    reconnectOnError: (error: Error) => /^(READONLY|LOADING|NOAUTH)/.test(error.message),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: password.reveal() }),
    ...tlsOptions(config),
  } satisfies RedisOptions;
}

/** Asks the Sentinels for the primary on every connect, and takes no server that says it is a replica. */
function sentinelOptions(config: RedisConfig): Omit<RedisOptions, 'replyMapping'> {
  const { sentinel, connectTimeout, commandTimeout } = config;
  if (sentinel === undefined) return {};
  const { tls } = tlsOptions(config);
  return {
    sentinels: sentinel.nodes.map((node) => nodeAddress(node, 26379)),
    name: sentinel.name,
    role: 'master',
    // No failoverDetector: its connections print their errors past our log, and a demoted primary closes ours anyway.
    sentinelCommandTimeout: Math.min(connectTimeout, commandTimeout),
    ...(sentinel.username === undefined ? {} : { sentinelUsername: sentinel.username }),
    ...(sentinel.password === undefined ? {} : { sentinelPassword: sentinel.password.reveal() }),
    ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
  };
}

function tlsOptions({ url, sentinel, cluster, caFile }: RedisConfig): { tls?: { ca?: string } } {
  const first = url ?? sentinel?.nodes[0] ?? cluster?.[0];
  if (first === undefined || !first.startsWith('rediss:')) return {};
  return { tls: caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') } };
}

/** Host and port of one of the configured nodes. */
export function nodeAddress(node: string, defaultPort = 6379): { host: string; port: number } {
  const { hostname, port } = new URL(node);
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port) || defaultPort };
}

/** Short at first, never longer than 2 s, and not the same for all replicas. */
function retryDelay(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 6), 2000) + Math.floor(Math.random() * 200);
}

/**
 * To be called before a client is closed. ioredis listens for one error of a socket only; a second one, such as the TLS
 * alert of a peer whose certificate we refuse and then hang up on, would end the process.
 */
export function expectNoMore(client: RedisClient): void {
  for (const { stream } of client instanceof Cluster ? client.nodes() : [client]) {
    (stream as typeof stream | undefined)?.on('error', () => undefined); // not there before the first connect
  }
}

/**
 * Runs a Redis call; what goes wrong becomes a `StoreUnavailableError` with the cause for operators. A bug of ours stays
 * what it is: whoever finds the request that brings it about must not make Redis look dead (W1).
 */
export async function askRedis<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (isOwnFault(cause)) throw cause;
    throw new StoreUnavailableError(`redis: ${errorCode(cause)}`, { cause });
  }
}

/** ioredis and the network say it otherwise; `ERR_…` in Node's own is about arguments, too. */
function isOwnFault(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}

/** A short code that holds no key, value or address: `ECONNREFUSED`, `READONLY`, `timeout`, `not connected`. */
function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (error.message === 'Command timed out') return 'timeout';
  if (/isn't writeable|Connection is closed|max retries/i.test(error.message)) return 'not connected';
  return /^([A-Z]{4,})\b/.exec(error.message)?.[1] ?? error.name;
}
