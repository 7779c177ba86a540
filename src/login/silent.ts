import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { cookieValues } from '../http/cookies.ts';
import { isFrame, isFromOwnPage } from '../http/request-source.ts';
import { LoginSilentRepeated, type Problem, problem } from '../problems/errors.ts';
import { escapeHtml } from '../problems/page.ts';
import { framedHeaders } from '../problems/security-headers.ts';
import { sendPage } from './pages.ts';
import { transactionCookieAttributes } from './transaction.ts';

/** What an authorization server says where a person would have to do something (OpenID Connect Core §3.1.2.6). */
const personNeeded = [
  'login_required',
  'interaction_required',
  'consent_required',
  'account_selection_required',
] as const;

/** How a silent login (`prompt=none`) ends that logs nobody in. */
export const silentOutcomes = [...personNeeded, 'other_user', 'failed'] as const;
export type SilentOutcome = (typeof silentOutcomes)[number];

declare module 'fastify' {
  interface FastifyRequest {
    /** Nobody waits for a page of ours: whatever comes, the browser goes there, or a frame's page is told. */
    silentLogin?: { returnTo: string; isFrame: boolean };
  }
}

/** So long a page can see the outcome, in `GET /bff/session`. Seconds. */
const outcomeSeconds = 60;
/** So many in a row, each within a minute of the one before, come of a page that does not look at the outcome. */
const mostInARow = 5;

/** With a dot, as the login cookies. */
export function silentCookieName(sessionCookieName: string): string {
  return `${sessionCookieName}.silent`;
}

/** How the last silent login of this browser ended, if it was a moment ago and nobody was logged in by it. */
export function readSilentOutcome(
  { frontend }: FrontendContext,
  request: FastifyRequest,
): { outcome: SilentOutcome; count: number } | undefined {
  const [value = '', another] = cookieValues(request.headers.cookie, silentCookieName(frontend.cookieName));
  const [, name, count] = /^([a-z_]+)\.(\d)$/.exec(value) ?? [];
  const outcome = silentOutcomes.find((one) => one === name);
  return outcome === undefined || another !== undefined ? undefined : { outcome, count: Number(count) };
}

/**
 * The one exception to "a frame is no navigation": a silent login may run in a frame, where the configuration allows it
 * and our own page opened it. It shows nothing, so nobody can be tricked into clicking it.
 */
export function isSilentFrame(
  { frontend }: FrontendContext,
  { method, headers }: FastifyRequest,
  parameters: Record<string, unknown>,
): boolean {
  const { silentLoginFrame } = frontend.authorizationServer;
  return (
    silentLoginFrame && method === 'GET' && parameters.prompt === 'none' && isFrame(headers) && isFromOwnPage(headers)
  );
}

/** An answer that another site’s redirect or page brought into a frame: browsers give it few of our cookies, and take none. */
export function isBroughtIntoFrame({ frontend }: FrontendContext, { headers }: FastifyRequest): boolean {
  return frontend.authorizationServer.silentLoginFrame && isFrame(headers) && !isFromOwnPage(headers);
}

/** From here on every error of this request ends silently. But a page that would go on for ever gets a page of ours. */
export function beginSilently(
  context: FrontendContext,
  request: FastifyRequest,
  login: { returnTo: string; isFrame: boolean },
): void {
  if ((readSilentOutcome(context, request)?.count ?? 0) >= mostInARow) throw problem(LoginSilentRepeated);
  request.silentLogin = login;
}

/** Is this an answer that a silent login is made to get? */
export function isPersonNeeded(error: string): error is SilentOutcome {
  return personNeeded.some((one) => one === error);
}

/** Nobody was logged in. */
export function endSilently(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
  outcome: SilentOutcome,
  code?: string,
): FastifyReply {
  const { frontend } = context;
  const { returnTo = '/', isFrame: isFramed = true } = request.silentLogin ?? {};
  if (request.silentLogin !== undefined) {
    const count = Math.min(mostInARow, (readSilentOutcome(context, request)?.count ?? 0) + 1);
    const attributes = { ...transactionCookieAttributes(context), maxAge: outcomeSeconds };
    reply.setCookie(silentCookieName(frontend.cookieName), `${outcome}.${count}`, attributes);
  }
  if (!isFramed) return reply.redirect(returnTo, 303);
  return sendFrameMessage(reply, frontend.origin, { outcome, ...(code === undefined ? {} : { code }) });
}

/** What the page around a frame is told. `source` and `isLoggedIn` are the names that pages know from other such servers. */
export interface FrameMessage {
  source: 'bff-silent-login';
  isLoggedIn: boolean;
  outcome: 'logged_in' | SilentOutcome;
  /** The error, where it was one. */
  code?: string | undefined;
}

// The code in the frame's address is used up, and yet nothing to leave there (CB11).
const script = `history.replaceState(null, '', location.pathname);
const { message, origin } = document.body.dataset;
parent.postMessage(JSON.parse(message), origin);`;
const scriptHash = createHash('sha256').update(script).digest('base64');

/** Tells the page around the frame, and no page of another origin. */
export function sendFrameMessage(
  reply: FastifyReply,
  origin: string,
  said: Pick<FrameMessage, 'outcome' | 'code'>,
): FastifyReply {
  const message: FrameMessage = { source: 'bff-silent-login', isLoggedIn: said.outcome === 'logged_in', ...said };
  const data = `data-origin="${escapeHtml(origin)}" data-message="${escapeHtml(JSON.stringify(message))}"`;
  return sendPage(reply.headers(framedHeaders(scriptHash)), `<body ${data}><script>${script}</script></body>`);
}

/** For the error handler: `undefined` where a person waits, or a script that can read a problem. */
export function failSilently(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
  { code }: Problem,
): FastifyReply | undefined {
  const { frontend, loginPath } = context;
  const { url } = request.routeOptions;
  const isOfLogin = url === loginPath || url === `${frontend.basePath}/bff/callback`;
  const isFramed = isOfLogin && frontend.authorizationServer.silentLoginFrame && isFrame(request.headers);
  if (request.silentLogin === undefined && !isFramed) return undefined;
  return endSilently(context, request, reply, code === 'BFF_LOGIN_OTHER_USER' ? 'other_user' : 'failed', code);
}
