import { randomBytes } from 'node:crypto';
import fastify, { type FastifyInstance, type FastifyServerOptions, LogController } from 'fastify';
import type { DestinationStream } from 'pino';
import type { Config } from './config/config.ts';
import { buildRangeCheck } from './config/schema/address-range.ts';
import { mostBodyBytes } from './endpoints/bodies.ts';
import { endpointsPlugin, providerEndpointsPlugin } from './endpoints/plugin.ts';
import { createAdminSessions } from './frontend/admin-sessions.ts';
import { buildPseudonym, createFrontendContext, type FrontendContext, type Shared } from './frontend/context.ts';
import { buildReadClientAddress } from './http/client-address.ts';
import { buildErrorHandler } from './http/error-handler.ts';
import { mostHeadBytes, registerRequestGuard } from './http/request-guard.ts';
import { continueWhenRead } from './http/unread-body.ts';
import { isHandshake, routeHandshakes } from './http/upgrade.ts';
import { openAddresses } from './listener/addresses.ts';
import { boundConnections, followUnused } from './listener/connections.ts';
import { openListenerTls } from './listener/tls.ts';
import { findStartAgain } from './login/restart.ts';
import { failSilently } from './login/silent.ts';
import { transactionCookiePrefix } from './login/transaction.ts';
import { registerAdmin } from './ops/admin.ts';
import { createOpsListener } from './ops/listener.ts';
import { acceptRequestId, createRequestIds, loggerOptions } from './ops/logging.ts';
import { createMetrics, type Metrics } from './ops/metrics.ts';
import { registerRequestLog } from './ops/request-log.ts';
import { createRequestLogger } from './ops/request-logger.ts';
import { buildClientErrorAnswer } from './problems/client-error.ts';
import { problem, RouteUnknown } from './problems/errors.ts';
import { buildForwardAuthHosts, forwardAuthPlugin } from './proxy/forward-auth.ts';
import { proxyPlugin, refuseMethod, routedMethods } from './proxy/plugin.ts';
import { buildFindPlace } from './routing/places.ts';
import { asRoutable, hostSpellings, splitAbsoluteForm } from './routing/request-path.ts';
import { createSessionChannel } from './session/events.ts';
import { createStreams } from './session/streams.ts';
import { openStore } from './store/open-store.ts';

export interface AppOptions {
  /** Where log lines go; standard output by default. */
  logStream?: DestinationStream;
  /** Epoch milliseconds. */
  nowMs?: () => number;
  withProcessMetrics?: boolean;
}

export interface App {
  /** What browsers talk to. */
  server: FastifyInstance;
  /** Health and metrics, on a port of its own. */
  ops: FastifyInstance;
  /** Opens `listen`. */
  listen(): Promise<void>;
  /** From now on `/readyz` says 503 and connections are not kept alive. */
  startDraining(): void;
  /** Finishes requests and refreshes in flight, then closes everything. */
  close(): Promise<void>;
}

