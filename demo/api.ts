import type { IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import { createTokenVerifier } from './api/access-token.ts';
import { catalogRoutes } from './api/catalog.ts';
import { buildGuards, CLAIMS, claimsOf } from './api/guard.ts';
import { ordersRoutes } from './api/orders.ts';
import { CATALOG_RESOURCE, ORDERS_RESOURCE } from './provider/resources.ts';

export type ApiName = 'orders' | 'catalog';

export interface ApiOptions {
  name: ApiName;
  /** Address to listen on; 0.0.0.0 in a container. Default 127.0.0.1. */
  host?: string;
  /** Default 0: a free port. */
  port?: number;
  /** Whose tokens are believed; its keys are looked up at the first token. */
  issuer: string;
  /** The `aud` a token must have. Default: the resource of this API at the demo's provider. */
  audience?: string;
  /** Sees every request as it arrives, so that a test can look at what Cloakroom sent. */
  onRequest?: (request: { method: string; url: string; headers: IncomingHttpHeaders }) => void;
}

export interface RunningApi {
  name: ApiName;
  url: string;
  port: number;
  close(): Promise<void>;
}

/** Starts one of the demo's two APIs: it knows nothing of Cloakroom, sessions or cookies, only of bearer tokens. */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { name, host = '127.0.0.1', port = 0, issuer, onRequest } = options;
  const audience = options.audience ?? (name === 'orders' ? ORDERS_RESOURCE : CATALOG_RESOURCE);
  const answeredBy = `${name} API`;
  const guards = buildGuards(answeredBy, createTokenVerifier(issuer, audience));

  // Open event streams would keep close() waiting for ever.
  const app = Fastify({ forceCloseConnections: true });
  app.decorateRequest(CLAIMS, null);
  if (onRequest) {
    app.addHook('onRequest', async ({ method, url, headers }) => onRequest({ method, url, headers }));
  }
  app.get('/me', { onRequest: guards.requireToken }, async (request) => ({
    answeredBy,
    claims: claimsOf(request),
    // Names only: the values would show the token to the browser, which must never see it.
    receivedHeaders: Object.keys(request.headers).sort((a, b) => a.localeCompare(b)),
  }));
  if (name === 'orders') ordersRoutes(app, guards, answeredBy);
  else catalogRoutes(app, guards, answeredBy);
  app.setNotFoundHandler((_request, reply) => {
    reply.code(404).send({ error: 'not_found', message: 'This API has no such path.', answeredBy });
  });

  await app.listen({ host, port });
  const address = app.server.address() as AddressInfo;
  return { name, url: `http://${host}:${address.port}`, port: address.port, close: () => app.close() };
}

if (process.argv[1] === import.meta.filename) {
  const { API_NAME, API_HOST, API_PORT, API_ISSUER, API_AUDIENCE } = process.env;
  if (API_NAME !== 'orders' && API_NAME !== 'catalog') {
    console.error('API_NAME must be "orders" or "catalog".');
    process.exit(1);
  }
  const api = await startApi({
    name: API_NAME,
    host: API_HOST ?? '127.0.0.1',
    port: Number(API_PORT ?? (API_NAME === 'orders' ? 9001 : 9002)),
    issuer: API_ISSUER ?? 'http://127.0.0.1:9000',
    ...(API_AUDIENCE ? { audience: API_AUDIENCE } : {}),
  });
  console.log(`Demo ${api.name} API: ${api.url}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => api.close());
}
