import type { FastifyContextConfig, FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { describeError } from '../ops/logging.ts';
import type { Metrics } from '../ops/metrics.ts';
import {
  BodyTooLarge,
  HeadersTooMany,
  Internal,
  isProblem,
  MediaTypeUnsupported,
  PathNotCanonical,
  type Problem,
  problem,
  RequestMalformed,
  RequestTimeout,
  StoreUnavailable,
  UriTooLong,
} from '../problems/errors.ts';
import { type ErrorPage, renderErrorPage } from '../problems/page.ts';
import { ownHeaders } from '../problems/security-headers.ts';
import { StoreUnavailableError } from '../redis/client.ts';
import { expiredCookies } from './cookies.ts';
import { isNavigation } from './request-source.ts';
import { closeUnread } from './unread-body.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Decides how errors look: API routes never answer with a page or a redirect. */
    kind?: 'endpoint' | 'api' | 'forward-auth' | 'file';
    frontend?: string;
    api?: string;
  }
}

export interface ErrorHandlerOptions {
  isSecure: boolean;
  /** Where "log in" leads; absent outside of a frontend. */
  loginPath?: string;
  /** Where the login that this request is about begins again; `undefined` for all other requests. */
  findStartAgain?(request: FastifyRequest): StartAgain | undefined;
  /** Answers where nobody waits for a page: a silent login goes back to where it came from. */
  answerSilently?(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply | undefined;
  metrics: Metrics;
}

export interface StartAgain {
  url: string;
  /** The page goes there by itself. Whoever says so sees to it that it does so once. */
  isByItself?: true;
}

/** Turns whatever was thrown into one of our problems: fixed text, no host, no token, no foreign words (ER2, S9). */
export function buildErrorHandler(options: ErrorHandlerOptions) {
  const { isSecure, loginPath, findStartAgain, answerSilently, metrics } = options;
  return function handleError(error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const known = toProblem(error);
    const status = known.statusCode ?? 500;
    metrics.problems.inc({ code: known.code });
    if (known.code === 'BFF_INTERNAL') request.log.error({ fault: describeError(error) }, 'unexpected error');
    else if (status >= 500) request.log.warn({ fault: describeError(error) }, 'request failed');

    const kind = request.routeOptions.config?.kind;
    if (kind !== 'api') closeUnread(request, reply);
    const isPage = isForPages(kind, status) && isNavigation(request.headers);
    reply.code(status);
    for (const [name, value] of Object.entries(ownHeaders(isSecure))) reply.header(name, value);
    // Tells our refusals from an upstream's own (RFC 9209, ER4).
    const received = known.receivedStatus === undefined ? '' : `; received-status=${known.receivedStatus}`;
    reply.header('proxy-status', `cloakroom; error=http_request_denied; details="${known.code}"${received}`);
    if (known.retryAfterSeconds !== undefined || status === 503)
      reply.header('retry-after', String(known.retryAfterSeconds ?? 1));
    // A caller that brought a token has no login here to be sent to.
    const { loginUrl = loginPath, challenge, scheme = 'Session' } = known;
    if (status === 401 || known.scheme !== undefined)
      reply.header('www-authenticate', `${scheme} realm="cloakroom"${challenge === undefined ? '' : `, ${challenge}`}`);
    const { expires = [], clearCookiesPath } = known;
    if (expires.length > 0) reply.header('set-cookie', expiredCookies(expires, isSecure));
    const answered = answerSilently?.(request, reply, known);
    if (answered !== undefined) return answered;
    if (isPage) {
      const startAgain = findStartAgain?.(request);
      const again = startAgain?.url ?? loginUrl ?? '/';
      if (startAgain?.isByItself === true) reply.header('refresh', `0; url=${again}`);
      const page: ErrorPage = {
        title: known.isPermanent === true ? titleOf(500) : titleOf(status),
        message: known.message,
        code: known.code,
        requestId: request.id,
        again,
      };
      if (clearCookiesPath !== undefined) {
        page.clearCookies = clearCookiesPath;
        reply.header('referrer-policy', 'same-origin'); // else the form's Origin would be null
      }
      return reply.type('text/html; charset=utf-8').send(renderErrorPage(page));
    }
    const helpsToLogIn =
      (status === 401 && scheme === 'Session') || known.code.startsWith('BFF_LOGIN_') || known.loginHelps === true;
    return reply.type('application/problem+json').send(
      JSON.stringify({
        type: 'about:blank',
        code: known.code,
        title: known.message,
        status,
        ...(known.detail === undefined ? {} : { detail: known.detail }),
        requestId: request.id,
        ...(helpsToLogIn && loginUrl !== undefined ? { loginUrl } : {}),
      }),
    );
  };
}

function toProblem(error: FastifyError | Error): Problem {
  if (isProblem(error)) return error;
  if (error instanceof StoreUnavailableError) return problem(StoreUnavailable, { cause: error, retryAfterSeconds: 1 });
  switch ('statusCode' in error ? error.statusCode : undefined) {
    case 400:
      return problem('code' in error && error.code === 'FST_ERR_BAD_URL' ? PathNotCanonical : RequestMalformed, {
        cause: error,
      });
    case 408:
      return problem(RequestTimeout, { cause: error });
    case 413:
      return problem(BodyTooLarge, { cause: error });
    case 414:
      return problem(UriTooLong, { cause: error });
    case 415:
      return problem(MediaTypeUnsupported, { cause: error });
    case 431:
      return problem(HeadersTooMany, { cause: error });
    default:
      return problem(Internal, { cause: error });
  }
}

/** Size is judged before it matters what a route would have done: only calls of APIs never get a page. */
function isForPages(kind: FastifyContextConfig['kind'], status: number): boolean {
  return kind === 'endpoint' || ((status === 414 || status === 431) && kind !== 'api' && kind !== 'forward-auth');
}

function titleOf(status: number): string {
  if (status === 503) return 'Please try again shortly';
  return status === 404 ? 'Nothing here' : status === 429 ? 'Too many attempts' : 'That did not work';
}
