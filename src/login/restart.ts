import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { buildStepUpUrl, openStepUp } from '../frontend/step-up-link.ts';
import { cookieValues } from '../http/cookies.ts';
import type { StartAgain } from '../http/error-handler.ts';
import { isFrame } from '../http/request-source.ts';
import { acceptTarget } from '../http/return-to.ts';
import type { Problem } from '../problems/errors.ts';
import { readParameters } from './third-party.ts';
import { type LoginTransaction, transactionCookieAttributes } from './transaction.ts';

/** A browser that was restarted a moment ago is not restarted again: no loops. Seconds. */
const restartGuardSeconds = 60;

/** With a dot, as the login cookies: no session cookie of another frontend can have this name. */
export function restartCookieName(sessionCookieName: string): string {
  return `${sessionCookieName}.restarted`;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Where the same login begins again, once it is known which one this request is about. */
    startAgain?: StartAgain;
  }
}

/** From here on every error of this request leads back to where its login was for (W27), silently if that was silent. */
export function rememberLogin(
  context: FrontendContext,
  request: FastifyRequest,
  { returnTo, isStepUp, silent, request: asked }: LoginTransaction,
): void {
  const login = isStepUp === true ? `${buildStepUpUrl(context, asked)}&` : `${context.loginPath}?`;
  request.startAgain = { url: `${login}return_to=${encodeURIComponent(returnTo)}` };
  if (silent !== undefined)
    request.silentLogin = { returnTo, isFrame: silent.isFrame === true && isFrame(request.headers) };
}

/** Where "start again" leads on the page of a login that failed, also of one that did not even begin. */
export function findStartAgain(context: FrontendContext, request: FastifyRequest): StartAgain | undefined {
  const { frontend, loginPath } = context;
  if (request.startAgain !== undefined || request.routeOptions.url !== loginPath) return request.startAgain;
  const { step_up: stepUp, target_link_uri: target, return_to: returnTo = target } = readParameters(request);
  const link = openStepUp(context, stepUp) === undefined ? '' : `step_up=${String(stepUp)}&`;
  const path = acceptTarget(returnTo, frontend.origin, frontend.basePath);
  return { url: `${loginPath}?${link}return_to=${encodeURIComponent(path)}` };
}

/**
 * What came late, twice, or back with "not now", belongs to a login of this very browser, so it is safe to begin again:
 * the error page does so by itself, once, and offers a link after that.
 */
export function offerRestart(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
  error: Problem,
): Problem {
  const name = restartCookieName(context.frontend.cookieName);
  if (request.silentLogin !== undefined || request.startAgain === undefined) return error;
  if (cookieValues(request.headers.cookie, name).length === 0) {
    reply.setCookie(name, '1', { ...transactionCookieAttributes(context), maxAge: restartGuardSeconds });
    request.startAgain.isByItself = true;
  }
  return error;
}
