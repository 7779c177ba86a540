import type { FastifyReply, FastifyRequest } from 'fastify';
import { hashId } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isExpectedAlgorithm, verifyLogoutToken } from '../oidc/logout-token.ts';

/**
 * `POST /bff/backchannel-logout`: the authorization server says that a user logged out (OpenID Connect Back-Channel
 * Logout). No cookie, no CSRF header, no session read: the signed logout token is the proof.
 *
 * 200: done, or there was nothing to do. 400: this is no valid logout token for us. 503: Redis or the signing keys
 * can't be asked: send it again.
 */
export async function backchannelLogout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { frontend, server, sessions, store, metrics, nowMs } = context;
  const answerRefusal = () =>
    reply.code(400).send({ error: 'invalid_request', error_description: 'not a valid logout token for this client' });
  const refuse = (reason: string) => {
    request.log.info({ frontend: frontend.name, reason, audit: 'logout_token_refused' }, 'logout token refused');
    return answerRefusal();
  };
  /** The authorization server itself sent it: somebody may have logged out in vain. */
  const refuseAlgorithm = (algorithm: string) => {
    request.log.warn(
      { frontend: frontend.name, reason: 'algorithm', algorithm, audit: 'logout_token_refused' },
      'a logout token is signed with another algorithm than ID tokens: sessions go on. If that is meant, name both in idTokenSigningAlgorithms',
    );
    return answerRefusal();
  };
  const tokens = new URLSearchParams(String(request.body ?? '')).getAll('logout_token');
  const [jwt] = tokens;
  if (jwt === undefined || tokens.length > 1) return refuse(tokens.length > 1 ? 'duplicated' : 'missing');
  const verified = await verifyLogoutToken(server, jwt);
  if (verified.kind === 'invalid') return refuse(verified.reason);
  if (verified.kind === 'other-algorithm') return refuseAlgorithm(verified.algorithm);
  if (verified.kind === 'unavailable') {
    request.log.warn({ frontend: frontend.name, fault: verified.fault }, 'logout token could not be verified');
    return reply.code(503).header('retry-after', '5').send({ error: 'temporarily_unavailable' });
  }

  const { sid, sub, jti, algorithm, iat, usableUntil } = verified.token;
  const tolerance = server.config.clockTolerance / 1000;
  // First the end, then the marker: a store that dies between is asked again by the server, and refuses nothing.
  const marker = hashId('jti', frontend.name, jti);
  if (await store.isUsed(marker)) return refuse('replayed');
  const whose = {
    issuer: server.config.issuer,
    ...(sid === undefined ? {} : { sid }),
    ...(sub === undefined ? {} : { subject: sub }),
  };
  const identities = (await sessions.list(whose)).map(({ identity }) => identity);
  if (!isExpectedAlgorithm(server.config, algorithm, identities, server.idTokenAlgorithms))
    return refuseAlgorithm(algorithm);
  // A login that came after the logout token was made is not what it means, however late it arrives (L-2).
  const count = await sessions.endAll(whose, 'back-channel-logout', iat + tolerance);
  await store.markUsed(marker, Math.max(60, Math.ceil(usableUntil - nowMs() / 1000)));
  metrics.logouts.inc({ frontend: frontend.name, kind: 'back-channel' }, count);
  request.log.info(
    { frontend: frontend.name, count, audit: 'back_channel_logout' },
    'logged out by the authorization server',
  );
  return reply.code(200).send();
}
