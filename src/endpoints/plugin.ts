import fastifyRateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest, HTTPMethods } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { limitedAs } from '../http/client-address.ts';
import { type CsrfFault, csrfDetail, csrfFault } from '../http/request-source.ts';
import { CsrfRejected, MethodNotAllowed, problem, RateLimited, RouteUnknown } from '../problems/errors.ts';
import { ownHeaders } from '../problems/security-headers.ts';
import { sessionPlugin } from '../session/plugin.ts';
import { acceptForms } from './bodies.ts';
import { type Endpoint, endpointsOf } from './list.ts';
import { toRouteSchema } from './shapes.ts';

const allMethods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Registers what needs no session, in a scope without cookies: the provider's side, and the way out of too many. */
export async function providerEndpointsPlugin(scope: FastifyInstance, context: FrontendContext): Promise<void> {
  const { frontend } = context;
  scope.addHook('onRequest', async (_request, reply) => {
    reply.headers(ownHeaders(frontend.isSecure));
  });
  acceptForms(scope);
  const offered = [...endpointsOf(frontend, 'provider'), ...endpointsOf(frontend, 'anyone')];
  for (const { method, path, handler, takesAnyCookies = false } of offered) {
    scope.route({
      method,
      url: `/bff${path}`,
      config: { kind: 'endpoint', frontend: frontend.name, takesAnyCookies },
      handler: (request, reply) => handler(context, request, reply),
    });
  }
  refuseOtherMethods(scope, frontend.name, offered);
}

/** Registers `/bff` of one frontend. Nothing under it is ever proxied (PX18). */
export async function endpointsPlugin(scope: FastifyInstance, context: FrontendContext): Promise<void> {
  const { frontend, signer, sessions, config, metrics } = context;
  const { cookieName, isSecure, sameSite } = frontend;
  scope.addHook('onRequest', async (_request, reply) => {
    reply.headers(ownHeaders(isSecure));
  });
  acceptForms(scope); // before anybody looks a session up
  await scope.register(fastifyRateLimit, {
    global: false,
    max: config.limits.loginsPerMinute,
    timeWindow: 60_000,
    keyGenerator: ({ clientAddress }) => limitedAs(clientAddress),
    errorResponseBuilder: (_request, { ttl }) => problem(RateLimited, { retryAfterSeconds: ttl / 1000 }),
  });
  await scope.register(sessionPlugin, { cookieName, isSecure, sameSite, signer, sessions });
  scope.addContentTypeParser(
    'application/json',
    { parseAs: 'string', bodyLimit: 1024 },
    (_request, _body, done) => done(null, undefined), // sent by habit, needed by nothing
  );

  const offered = endpointsOf(frontend, 'page');
  for (const endpoint of offered) {
    scope.route({
      method: endpoint.method,
      url: `/bff${endpoint.path}`,
      config: { kind: 'endpoint', frontend: frontend.name, ...(endpoint.isLimited === true ? { rateLimit: {} } : {}) },
      schema: endpoint.answer === undefined ? {} : { response: { 200: toRouteSchema(endpoint.answer) } },
      preValidation: async (request) => {
        const fault = csrfFaultOf(endpoint, request, frontend.origin);
        if (fault === undefined) return;
        metrics.csrfRejections.inc({ frontend: frontend.name, reason: fault });
        const detail = csrfDetail(fault, request.method, request.headers, frontend.origin);
        request.log.info({ frontend: frontend.name, reason: fault, detail, audit: 'csrf_rejected' }, 'request refused');
        throw problem(CsrfRejected, { detail });
      },
      handler: (request, reply) => endpoint.handler(context, request, reply),
    });
  }
  refuseOtherMethods(scope, frontend.name, offered);
  for (const url of ['/bff', '/bff/*']) {
    scope.all(url, { config: { kind: 'endpoint', frontend: frontend.name } }, async () => {
      throw problem(RouteUnknown);
    });
  }
}

function csrfFaultOf({ method, csrf }: Endpoint, request: FastifyRequest, origin: string): CsrfFault | undefined {
  if (csrf === 'own') return undefined;
  const fault = csrfFault(method, request.headers, origin, 'header');
  // A read changes nothing and is useless to a foreign page; only one that says that it is foreign is refused.
  return csrf === 'read' && fault !== 'cross-site' ? undefined : fault;
}

/** 405 with `Allow` for the methods that a known path does not have. */
function refuseOtherMethods(scope: FastifyInstance, frontend: string, offered: Endpoint[]): void {
  for (const path of new Set(offered.map((endpoint) => endpoint.path))) {
    const allowed: string[] = offered.filter((endpoint) => endpoint.path === path).map(({ method }) => method);
    scope.route({
      method: allMethods.filter((method) => !allowed.includes(method as string)),
      url: `/bff${path}`,
      config: { kind: 'endpoint', frontend },
      handler: async (_request, reply) => {
        reply.header('allow', allowed.join(', '));
        throw problem(MethodNotAllowed);
      },
    });
  }
}