/** The composition root: registers every plugin in order. Nothing listens yet. */
export async function createApp(config: Config, options: AppOptions = {}): Promise<App> {
  const nowMs = options.nowMs ?? Date.now;
  const metrics = createMetrics({ withProcess: options.withProcessMetrics ?? false });
  let draining = false;
  const isDraining = () => draining;

  const server = createServer(config, metrics, options.logStream);
  const addresses = openAddresses(server);
  server.addHook('preClose', () => addresses.close());
  const { store, transport, isCircuitOpen } = await openStore(config.session, { log: server.log, metrics, nowMs });
  const channel = createSessionChannel(server.log, transport);
  const streams = createStreams();
  const findPlace = buildFindPlace(config.frontends);
  const shared: Shared = {
    config,
    store,
    channel,
    streams,
    metrics,
    log: server.log,
    nowMs,
    instance: randomBytes(8).toString('hex'),
    pseudonym: buildPseudonym(config),
    findPlace,
    isDraining,
  };
  const contexts = config.frontends.map((frontend) => createFrontendContext(frontend, shared));

  const guarded = config.frontends.map(({ host, basePath, cookieName }) => ({
    host,
    basePath,
    loginCookiePrefix: transactionCookiePrefix(cookieName),
  }));
  const readClientAddress = buildReadClientAddress(config.trustedProxies);
  registerRequestGuard(server, { frontends: guarded, findPlace, limits: config.limits, isDraining, readClientAddress });
  registerRequestLog(server, metrics, config.log.requests);
  server.setErrorHandler(buildErrorHandler({ isSecure: contexts.every(({ frontend }) => frontend.isSecure), metrics }));
  server.setNotFoundHandler(async (request, reply) => {
    refuseMethod(request, reply, findPlace);
    throw problem(RouteUnknown);
  });
  for (const context of contexts) await server.register(frontendPlugin, { context, prefix: context.frontend.basePath });

  const ops = createOpsListener(metrics, {
    pingStore: () => store.ping(),
    isCircuitOpen,
    isDraining,
    onStoreStatus: (isUp) => metrics.storeUp.set(isUp ? 1 : 0),
  });
  const { adminKey } = config.ops;
  if (adminKey !== undefined) registerAdmin(ops, adminKey, createAdminSessions(contexts), server.log);
  // After all that keeps us from listening.
  server.addHook('onListen', async () => {
    for (const { server: authorizationServer, bearer } of contexts) {
      authorizationServer.configuration().catch(() => undefined);
      bearer.start();
    }
  });

  return {
    server,
    ops,
    listen: () => addresses.listen(config.listen),
    startDraining() {
      draining = true;
    },
    async close() {
      draining = true;
      // An answer whose head went out before the drain has promised to keep its connection: Node would wait for that.
      streams.closeAll(); // their browsers come back to another replica, not all at once
      const sweep = setInterval(() => server.server.closeIdleConnections(), 100);
      await server.close().finally(() => clearInterval(sweep)); // requests in flight end first
      for (const { coordinator } of contexts) await coordinator.drain(); // then what they left running (RF19)
      await Promise.all(contexts.flatMap(({ server, bearer }) => [server.close(), bearer.close()]));
      await channel.close();
      await store.close();
      await ops.close();
    },
  };
}

/** One frontend: its endpoints, a proxy scope for each API, its files. Routes answer to its host only. */
async function frontendPlugin(scope: FastifyInstance, { context }: { context: FrontendContext }): Promise<void> {
  const { frontend, loginPath, metrics } = context;
  const isAlone = context.config.frontends.length === 1;
  if (!isAlone) {
    scope.addHook('onRoute', (route) => {
      route.constraints = { ...route.constraints, host: frontend.host };
    });
  }
  scope.setErrorHandler(
    buildErrorHandler({
      isSecure: frontend.isSecure,
      loginPath,
      findStartAgain: (request) => findStartAgain(context, request),
      answerSilently: (request, reply, known) => failSilently(context, request, reply, known),
      metrics,
    }),
  );
  await scope.register(async (inner) => providerEndpointsPlugin(inner, context));
  await scope.register(async (inner) => endpointsPlugin(inner, context));
  const { forwardAuth } = frontend;
  if (forwardAuth !== undefined)
    await scope.register(async (inner) => forwardAuthPlugin(inner, { context, forwardAuth }));
  for (const api of frontend.apis)
    if (api.upstream.length > 0) await scope.register(async (inner) => proxyPlugin(inner, { context, api }));
  const { devServer } = frontend;
  if (devServer !== undefined) await scope.register(async (inner) => proxyPlugin(inner, { context, api: devServer }));
  if (frontend.files !== undefined) {
    const { filesPlugin } = await import('./files/plugin.ts'); // nobody else waits for what it needs
    await scope.register(async (inner) => filesPlugin(inner, context));
  }
}

