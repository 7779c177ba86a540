import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { FastifyBaseLogger } from 'fastify';
import { type buildConnector, Client, type Dispatcher, Pool } from 'undici';
import type { Api } from '../config/config.ts';
import type { Count, Metrics } from '../ops/metrics.ts';
import { withAbsoluteForm } from '../outbound/absolute-form.ts';
import { createConnector } from '../outbound/connector.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import { createBreaker } from './breaker.ts';
import { Connection } from './connection.ts';
import { startHealthCheck } from './health-check.ts';
import { createLine, type Line } from './line.ts';

/**
 * One place where an API runs. Connections, line, breaker and health are its own: no request can go to another by
 * mistake (T89), and none waits for another that is dead (T98).
 */
export interface Target {
  /** Scheme, host and port; `http://localhost` for a unix socket, which is what its `Host` says. */
  readonly origin: string;
  readonly dispatcher: Dispatcher;
  /** For one request, which goes out on a connection of its own: a kept one may be dead already. */
  onNewConnection(): Carrier;
  readonly line: Line;
  /** It is asked: its breaker is closed and its health check passes. */
  readonly isUp: boolean;
  /** Lets this one request try whether the target is back. */
  mayTry(): boolean;
  /** Milliseconds until it makes sense to ask again. */
  untilTrial(): number;
  /** It began to answer. */
  answered(status: number): void;
  /** It did not: the connection failed, or (`wasSent`) nothing came back. `sinceMs`: `performance.now()` at the start. */
  failed(sinceMs: number, wasSent: boolean): void;
  /** The request ended in a way that tells nothing about the target. */
  abandoned(sinceMs: number): void;
  /** Counts one request by how it ended. */
  count(outcome: TargetOutcome): void;
  /** A connection that no other request uses, TLS done and verified: for WebSockets. */
  connect(): Promise<Socket>;
  /** Lets requests in flight end. */
  close(): Promise<void>;
}

/** What one exchange needs of its target. */
export type Carrier = Pick<Target, 'dispatcher' | 'answered'>;

/** `stale-connection`: a kept connection died under the request. */
export type TargetOutcome =
  | 'complete'
  | 'cut-by-upstream'
  | 'left-by-browser'
  | 'withheld'
  | 'refused'
  | 'failed'
  | 'stale-connection';

export interface TargetOptions {
  api: Api;
  /** As configured: an origin, or `unix:` and a path. Names it in logs and metrics. */
  name: string;
  secureContext: SecureContext;
  proxies?: ForwardProxies;
  labels: { frontend: string; api: string };
  metrics: Metrics;
  log: FastifyBaseLogger;
}

export function createTarget(options: TargetOptions): Target {
  const { api, name, secureContext, proxies, labels: apiLabels, metrics, log } = options;
  const { limits, timeouts, connections, breaker: rules } = api;
  const socketPath = name.startsWith('unix:') ? name.slice('unix:'.length) : undefined;
  const url = new URL(socketPath === undefined ? name : 'http://localhost');
  const ways = api.forwardProxy && socketPath === undefined ? proxies : undefined;
  const way = { timeout: timeouts.connect, secureContext, socketPath, proxies: ways };
  const connector = createConnector(way);
  const settings = { allowH2: false, pipelining: 1, maxHeaderSize: 32 * 1024, connect: connector };
  const pool = new Pool(url.origin, {
    ...settings,
    ...keptFor(connections.idle),
    connections: limits.connections,
    factory: (origin, own) => new Connection(origin, { ...own, life: connections.life }),
  });
  const single = new Set<Client>();
  const dispatcher = withAbsoluteForm(pool, ways);
  const line = createLine(limits.connections, limits.queue);
  const labels = { ...apiLabels, target: name };
  const countOf = (outcome: TargetOutcome) => metrics.upstreams({ ...labels, outcome });
  const counts: Record<TargetOutcome, Count> = {
    complete: countOf('complete'),
    'cut-by-upstream': countOf('cut-by-upstream'),
    'left-by-browser': countOf('left-by-browser'),
    withheld: countOf('withheld'),
    refused: countOf('refused'),
    failed: countOf('failed'),
    'stale-connection': countOf('stale-connection'),
  };
  const breaker = createBreaker({
    ...rules,
    onChange(isOpen) {
      metrics.upstreamCircuitOpen.set(labels, isOpen ? 1 : 0);
      if (isOpen) log.warn(labels, 'an API’s target does not answer and is left out');
      else log.info(labels, 'an API’s target answers again');
      update();
    },
  });
  let isHealthy = true; // until a check says otherwise: a slow check must not delay the start
  const health =
    api.health === undefined
      ? undefined
      : startHealthCheck({
          ...api.health,
          origin: url.origin,
          connector,
          proxies: ways,
          onChange(passes, reason) {
            isHealthy = passes;
            if (passes) log.info(labels, 'an API’s target passes its health check again');
            else log.warn({ ...labels, reason }, 'an API’s target fails its health check and is left out');
            update();
          },
        });
  const update = () => {
    target.isUp = isHealthy && !breaker.isOpen;
    metrics.upstreamUp.set(labels, target.isUp ? 1 : 0);
    if (!target.isUp) line.dismiss(); // what they wait for is not there any more
  };

  const target: Target & { isUp: boolean } = {
    origin: url.origin,
    dispatcher,
    line,
    isUp: true,
    // A trial must not wait for a connection: those may all be stuck.
    mayTry: () => isHealthy && breaker.isOpen && line.hasFree && breaker.takeTrial(),
    untilTrial: () => (isHealthy ? breaker.untilTrial() : (api.health?.interval ?? 0)),
    answered(status) {
      if (rules.statuses.includes(status)) breaker.failed(performance.now(), true);
      else breaker.answered();
    },
    failed: breaker.failed,
    abandoned: breaker.abandoned,
    count: (outcome) => counts[outcome](),
    connect: () => openConnection(createConnector({ ...way, isTunnel: true }), url),
    onNewConnection() {
      const client = new Client(url.origin, settings);
      single.add(client);
      const once = client.compose((dispatch) => (request, handler) => {
        try {
          return dispatch({ ...request, reset: true }, handler);
        } finally {
          void client.close().then(() => single.delete(client));
        }
      });
      return { dispatcher: withAbsoluteForm(once, ways), answered: target.answered };
    },
    async close() {
      await health?.stop();
      await Promise.all([pool.close(), ...[...single].map((client) => client.close())]);
    },
  };
  metrics.upstreamCircuitOpen.set(labels, 0);
  update();
  return target;
}

/**
 * How long a connection is kept for the next request: so many milliseconds, or a second less than the target says
 * itself where that is sooner (`Keep-Alive: timeout=`, RFC 2068 §19.7.1), since what it closes may meet a request on its way.
 */
function keptFor(idle: number): Pick<Pool.Options, `keepAlive${string}` & keyof Pool.Options> {
  return { keepAliveTimeout: idle, keepAliveMaxTimeout: idle, keepAliveTimeoutThreshold: 1000 };
}

function openConnection(connector: buildConnector.connector, url: URL): Promise<Socket> {
  const { protocol, hostname, host, port } = url;
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname; // as net.connect wants IPv6
  return new Promise((resolve, reject) => {
    connector({ protocol, hostname: bare, host, port }, (...[error, socket]) => {
      if (error === null) resolve(socket);
      else reject(error);
    });
  });
}
