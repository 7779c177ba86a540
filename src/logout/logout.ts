import { timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Frontend } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isPrefetch } from '../http/request-source.ts';
import { buildEndSessionUrl } from '../oidc/logout.ts';
import { CsrfRejected, LogoutSidInvalid, problem } from '../problems/errors.ts';
import type { Session } from '../session/session.ts';
import { readTicket } from '../session/ticket.ts';
import { tokensOf } from '../tokens/token-set.ts';

/**
 * `POST /bff/logout`: ends the session and says where to log out at the authorization server too. The one way out of a
 * session cookie that we can't read, which nothing else clears (W7).
 */
export async function logout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ endSessionUrl: string | null }> {
  const { frontend, signer } = context;
  const { kind } = readTicket(request.headers.cookie, frontend.cookieName, signer);
  if (kind === 'forged' || kind === 'ambiguous') reply.clearCookie(frontend.cookieName);
  return { endSessionUrl: (await endSession(context, request, reply)) ?? null };
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
  if (current !== undefined && !(typeof sid === 'string' && isEqual(sid, logoutSid(current))))
    throw problem(LogoutSidInvalid);
  const { frontend } = context;
  const endSessionUrl = await endSession(context, request, reply);
  return reply.redirect(endSessionUrl ?? `${frontend.basePath}${frontend.authorizationServer.postLogoutPath}`, 303);
}

/** Proof for a logout by link: only the session's own browser can know it (CS6). */
export function logoutSid(session: Session): string {
  return hashId('logout', session.id);
}

/**
 * The local logout comes first and waits on nobody (LO4). When the store can't be asked this throws: saying "logged
 * out" would be a lie.
 */
async function endSession(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<string | undefined> {
  const { frontend, server, coordinator, metrics } = context;
  const { current } = request.session;
  // The session plugin clears the cookie of a session that is over, if the cookie came along. A link on another site
  // comes without it: an answer that cleared it anyway would log the user out (T62).
  if (current === undefined) return undefined;
  await context.sessions.end(current.handle, 'logout');
  await request.session.destroy();
  forgetInBrowser(frontend, reply);
  metrics.logouts.inc({ frontend: frontend.name, kind: 'rp-initiated' });
  request.log.info({ frontend: frontend.name, session: current.handle.slice(0, 12), audit: 'logout' }, 'logged out');

  const { refreshToken, idToken } = tokensOf(current);
  const { config } = server;
  if (config.revokeOnLogout && refreshToken !== undefined) coordinator.revoke(refreshToken);
  return buildEndSessionUrl(server, {
    postLogoutRedirectUri: `${frontend.origin}${frontend.basePath}${config.postLogoutPath}`,
    logoutHint: current.identity.sid ?? current.identity.subject,
    ...(config.idTokenHint && idToken !== undefined ? { idToken } : {}),
  });
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