function createServer(config: Config, metrics: Metrics, logStream: DestinationStream | undefined): FastifyInstance {
  const newRequestId = createRequestIds();
  const answerClientError = buildClientErrorAnswer(newRequestId, (code) => metrics.problems.inc({ code }));
  const forwardAuthHost = buildForwardAuthHosts(config.frontends);
  const frontendHosts = new Map<string, string>();
  for (const { host, isSecure } of config.frontends)
    for (const spelling of hostSpellings(host, [isSecure ? 443 : 80])) frontendHosts.set(spelling, host);
  // Host names have no case; the router compares them as text.
  const plainHost = (host: string) => frontendHosts.get(host.toLowerCase()) ?? host.toLowerCase();
  const hasWebSockets = config.frontends.some(
    ({ apis, devServer }) => devServer !== undefined || apis.some(({ websocket }) => websocket !== undefined),
  );
  const { limits } = config;
  const tls = openListenerTls(config, limits.headersTimeout);
  const http = {
    headersTimeout: limits.headersTimeout,
    maxHeaderSize: mostHeadBytes(limits),
    connectionsCheckingInterval: 1000,
    requireHostHeader: false, // our guard refuses it: Node’s answer would go past the bound of pipelining (W13)
    optimizeEmptyRequests: true, // most requests have no body, and nothing has to be read to find its end
    ...(hasWebSockets ? { shouldUpgradeCallback: isHandshake } : {}),
  };
  const options = {
    logger: { ...loggerOptions(config.log.level), ...(logStream === undefined ? {} : { stream: logStream }) },
    logController: new LogController({ disableRequestLogging: true }), // ours has no query string (OP2)
    childLoggerFactory: createRequestLogger,
    genReqId: (request) => acceptRequestId(request) ?? newRequestId(),
    // Absolute-form targets: the authority replaces Host, and then nothing more is different about them (PX10).
    rewriteUrl(request) {
      const split = splitAbsoluteForm(request.url ?? '/');
      const { host } = request.headers;
      if (host !== undefined)
        request.headers.host = forwardAuthHost(host.toLowerCase(), request.url ?? '') ?? plainHost(host);
      if (split !== undefined) request.headers.host = plainHost(split[0]);
      return asRoutable(split?.[1] ?? request.url ?? '/');
    },
    bodyLimit: mostBodyBytes,
    pluginTimeout: 0, // the SPA's files may lie on a slow mount, and are copied before we listen
    exposeHeadRoutes: false,
    return503OnClosing: false, // a rolling restart must not fail requests on kept-alive connections
    forceCloseConnections: 'idle',
    requestTimeout: limits.requestTimeout, // a body that drips in for ever (S12, T91)
    clientErrorHandler: answerClientError,
  } satisfies FastifyServerOptions;
  const server: FastifyInstance =
    tls === undefined ? fastify({ ...options, http }) : fastify({ ...options, https: { ...http, ...tls.options } });
  tls?.serve(server.server, server.log);
  if (hasWebSockets) routeHandshakes(server.server, server.routing, answerClientError);
  boundConnections(server.server, {
    most: limits.connections,
    mostPerAddress: limits.connectionsPerAddress,
    isTrusted: buildRangeCheck(config.trustedProxies),
    count: (limit) => metrics.connectionRefusals.inc({ limit }),
  });
  continueWhenRead(server.server);
  for (const method of routedMethods(config.frontends.flatMap(({ apis }) => apis)))
    if (!server.supportedMethods.includes(method)) server.addHttpMethod(method, { hasBody: true });
  // Where Fastify expects a body it answers a QUERY without Content-Type itself, before 404, 405 and the API could (W63).
  server.addHttpMethod('QUERY', { hasBody: false, overrideExisting: true });
  server.removeAllContentTypeParsers(); // where nothing is served, no body is read
  const closeUnused = followUnused(server.server);
  server.addHook('preClose', async () => closeUnused());
  // Node cuts a longer list off and serves the request; we count and refuse instead (T122).
  server.server.maxHeadersCount = 0;
  return server;
}
