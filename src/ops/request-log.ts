import type { FastifyInstance, FastifyRequest } from 'fastify';
import { loggablePath } from './logging.ts';
import type { Metrics } from './metrics.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who called an API: kind, and what a log line may have of a name. */
    loggedCaller: { caller: string; issuer?: string; subject?: string } | undefined;
  }
}

/** One line and one observation for every finished request. Paths without query; never a header or body. */
export function registerRequestLog(server: FastifyInstance, metrics: Metrics, isOn: boolean): void {
  server.decorateRequest('loggedCaller', undefined);
  server.addHook('onResponse', (request, reply, done) => {
    const { frontend = 'none', api } = labelsOf(request);
    const status = reply.raw.statusCode;
    const seconds = reply.elapsedTime / 1000;
    metrics.requests.observe({ frontend, api, status: `${Math.floor(status / 100)}xx` }, seconds);
    if (isOn) {
      const path = loggablePath(request.raw.url ?? '');
      const isComplete = reply.raw.writableFinished;
      request.log.info(
        {
          method: request.method,
          path,
          status,
          ms: Math.round(seconds * 1e4) / 10,
          frontend,
          api,
          isComplete,
          ...request.loggedCaller,
        },
        'request',
      );
    }
    done();
  });
}

function labelsOf(request: FastifyRequest): { frontend?: string; api: string } {
  const { frontend, api, kind } = request.routeOptions.config ?? {};
  return { ...(frontend === undefined ? {} : { frontend }), api: api ?? kind ?? 'none' };
}
