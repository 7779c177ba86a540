import type { ServerResponse } from 'node:http';
import fastifyHttpProxy from '@fastify/http-proxy';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import type { Api } from '../config/config.ts';
import type { Secret } from '../config/secret.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { BodyTooLarge, LoopDetected, MethodNotAllowed, PathNotCanonical, problem } from '../http/errors.ts';
import { loggablePath } from '../ops/logging.ts';
import { watchSession } from '../session/watch.ts';
import { authorize } from './authorize.ts';
import { discardBody, forward } from './forward.ts';
import { buildBrowserHeaders, buildBrowserTrailers, buildExtraHeaders, buildUpstreamHeaders } from './headers.ts';
import { createUpstream, type Upstream } from './upstreams.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the authorization of the route, read by its forwarder. */
    accessToken: Secret | undefined;
    /** The session that opened the route, if one did. */
    sessionHandle: string | undefined;
  }
}

const allMethods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/**
 * One API in its own scope: ticket → authorize → @fastify/http-proxy with our forwarder. The session is read, never
 * written. The plugin's own defaults do not verify TLS, retry ten times, pass cookies and identity headers on, and
 * leave the upstream running when a browser leaves (REQUIREMENTS section 0): its `handler` option replaces all of that.
 */
export async function proxyPlugin(
  scope: FastifyInstance,
  { context, api }: { context: FrontendContext; api: Api },
): Promise<void> {
  const { frontend } = context;
  const { cookieName, isSecure, sameSite } = frontend;
  const prefix = `${frontend.basePath}${api.path}`;
  const upstream = createUpstream(api);
  const labels = { frontend: frontend.name, api: api.name };
  const config = { kind: 'api', ...labels } as const;
  scope.addHook('onClose', () => upstream.dispatcher.close());
  scope.decorateRequest('accessToken', undefined);
  scope.decorateRequest('sessionHandle', undefined);

  // Bodies are streams of bytes; Fastify's parser for text/plain would decode and limit them (S11).
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));

  scope.addHook('onRequest', async (request, reply) => {
    // The router decodes, the upstream would not: /%61pi would be matched as one path and sent as another (S3, T59).
    if (!request.raw.url?.startsWith(prefix)) throw problem(PathNotCanonical);
    if (!api.methods.includes(request.method as (typeof api.methods)[number])) {
      reply.header('allow', api.methods.join(', '));
      throw problem(MethodNotAllowed);
    }
    if (request.headers.via?.includes(context.pseudonym) === true) throw problem(LoopDetected);
    const admission = await authorize(context, api, request);
    if (admission.kind === 'refused') {
      if (admission.clearCookie === true) reply.header('set-cookie', clearedCookie(cookieName, isSecure, sameSite));
      throw admission.problem;
    }
    request.accessToken = admission.accessToken;
    request.sessionHandle = admission.handle;
  });

  const handler = buildForwardHandler(context, api, prefix, upstream, labels);
  await scope.register(fastifyHttpProxy, {
    prefix: api.path,
    upstream: api.upstream,
    rewritePrefix: api.rewritePath,
    proxyPayloads: false, // the catch-all parser above passes every body as a stream
    httpMethods: allMethods, // all of them are ours to refuse; otherwise OPTIONS would fall through to the files
    config,
    // Never used, because of `handler`; but without them the plugin would make an agent of its own that trusts any certificate (S0).
    undici: { request: upstream.dispatcher.request.bind(upstream.dispatcher) } as never,
    replyOptions: { retryDelay: () => null },
    handler: handler as never,
  });
}

