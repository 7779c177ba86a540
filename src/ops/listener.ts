import fastify, { type FastifyInstance, LogController } from 'fastify';
import { checkReadiness, type HealthChecks } from './health.ts';
import type { Metrics } from './metrics.ts';

/** The second port: `/livez`, `/readyz`, `/metrics`. By exact path and method only, whatever the caller says of itself (PO4). */
export function createOpsListener(metrics: Metrics, checks: HealthChecks): FastifyInstance {
  const listener = fastify({
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    forceCloseConnections: true,
  });
  // Alive means that the event loop turns; a dead Redis is no reason to restart a process.
  listener.get('/livez', async () => ({ alive: true }));
  listener.get('/readyz', async (_request, reply) => {
    const { status, body } = await checkReadiness(checks);
    return reply.code(status).send(body);
  });
  listener.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render()));
  return listener;
}
