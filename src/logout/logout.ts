import { timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Frontend } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isPrefetch } from '../http/request-source.ts';
import type { EndSession, LogoutHint } from '../oidc/logout.ts';
import { CsrfRejected, LogoutSidInvalid, problem } from '../problems/errors.ts';
import type { Identity, Session } from '../session/session.ts';
import { readTicket } from '../session/ticket.ts';
import { tokensOf } from '../tokens/token-set.ts';
import { addressOf, endSessionOf, goToEndSession, isOwnNavigation } from './end-session.ts';

/**
 * `POST /bff/logout`: ends the session, if there still is one, and says where to log out at the authorization server too
 * (W26). The one way out of a session cookie that we can't read, which nothing else clears (W7).
 */
export async function logout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ endSessionUrl: string | null }> {
  const { frontend, signer } = context;
  const { kind } = readTicket(request.headers.cookie, frontend.cookieName, signer);
  if (kind === 'forged' || kind === 'ambiguous') reply.clearCookie(frontend.cookieName);
  const endSession = await endOwnSession(context, request, reply);
  return { endSessionUrl: endSession === undefined ? null : await addressOf(context, endSession) };
}

/** `GET /bff/logout?sid=…`: the same as a link. The `sid` keeps another site's image from logging anyone out (T62). */
export async function logoutByLink(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  // A browser that loads the page's links ahead of time must not log its user out. It drops this answer and asks again.
  if (isPrefetch(request.headers)) throw problem(CsrfRejected);
  const { current } = request.session;
  const { sid } = request.query as Record<string, unknown>;
  const { frontend, signer } = context;
  const ticket = readTicket(request.headers.cookie, frontend.cookieName, signer);
  // Also of a session that is over by now, if the browser still has its cookie.
  const isProven = ticket.kind === 'valid' && typeof sid === 'string' && isEqual(sid, logoutSid(ticket.sessionId));
  if (current !== undefined && !isProven) throw problem(LogoutSidInvalid);
  const mayLeave = isProven || isOwnNavigation(request);
  return goToEndSession(context, request, reply, mayLeave ? await endOwnSession(context, request, reply) : undefined);
}

/** Proof for a logout by link: only the session's own browser can know it (CS6). */
export function logoutSid(sessionId: string): string {
  return hashId('logout', sessionId);
}

/**
 * The local logout comes first and waits on nobody (LO4). When the store can't be asked this throws: saying "logged
 * out" would be a lie. Returns where the browser logs out at the authorization server.
 */
async function endOwnSession(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<EndSession | undefined> {
  const { frontend, server, coordinator, metrics } = context;
  const { current } = request.session;
  // The session plugin clears the cookie of a session that is over, if the cookie came along. A link on another site
  // comes without it: an answer that cleared it anyway would log the user out (T62).
  if (current === undefined) return endSessionOf(context);
  await context.sessions.end(current.handle, 'logout');
  await request.session.destroy();
  forgetInBrowser(frontend, reply);
  metrics.logouts.inc({ frontend: frontend.name, kind: 'rp-initiated' });
  request.log.info({ frontend: frontend.name, session: current.handle.slice(0, 12), audit: 'logout' }, 'logged out');

  const { refreshToken, idToken } = tokensOf(current);
  const { config } = server;
  const endSession = await endSessionOf(context, {
    logoutHint: logoutHintOf(current.identity),
    ...(config.idTokenHint !== false && idToken !== undefined ? { idToken } : {}),
  });
  if (config.revokeOnLogout && refreshToken !== undefined) {
    // Several servers end their session with the token: first the browser gets there, in the time that we would have,
    // and the server itself ends what it knows of (W45).
    if (endSession === undefined) coordinator.revoke(refreshToken);
    else {
      const unless = noteSessions(context, current, request.log);
      coordinator.revoke(refreshToken, { delayMs: config.timeout, unless });
    }
  }
  return endSession;
}

/**
 * Tells later whether the user has logged in again since. Where the browser has not been at the provider's page, the new
 * tokens may share the old one's grant, and would end with it (ADR 5).
 */
function noteSessions(
  { sessions, frontend }: FrontendContext,
  { identity, handle: ended }: Session,
  log: FastifyRequest['log'],
): () => Promise<boolean> {
  const listTheirs = () => sessions.list({ issuer: identity.issuer, subject: identity.subject });
  const before = listTheirs(); // other devices'; nobody waits for it
  before.catch(() => undefined); // then nothing is known, and the token is revoked
  return async () => {
    const known = new Set((await before).map(({ handle }) => handle));
    const isBack = (await listTheirs()).some(({ handle }) => !known.has(handle));
    if (isBack)
      log.info(
        { frontend: frontend.name, session: ended.slice(0, 12) },
        'refresh token was not revoked: its user has logged in again',
      );
    return isBack;
  };
}

/** What the provider gave for this purpose (Entra), else its name for the session or the user. */
function logoutHintOf({ claims, sid, subject }: Identity): LogoutHint['logoutHint'] {
  return typeof claims.login_hint === 'string' ? claims.login_hint : (sid ?? subject);
}

/**
 * The browser drops the cookie, and what it kept of answers where an API lets it. Only in an answer that ended the
 * caller’s own session by its proof: else any site could empty the cache. Chromium looks through its whole cache
 * before it goes on, seconds where it has thousands of entries of whatever site: not where there is nothing to find.
 */
export function forgetInBrowser({ cookieName, apis }: Frontend, reply: FastifyReply): void {
  reply.clearCookie(cookieName);
  if (apis.some(({ cache }) => cache)) reply.header('clear-site-data', '"cache"');
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
