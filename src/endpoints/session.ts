import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { readSilentOutcome } from '../login/silent.ts';
import { logoutSid } from '../logout/logout.ts';
import { problem, SessionRequired, TokenUnavailable } from '../problems/errors.ts';
import { idleExpiresAt, type Session } from '../session/session.ts';
import { tokensOf } from '../tokens/token-set.ts';
import type { SessionAnswer } from './shapes.ts';

/** `GET /bff/session`: who is logged in, until when. Never keeps a session alive (SE8). */
export async function checkSession(context: FrontendContext, request: FastifyRequest): Promise<SessionAnswer> {
  return describeSession(context, request, request.session.current);
}

/** `POST /bff/refresh`: renews tokens and claims now, for instance after a role was given. */
export async function refresh(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<SessionAnswer> {
  const id = request.session.current?.id;
  const session = id === undefined ? undefined : await context.sessions.use(id);
  if (session === undefined) throw problem(SessionRequired);
  const outcome = await context.coordinator.refresh(session, { reason: 'asked' });
  switch (outcome.kind) {
    case 'refreshed':
      if (outcome.missed !== undefined) throw problem(TokenUnavailable, { retryAfterSeconds: 1, loginHelps: true });
      return describeSession(context, request, outcome.session);
    case 'ended':
      reply.clearCookie(context.frontend.cookieName);
      throw problem(SessionRequired);
    case 'unavailable':
      throw problem(TokenUnavailable, {
        retryAfterSeconds: outcome.retryAfterMs / 1000,
        loginHelps: outcome.loginHelps === true,
      });
  }
}

function describeSession(
  context: FrontendContext,
  request: FastifyRequest,
  session: Session | undefined,
): SessionAnswer {
  const { frontend, config, sessions, loginPath } = context;
  const silentLogin = readSilentOutcome(context, request)?.outcome;
  const always = { loginUrl: loginPath, ...(silentLogin === undefined ? {} : { silentLogin }) };
  if (session === undefined) return { authenticated: false, ...always };
  const tokens = tokensOf(session);
  const idleEnd = idleExpiresAt(session, sessions.lifetimes);
  const until = (instant: number) => Math.max(0, Math.floor(instant - session.now));
  const { claims } = session.identity;
  return {
    authenticated: true,
    user: Object.fromEntries(
      config.session.claims.filter((name) => Object.hasOwn(claims, name)).map((name) => [name, claims[name]]),
    ),
    session: {
      createdAt: session.createdAt,
      expiresAt: session.expiresAt,
      idleExpiresAt: idleEnd,
      expiresInSeconds: until(session.expiresAt),
      idleExpiresInSeconds: until(idleEnd),
    },
    token: {
      expiresAt: tokens.expiresAt,
      expiresInSeconds: until(tokens.expiresAt),
      refreshable: tokens.refreshToken !== undefined,
      scope: tokens.scope,
    },
    ...always,
    logoutUrl: `${frontend.basePath}/bff/logout?sid=${logoutSid(session.id)}`,
  };
}
