import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';

/**
 * `GET /bff/frontchannel-logout?iss=…&sid=…`: loaded by the authorization server in a frame (OpenID Connect Front-Channel
 * Logout). Browsers send no cookie there, so the session is found by `iss` and `sid`; with one of them missing or
 * foreign nothing happens. Whoever knows a `sid` may call this, so it ends our session and revokes nothing (LO12).
 */
export async function frontchannelLogout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { frontend, server, sessions, metrics } = context;
  const { iss, sid } = request.query as Record<string, unknown>;
  const { issuer } = server.config;
  if (iss === issuer && typeof sid === 'string' && sid !== '' && sid.length <= 255) {
    const count = await sessions.endAll({ issuer, sid }, 'front-channel-logout');
    metrics.logouts.inc({ frontend: frontend.name, kind: 'front-channel' }, count);
    request.log.info({ frontend: frontend.name, count, audit: 'front_channel_logout' }, 'front-channel logout');
  }
  // The only page of ours that may be framed, by the authorization server alone.
  reply.removeHeader('x-frame-options');
  reply.removeHeader('cross-origin-resource-policy');
  reply.header('content-security-policy', `default-src 'none'; frame-ancestors ${new URL(issuer).origin}`);
  return reply.type('text/html; charset=utf-8').send('<!doctype html><title>Logged out</title>');
}
