import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';

/**
 * `GET /bff/frontchannel-logout?iss=…&sid=…`: loaded by the authorization server in a frame (OpenID Connect Front-Channel
 * Logout). Browsers send no cookie there, so the session is found by `iss` and `sid`; with one of them missing or
 * foreign nothing happens, and log and page say why (W49). Whoever knows a `sid` may call this, so it ends our session
 * and revokes nothing (LO12).
 */
export async function frontchannelLogout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { frontend, server, sessions, metrics } = context;
  const { iss, sid } = request.query as Record<string, unknown>;
  const { issuer } = server.config;
  const reasons = [
    ...faultsOf('iss', iss),
    ...faultsOf('sid', sid),
    ...(typeof iss === 'string' && iss !== '' && iss !== issuer ? ['iss is another issuer'] : []),
  ];
  if (reasons.length === 0) {
    const count = await sessions.endAll({ issuer, sid: String(sid) }, 'front-channel-logout');
    metrics.logouts.inc({ frontend: frontend.name, kind: 'front-channel' }, count);
    request.log.info({ frontend: frontend.name, count, audit: 'front_channel_logout' }, 'front-channel logout');
  } else {
    request.log.warn(
      {
        frontend: frontend.name,
        reasons,
        ...(iss === undefined || iss === issuer ? {} : { expected: issuer, received: shownIssuer(iss) }),
        audit: 'front_channel_logout_refused',
      },
      reasons.some((reason) => reason.endsWith('is missing'))
        ? 'a front-channel logout ended nothing: register the client with frontchannel_logout_session_required (at Keycloak: "Front channel logout session required")'
        : 'a front-channel logout ended nothing',
    );
  }
  // The only page of ours that may be framed, by the authorization server alone.
  reply.removeHeader('x-frame-options');
  reply.removeHeader('cross-origin-resource-policy');
  reply.header('content-security-policy', `default-src 'none'; frame-ancestors ${new URL(issuer).origin}`);
  const page = reasons.length === 0 ? '<title>Logged out</title>' : notLoggedOut(reasons);
  return reply.type('text/html; charset=utf-8').send(`<!doctype html>${page}`);
}

/** Why this parameter names nothing. */
function faultsOf(name: string, value: unknown): string[] {
  if (value === undefined || value === '') return [`${name} is missing`];
  if (typeof value !== 'string') return [`${name} is there more than once`];
  return value.length > 255 ? [`${name} is too long`] : [];
}

/** In fixed words only. */
const notLoggedOut = (reasons: string[]) =>
  `<title>Not logged out</title><p>Nobody was logged out by this request: ${reasons.join(', ')}.</p>`;

/** Somebody else's word, and so only when it is as plain as issuers are. */
const shownIssuer = (iss: unknown) =>
  typeof iss === 'string' && iss.length <= 255 && /^https?:\/\/[\w.-]+(:\d+)?(\/[\w./~-]*)?$/.test(iss)
    ? iss
    : undefined;
