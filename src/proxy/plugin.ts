import fastifyHttpProxy from '@fastify/http-proxy';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { type Admission, type Admitted, buildAuthorize, buildReview, type Caller } from '../admission/authorize.ts';
import type { ReviewOf } from '../admission/follow-session.ts';
import type { Api } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isLoopbackAddress } from '../http/client-address.ts';
import { handshakeSocket } from '../http/upgrade.ts';
import {
  Internal,
  LoopDetected,
  MethodNotAllowed,
  PathNotCanonical,
  problem,
  RouteUnknown,
} from '../problems/errors.ts';
import { type FindPlace, hasInside } from '../routing/places.ts';
import { pathBelow, queryOf } from '../routing/request-path.ts';
import { createUpstream } from '../upstream/upstreams.ts';
import { createWebSockets } from '../websocket/web-sockets.ts';
import { buildForwardHandler } from './api-call.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the authorization of the route, read by its forwarder. */
    admitted: Admitted | undefined;
  }
}

/** Those that a scope answers itself; all others are refused where nothing else took the request. */
const usualMethods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** What the routes of an API are made for: its own methods, and the usual ones to refuse them. */
export function routedMethods(apis: Api[]): HTTPMethods[] {
  return [...new Set([...usualMethods, ...apis.flatMap(({ methods }) => methods)])];
}

/** Whose path it is decides, also about a method that no route has (W63, W66). */
export function refuseMethod({ raw, method }: FastifyRequest, reply: FastifyReply, findPlace: FindPlace): void {
  const place = findPlace(raw.headers.host ?? '', raw.url ?? '');
  if (place?.kind === 'api' && place.api.upstream.length > 0) checkMethod(place.api, method, reply);
}

function checkMethod({ methods }: Api, method: string, reply: FastifyReply): void {
  if (methods.some((taken) => taken === method)) return;
  reply.header('allow', methods.join(', '));
  throw problem(MethodNotAllowed);
}

/**
 * One API in its own scope: ticket → authorize → @fastify/http-proxy with our forwarder. The session is read, never
 * written. The plugin's own defaults do not verify TLS, retry ten times, pass cookies and identity headers on, and
 * leave the upstream running when a browser leaves (REQUIREMENTS section 0): its `preHandler` option replaces all of that.
 */
export async function proxyPlugin(
  scope: FastifyInstance,
  { context, api }: { context: FrontendContext; api: Api },
): Promise<void> {
  const { frontend } = context;
  const prefix = `${frontend.basePath}${api.path}`;
  const labels = { frontend: frontend.name, api: api.name };
  const { metrics, log } = context;
  const upstream = createUpstream(api, { labels, metrics, log, proxies: context.config.forwardProxies });
  const [{ origin, dispatcher }] = upstream.targets;
  const config = { kind: 'api', ...labels, websocket: api.websocket !== undefined } as const;
  scope.addHook('onClose', () => upstream.close());
  scope.decorateRequest('admitted', undefined);
  const authorize = buildAuthorize(context, api);
  const review = buildReview(context, api);
  const reviewOf: ReviewOf = (method, target) => review({ method, path: pathBelow(prefix, target), log: context.log });
  const settings = api.websocket;
  const webSockets = settings && createWebSockets({ context, api, settings, upstream, labels, reviewOf });

  // Bodies are streams of bytes; Fastify's parser for text/plain would decode and limit them (S11).
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));

  const isDevServer = api === frontend.devServer;
  const isOwn =
    isDevServer || hasInside(frontend, api)
      ? (target: string) => {
          const place = context.findPlace(frontend.host, target);
          return isDevServer ? place?.kind === 'files' : place?.kind === 'api' && place.api === api;
        }
      : (target: string) => target.startsWith(prefix);
  const decide = (request: FastifyRequest, reply: FastifyReply): Admission | Promise<Admission> => {
    request.routeConfig = config;
    // The router decodes, the upstream would not: /%61pi would be matched as one path and sent as another (S3, T59).
    const { rawHeaders, url = '' } = request.raw;
    if (!isOwn(url)) {
      refuseMethod(request, reply, context.findPlace);
      throw problem(PathNotCanonical);
    }
    if (isDevServer && !isLoopbackAddress(request.clientAddress))
      throw problem(RouteUnknown, { detail: 'The development server is for this machine alone.' });
    checkMethod(api, request.method, reply);
    if (request.headers.via?.includes(context.pseudonym) === true) throw problem(LoopDetected);
    const { method, headers, log } = request;
    const call = {
      method,
      path: pathBelow(prefix, url),
      query: queryOf(url),
      headers,
      rawHeaders,
      log,
      address: request.clientAddress,
    };
    const isHandshake = handshakeSocket(request.raw) !== undefined;
    if (isHandshake) webSockets?.check(request, reply);
    return authorize(isHandshake ? { ...call, isForgeryRuledOut: true } : call);
  };
  const note = (request: FastifyRequest, admission: Admission) => {
    if (admission.kind === 'refused') throw admission.problem;
    request.admitted = admission;
    request.loggedCaller = loggable(admission.caller);
  };
  scope.addHook('onRequest', (request, reply, done) => {
    try {
      const admission = decide(request, reply);
      if (admission instanceof Promise) {
        admission.then((answer) => note(request, answer)).then(() => done(), done);
        return;
      }
      note(request, admission);
    } catch (error) {
      done(error as Error);
      return;
    }
    done();
  });

  if (webSockets !== undefined) scope.addHook('onResponse', async (request, reply) => webSockets.note(request, reply));
  await scope.register(fastifyHttpProxy, {
    prefix: api.path,
    upstream: origin, // one of them, for the plugin; the handler knows all
    rewritePrefix: api.rewritePath,
    proxyPayloads: false, // the catch-all parser above passes every body as a stream
    httpMethods: routedMethods([api]), // otherwise OPTIONS would fall through to the files
    config,
    // Takes every request over. The plugin's own way to its `handler` takes paths apart that are checked and built
    // already, and costs as much as the session (docs/adr/0012-forwarding-in-the-prehandler.md).
    preHandler: buildForwardHandler(context, api, prefix, upstream, labels, reviewOf, webSockets),
    handler: refuseForwarding as never,
    // Never used; but without them the plugin would make an agent of its own that trusts any certificate (S0).
    undici: { request: dispatcher.request.bind(dispatcher) } as never,
    replyOptions: { retryDelay: () => null },
  });
}

/** What the plugin would do by itself is not safe (S0–S10): a request that nobody took over is refused. */
async function refuseForwarding(): Promise<never> {
  throw problem(Internal);
}

export function loggable(caller: Caller): { caller: string; issuer?: string; subject?: string } {
  if (caller.kind !== 'bearer') return { caller: caller.kind };
  const { issuer, handle, isClient } = caller.identity;
  return { caller: isClient ? 'bearer-client' : 'bearer', issuer, subject: handle.slice(0, 12) };
}