function buildForwardHandler(
  context: FrontendContext,
  api: Api,
  prefix: string,
  upstream: Upstream,
  labels: { frontend: string; api: string },
) {
  const { frontend, metrics, pseudonym, isDraining } = context;
  const origin = new URL(api.upstream).origin;
  const forwardExtra = buildExtraHeaders(api.forwardHeaders);
  const returnExtra = buildExtraHeaders(api.returnHeaders);
  const rewriteLocation = buildLocationRewriter(origin, api.rewritePath, prefix);
  const scheme = frontend.isSecure ? 'https' : 'http';

  return async (request: FastifyRequest, reply: FastifyReply, destination: string): Promise<void> => {
    const { raw } = request;
    const hasBody = raw.headers['transfer-encoding'] !== undefined || Number(raw.headers['content-length'] ?? 0) > 0;
    if (Number(raw.headers['content-length'] ?? 0) > api.limits.requestBody) {
      discardBody(raw, api.limits.requestBody);
      throw problem(BodyTooLarge);
    }
    const target = raw.url ?? '';
    const queryAt = target.indexOf('?');
    const { via } = raw.headers;
    const headers = buildUpstreamHeaders(raw.rawHeaders, {
      extra: forwardExtra,
      hasBody,
      replaced: {
        authorization: request.accessToken === undefined ? undefined : `Bearer ${request.accessToken.reveal()}`,
        'x-forwarded-for': request.ip,
        'x-forwarded-host': frontend.host,
        'x-forwarded-proto': scheme,
        'x-request-id': request.id,
        via: `${via === undefined ? '' : `${via}, `}1.1 ${pseudonym}`,
      },
    });
    try {
      const outcome = await forward({
        upstream,
        origin,
        // The plugin leaves nothing of /api/orders?x when rewritePath is /, and no path is no request target.
        path: `${destination || '/'}${queryAt === -1 ? '' : target.slice(queryAt)}`,
        method: request.method,
        headers,
        request: raw,
        response: reply.raw,
        hasBody,
        longestBody: api.limits.requestBody,
        headersTimeout: api.timeouts.headers,
        bodyTimeout: api.timeouts.body,
        onHead: () => reply.hijack(),
        buildHeaders: (status, rawHeaders) => {
          const built = buildBrowserHeaders(rawHeaders, {
            extra: returnExtra,
            cache: api.cache,
            isPrivate: request.sessionHandle !== undefined,
            status,
            rewriteLocation,
            replaced: {
              'x-request-id': request.id,
              'x-content-type-options': 'nosniff',
              'cross-origin-resource-policy': 'same-origin',
              connection: isDraining() ? 'close' : undefined,
            },
          });
          if (request.sessionHandle !== undefined && isEventStream(built))
            bindToSession(context, request.sessionHandle, reply.raw);
          return built;
        },
        buildTrailers: (rawTrailers) => buildBrowserTrailers(rawTrailers, returnExtra),
      });
      metrics.upstreams.inc({ ...labels, outcome });
      if (outcome === 'left-by-browser') reply.hijack();
      if (outcome !== 'complete') {
        // Fastify calls onResponse, and so the request log, only for answers that were finished.
        const line = { method: request.method, path: loggablePath(target), ...labels, outcome };
        request.log[outcome === 'cut-by-upstream' ? 'warn' : 'info'](line, 'request cut short');
      }
    } catch (error) {
      metrics.upstreams.inc({ ...labels, outcome: 'failed' });
      throw error;
    }
  };
}

function isEventStream(headers: string[]): boolean {
  return headers.some(
    (item, index) => index % 2 === 1 && headers[index - 1] === 'content-type' && /^text\/event-stream\b/i.test(item),
  );
}

/** A stream was authorized once and would go on for ever: it ends with its session, and when this process stops. */
function bindToSession(context: FrontendContext, handle: string, response: ServerResponse): void {
  const stop = watchSession(context, handle, `api/${handle}`, { onEnd: () => response.destroy() });
  response.once('close', stop);
}

/** A redirect to the upstream's own address would lead browsers nowhere, or past us (PX16). */
function buildLocationRewriter(origin: string, rewritePath: string, prefix: string): (location: string) => string {
  const inside = rewritePath === '/' ? '' : rewritePath;
  return (location) => {
    const isAbsolute = /^(\/|[a-z][a-z0-9+.-]*:)/i.test(location);
    if (!isAbsolute || !URL.canParse(location, origin)) return location;
    const { origin: target, pathname, search, hash } = new URL(location, origin);
    if (target !== origin) return location;
    const isInside = pathname === inside || pathname.startsWith(`${inside}/`);
    // One slash in front: a path that begins with two would be another host.
    const path = isInside ? `${prefix}${pathname.slice(inside.length)}` : pathname.replace(/^\/+/, '/');
    return `${path}${search}${hash}`;
  };
}

/** The API scope has no cookie plugin: a session that is known to be over is cleared with the attributes it was set with. */
function clearedCookie(name: string, isSecure: boolean, sameSite: 'strict' | 'lax'): string {
  return `${name}=; Max-Age=0; Path=/; HttpOnly${isSecure ? '; Secure' : ''}; SameSite=${sameSite === 'strict' ? 'Strict' : 'Lax'}`;
}
