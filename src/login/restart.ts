import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { buildStepUpUrl } from '../frontend/step-up-link.ts';
import { cookieValues } from '../http/cookies.ts';
import type { Problem } from '../problems/errors.ts';
import { transactionCookieAttributes } from './login.ts';
import type { LoginTransaction } from './transaction.ts';

/** A browser that was restarted a moment ago is not restarted again: no loops. Seconds. */
const restartGuardSeconds = 60;

/** With a dot, as the login cookies: no session cookie of another frontend can have this name. */
export function restartCookieName(sessionCookieName: string): string {
  return `${sessionCookieName}.restarted`;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Where the error page leads by itself, once. */
    restartUrl?: string;
  }
}

/**
 * A callback that came late or twice belongs to a login of this very browser, so it is safe to begin again: the error
 * page does so by itself, once, and offers a link after that.
 */
export function offerRestart(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
  { returnTo, isStepUp, request: asked }: LoginTransaction,
  error: Problem,
): Problem {
  const name = restartCookieName(context.frontend.cookieName);
  const attributes = transactionCookieAttributes(context);
  if (cookieValues(request.headers.cookie, name).length === 0) {
    reply.setCookie(name, '1', { ...attributes, maxAge: restartGuardSeconds });
    const loginUrl = isStepUp === true ? `${buildStepUpUrl(context, asked)}&` : `${context.loginPath}?`;
    request.restartUrl = `${loginUrl}return_to=${encodeURIComponent(returnTo)}`;
  }
  return error;
}
