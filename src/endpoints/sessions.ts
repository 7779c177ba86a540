import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { forgetInBrowser } from '../logout/logout.ts';
import { problem, RouteUnknown, SessionRequired } from '../problems/errors.ts';
import type { Session } from '../session/session.ts';
import { tokensOf } from '../tokens/token-set.ts';

/** `GET /bff/sessions`: where this user is logged in. */
export async function listMySessions({ sessions }: FrontendContext, request: FastifyRequest): Promise<unknown> {
  const current = requireSession(request);
  const listed = await sessions.list(whoseAre(current));
  return {
    sessions: listed.map(({ handle, createdAt, lastSeenAt, expiresAt, identity }) => ({
      id: handle,
      current: handle === current.handle,
      createdAt,
      lastSeenAt,
      expiresAt,
      device: identity.device ?? 'unknown',
    })),
  };
}

/** `DELETE /bff/sessions/:id`: ends one of them, the current one included. */
export async function endMySession(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ ended: number }> {
  const { sessions, frontend } = context;
  const current = requireSession(request);
  const { id } = request.params as { id: string };
  // Only of the list of this user: somebody else's id is as unknown as one that never was.
  const mine = await sessions.list(whoseAre(current));
  if (!mine.some(({ handle }) => handle === id)) throw problem(RouteUnknown);
  const { kind } = await sessions.end(id, 'revoked-by-user');
  if (id === current.handle) await forget(context, request, reply);
  request.log.info(
    { frontend: frontend.name, session: id.slice(0, 12), audit: 'session_revoked' },
    'session ended by its user',
  );
  return counted(context, kind === 'ended' ? 1 : 0);
}

/** `DELETE /bff/sessions`: logs out everywhere. */
export async function endMySessions(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ ended: number }> {
  const ended = await context.sessions.endAll(whoseAre(requireSession(request)), 'revoked-by-user');
  await forget(context, request, reply);
  request.log.info({ frontend: context.frontend.name, ended, audit: 'sessions_revoked' }, 'logged out everywhere');
  return counted(context, ended);
}

function requireSession(request: FastifyRequest): Session {
  const { current } = request.session;
  if (current === undefined) throw problem(SessionRequired);
  return current;
}

function whoseAre({ identity }: Session) {
  return { issuer: identity.issuer, subject: identity.subject };
}

/** The answer that says how many ended, counted as logouts. */
function counted({ metrics, frontend }: FrontendContext, ended: number): { ended: number } {
  metrics.logouts.inc({ frontend: frontend.name, kind: 'by-user' }, ended);
  return { ended };
}

/** What a logout does besides. Only this browser's refresh token can be revoked: no other id is at hand to open one. */
async function forget(
  { frontend, server, coordinator }: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const { refreshToken } = tokensOf(requireSession(request));
  await request.session.destroy();
  forgetInBrowser(frontend, reply);
  if (server.config.revokeOnLogout && refreshToken !== undefined) coordinator.revoke(refreshToken);
}
