import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Api } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { BodyTooLarge, problem, SessionRequired } from '../http/errors.ts';
import { pathBelow } from '../http/request-path.ts';
import { handshakeSocket } from '../http/upgrade.ts';
import { loggablePath } from '../ops/logging.ts';
import type { AttachedToken } from '../tokens/token-set.ts';
import { type Caller, type Review, refusalOf } from './authorize.ts';
import { watchToken } from './bearer-caller.ts';
import { type Challenge, isStepUp, readChallenge } from './challenge.ts';
import type { Exchanged } from './exchange.ts';
import { followSession, type ReviewOf } from './follow-session.ts';
import { forward } from './forward.ts';
import { buildBrowserHeaders, buildBrowserTrailers, buildExtraHeaders } from './headers.ts';
import { discardBody } from './request-body.ts';
import { answerStepUp } from './step-up.ts';
import { buildHeadersFor, upstreamPath } from './upstream-request.ts';
import type { Upstream } from './upstreams.ts';
import type { WebSockets } from './websocket.ts';

const closing = ['connection', 'close'];
const keepAlive: string[] = [];

/** The forwarder of one API: what @fastify/http-proxy calls once a request was admitted. */
export function buildForwardHandler(
  context: FrontendContext,
  api: Api,
  prefix: string,
  upstream: Upstream,
  labels: { frontend: string; api: string },
  reviewOf: ReviewOf,
  webSockets: WebSockets | undefined,
) {
  const { frontend, pseudonym, isDraining } = context;
  const returnExtra = buildExtraHeaders(api.returnHeaders);
  const rewriteLocation = buildLocationRewriter(upstream, api.rewritePath, prefix);
  const headersFor = buildHeadersFor(frontend, api, pseudonym);

  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { raw, admitted } = request;
    if (admitted === undefined) throw problem(SessionRequired); // the hook of the route did not run
    const hasBody = isWithBody(raw);
    if (Number(raw.headers['content-length'] ?? 0) > api.limits.requestBody) {
      discardBody(raw, api.limits.requestBody);
      throw problem(BodyTooLarge);
    }
    const target = raw.url ?? '';
    const queryAt = target.indexOf('?');
    const path = `${upstreamPath(api, pathBelow(prefix, target))}${queryAt === -1 ? '' : target.slice(queryAt)}`;
    const arrived = { rawHeaders: raw.rawHeaders, via: raw.headers.via, ip: request.ip, id: request.id, hasBody };
    if (webSockets !== undefined && handshakeSocket(raw) !== undefined)
      return webSockets.open(request, reply, path, (token) => headersFor({ ...arrived, hasBody: false }, token));
    const { caller } = admitted;
    const session = caller.kind === 'session' ? caller.session : undefined;
    const isReplayable = (request.method === 'GET' || request.method === 'HEAD') && !hasBody;

    const send = (
      token: AttachedToken | undefined,
      withhold: (challenge: Challenge | undefined) => boolean,
    ): Promise<Exchanged> =>
      forward({
        upstream,
        path,
        method: request.method,
        headers: headersFor(arrived, token),
        request: raw,
        response: reply.raw,
        hasBody,
        longestBody: api.limits.requestBody,
        headersTimeout: api.timeouts.headers,
        bodyTimeout: api.timeouts.body,
        totalTimeout: api.timeouts.total,
        onHead: () => reply.hijack(),
        withhold: (status, rawHeaders) => status === 401 && token !== undefined && withhold(readChallenge(rawHeaders)),
        buildHeaders: (status, rawHeaders) => {
          const built = buildBrowserHeaders(rawHeaders, {
            extra: returnExtra,
            cache: api.cache,
            isPrivate: caller.kind !== 'public',
            status,
            rewriteLocation,
            replaced: [
              'x-request-id',
              request.id,
              'x-content-type-options',
              'nosniff',
              'cross-origin-resource-policy',
              'same-origin',
              ...(isDraining() ? closing : keepAlive),
            ],
          });
          if (isEventStream(built)) bindToCaller(context, caller, reviewOf(request.method, target), reply.raw);
          return built;
        },
        buildTrailers: (rawTrailers) => buildBrowserTrailers(rawTrailers, returnExtra),
      });

    /** An API that refuses a token which should be good gets another, once; a request that can be repeated is (PO6). */
    const isRefusal = (challenge: Challenge | undefined): boolean => {
      const { token } = admitted;
      if (caller.kind === 'bearer') return false; // it is the caller's own, and only the caller can get another
      if (token === undefined || challenge?.error !== 'invalid_token') return false;
      if (!context.accessTokens.canReplace(session, api, token)) return false;
      request.log.info({ ...labels, replayed: isReplayable }, 'the API refused the token: another one is fetched');
      if (isReplayable) return true;
      context.accessTokens
        .replace(session, api, token)
        .catch(() => request.log.warn(labels, 'no other token for the API that refused one'));
      return false;
    };

    /** An API that wants another authentication of this user; of an application’s own token no login could bring it. */
    let stepUp: Challenge | undefined;
    const isForStepUp = (challenge: Challenge | undefined): boolean => {
      const isAboutUser = caller.kind === 'guest' || (session !== undefined && api.token !== 'client');
      stepUp = isAboutUser && isStepUp(challenge) ? challenge : undefined;
      return stepUp !== undefined;
    };

    let outcome = await send(admitted.token, (challenge) => isForStepUp(challenge) || isRefusal(challenge));
    if (outcome === 'withheld' && stepUp === undefined && admitted.token !== undefined) {
      const answer = await context.accessTokens.replace(session, api, admitted.token);
      if (answer.kind !== 'token') throw refusalOf(answer);
      outcome = await send(answer.token, isForStepUp);
    }
    if (outcome === 'withheld' && stepUp !== undefined)
      throw answerStepUp(context, api, stepUp, 'upstream', session, request.log);
    if (outcome === 'left-by-browser') reply.hijack();
    if (outcome !== 'complete') {
      // Fastify calls onResponse, and so the request log, only for answers that were finished.
      const line = { method: request.method, path: loggablePath(target), ...labels, outcome };
      request.log[outcome === 'cut-by-upstream' ? 'warn' : 'info'](line, 'request cut short');
    }
  };
}

function isWithBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function isEventStream(headers: string[]): boolean {
  return headers.some(
    (item, index) => index % 2 === 1 && headers[index - 1] === 'content-type' && /^text\/event-stream\b/i.test(item),
  );
}

/**
 * A stream was authorized once and would go on for ever: it ends with the session or the token that it was opened with,
 * and when this process stops.
 */
function bindToCaller(
  context: FrontendContext,
  caller: Caller,
  review: Review | undefined,
  response: ServerResponse,
): void {
  const onEnd = () => response.destroy();
  if (caller.kind === 'bearer') response.once('close', watchToken(context, caller.identity, onEnd));
  if (caller.kind !== 'session') return;
  const { id, handle, generation } = caller.session;
  response.once('close', followSession(context, { id, handle, generation }, { name: `api/${handle}`, review, onEnd }));
}

/** A redirect to an address of the upstream would lead browsers nowhere, or past us (PX16). */
function buildLocationRewriter({ targets }: Upstream, rewritePath: string, prefix: string) {
  const origins = new Set(targets.map(({ origin }) => origin));
  const base = targets[0].origin;
  const inside = rewritePath === '/' ? '' : rewritePath;
  return (location: string): string => {
    const isAbsolute = /^(\/|[a-z][a-z0-9+.-]*:)/i.test(location);
    if (!isAbsolute || !URL.canParse(location, base)) return location;
    const { origin, pathname, search, hash } = new URL(location, base);
    if (!origins.has(origin)) return location;
    const isInside = pathname === inside || pathname.startsWith(`${inside}/`);
    // One slash in front: a path that begins with two would be another host.
    const path = isInside ? `${prefix}${pathname.slice(inside.length)}` : pathname.replace(/^\/+/, '/');
    return `${path}${search}${hash}`;
  };
}
