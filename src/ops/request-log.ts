import type { FastifyInstance, FastifyRequest } from 'fastify';
import { loggablePath } from './logging.ts';
import type { Metrics } from './metrics.ts';

/** One line and one observation for every finished request. Paths without query; never a header or body. */
export function registerRequestLog(server: FastifyInstance, metrics: Metrics, isOn: boolean): void {
  server.addHook('onResponse', (request, reply, done) => {
    const { frontend = 'none', api } = labelsOf(request);
    const status = reply.raw.statusCode;
    const seconds = reply.elapsedTime / 1000;
    metrics.requests.observe({ frontend, api, status: `${Math.floor(status / 100)}xx` }, seconds);
    if (isOn) {
      const path = loggablePath(request.raw.url ?? '');
      const isComplete = reply.raw.writableFinished;
      request.log.info(
        { method: request.method, path, status, ms: Math.round(seconds * 1e4) / 10, frontend, api, isComplete },
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
