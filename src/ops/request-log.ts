import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify';
import { loggablePath } from './logging.ts';
import type { Metrics } from './metrics.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** As `routeOptions.config`, where the route has set it: Fastify makes `routeOptions` anew for each who asks. */
    routeConfig: FastifyContextConfig | undefined;
    /** Who called an API: kind, and what a log line may have of a name. */
    loggedCaller: { caller: string; issuer?: string; subject?: string } | undefined;
  }
}

/** What the lines and metrics of a route have in common. */
interface RouteLabels {
  frontend: string;
  api: string;
  /** By the first digit of the status. */
  observers: (Observer | undefined)[];
  /** Has written out already what is the same in every line. */
  log: FastifyBaseLogger;
}

interface Observer {
  observe(seconds: number): void;
}

/** One line and one observation for every finished request. Paths without query; never a header or body. */
export function registerRequestLog(server: FastifyInstance, metrics: Metrics, isOn: boolean): void {
  const labels = new WeakMap<object, RouteLabels>();
  const labelsOf = (request: FastifyRequest): RouteLabels => {
    const config = request.routeConfig ?? request.routeOptions.config;
    let found = labels.get(config);
    if (found === undefined) {
      const { frontend = 'none', api, kind } = config;
      const names = { frontend, api: api ?? kind ?? 'none' };
      found = { ...names, observers: [], log: server.log.child(names) };
      labels.set(config, found);
    }
    return found;
  };
  const observerOf = ({ frontend, api, observers }: RouteLabels, status: number): Observer => {
    const digit = Math.floor(status / 100);
    observers[digit] ??= metrics.requests.labels({ frontend, api, status: `${digit}xx` });
    return observers[digit];
  };

  server.decorateRequest('routeConfig', undefined);
  server.decorateRequest('loggedCaller', undefined);
  server.addHook('onResponse', (request, reply, done) => {
    const route = labelsOf(request);
    const status = reply.raw.statusCode;
    const seconds = reply.elapsedTime / 1000;
    observerOf(route, status).observe(seconds);
    if (isOn) {
      const { loggedCaller } = request;
      const facts = {
        reqId: request.id,
        method: request.method,
        path: loggablePath(request.raw.url ?? ''),
        status,
        ms: Math.round(seconds * 1e4) / 10,
        isComplete: reply.raw.writableFinished,
      };
      route.log.info(loggedCaller === undefined ? facts : Object.assign(facts, loggedCaller), 'request');
    }
    done();
  });
}
