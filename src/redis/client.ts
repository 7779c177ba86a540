import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { RedisConfig } from '../config/config.ts';
import { followFiles, isTls, type LiveSettings } from './live-settings.ts';
import { closed, reasonOf } from './reasons.ts';

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
  const settings = followFiles(config);
  const outage = createOutage(settings, log);
  const redis = config.cluster === undefined ? createSingle(settings, outage) : createCluster(settings, config.cluster);
  redis.on('error', (error: unknown) => outage.tell(reasonOf(error)));
  redis.on('node error', (error: unknown) => outage.note(reasonOf(error))); // others of the cluster may do
  redis.on('reconnecting', () => outage.endAttempt());
  redis.on('ready', () => {
    outage.isOver();
    log.info({}, 'redis is connected');
  });
  return redis;
}

interface Outage {
  /** Why this attempt fails, if it does. */
  note(reason: string): void;
  /** It failed, for this reason. */
  tell(reason: string): void;
  /** A balancer in front accepts and closes at once: that is an outage too, but no error of the socket. */
  endAttempt(): void;
  isOver(): void;
}

/** A line when the reason changes, not for each attempt: a wrong password must not look like the restart before it (W36). */
function createOutage(settings: () => LiveSettings, log: RedisLog): Outage {
  let noted: string | undefined;
  let told: string | undefined;
  const tell = (reason: string) => {
    noted = reason;
    const { fault } = settings();
    const line = JSON.stringify([reason, fault]);
    if (line === told) return;
    told = line;
    log.warn({ reason, ...(fault === undefined ? {} : { settings: fault }) }, 'redis is not reachable');
  };
  return {
    tell,
    note(reason) {
      noted = reason;
    },
    endAttempt() {
      tell(noted ?? closed);
      noted = undefined;
    },
    isOver() {
      noted = undefined;
      told = undefined;
    },
  };
}

function createSingle(settings: () => LiveSettings, outage: Outage): Redis {
  const options = connectionOptions(settings());
  const redis = openRedis(settings, {
    ...options,
    enableOfflineQueue: false,
    sentinelRetryStrategy: retryDelay,
    retryStrategy: retryDelay,
    reconnectOnError(error) {
      const isWorthIt = options.reconnectOnError(error);
      if (isWorthIt) outage.note(reasonOf(error));
      return isWorthIt;
    },
  });
  // It takes connections already, and ioredis waits for it without a word.
  redis.on('connect', () => {
    const tellIfLoading = (text: string) => /^loading:1/m.test(text) && outage.tell('LOADING');
    redis.info('persistence').then(tellIfLoading, () => undefined);
  });
  return redis;
}

/** A connection to the single Redis, or to the primary that the Sentinels name. */
export function openRedis(settings: () => LiveSettings, options: Omit<RedisOptions, 'replyMapping'>): Redis {
  const { config } = settings();
  const redis =
    config.url === undefined
      ? new Redis({ ...sentinelOptions(settings()), ...options })
      : new Redis(config.url, options);
  return keepFresh(redis, settings);
}

function createCluster(settings: () => LiveSettings, nodes: string[]): Cluster {
  const { config } = settings();
  const cluster = new Cluster(
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
      redisOptions: connectionOptions(settings()),
      lazyConnect: true,
    },
  );
  return cluster.on('+node', (node: Redis) => void keepFresh(node, settings));
}

/** What every connection to Redis has, also the one of the session channel. */
export function connectionOptions(settings: LiveSettings) {
  const { username, password, connectTimeout, commandTimeout } = settings.config;
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
    ...tlsOptions(settings),
  } satisfies RedisOptions;
}

/** Asks the Sentinels for the primary on every connect, and takes no server that says it is a replica. */
function sentinelOptions(settings: LiveSettings): Omit<RedisOptions, 'replyMapping'> {
  const { sentinel, connectTimeout, commandTimeout } = settings.config;
  if (sentinel === undefined) return {};
  const { tls } = tlsOptions(settings);
  return {
    sentinels: sentinel.nodes.map((node) => nodeAddress(node, 26379)),
    name: sentinel.name,
    role: 'master',
    // No failoverDetector: its connections print their errors past our log, and a demoted primary closes ours anyway.
    sentinelCommandTimeout: Math.min(connectTimeout, commandTimeout),
    ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
  };
}

function tlsOptions({ config, ca }: LiveSettings): { tls?: { ca?: string } } {
  return isTls(config) ? { tls: ca === undefined ? {} : { ca } } : {};
}

/** Lets ioredis, which reads its options with each connection that it opens, find there what the files have now (W36). */
function keepFresh(redis: Redis, settings: () => LiveSettings): Redis {
  const { options } = redis;
  define(options, 'username', () => settings().config.username);
  define(options, 'password', () => settings().config.password?.reveal());
  define(options, 'sentinelUsername', () => settings().config.sentinel?.username);
  define(options, 'sentinelPassword', () => settings().config.sentinel?.password?.reveal());
  for (const tls of [options.tls, options.sentinelTLS]) if (tls !== undefined) define(tls, 'ca', () => settings().ca);
  return redis;
}

function define(holder: object, name: string, get: () => string | undefined): void {
  Object.defineProperty(holder, name, { get, enumerable: true, configurable: true });
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
    throw new StoreUnavailableError(`redis: ${reasonOf(cause)}`, { cause });
  }
}

/** ioredis and the network say it otherwise; `ERR_…` in Node's own is about arguments, too. */
function isOwnFault(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}
