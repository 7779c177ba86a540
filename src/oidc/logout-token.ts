import { isDeepStrictEqual } from 'node:util';
import { errors, type JWTPayload } from 'jose';
import { type AuthorizationServerConfig, usualSigningAlgorithms } from '../config/config.ts';
import { type Fault, KeysUnavailableError, sortFault } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { issueFault, timeFault } from './id-token.ts';

/** What a valid logout token asks for: one provider session, or all sessions of a subject (Back-Channel Logout §2.4). */
export interface LogoutToken {
  sid?: string;
  sub?: string;
  jti: string;
  /** That it is signed with. */
  algorithm: string;
  /** When it was made, epoch seconds. */
  iat: number;
  /** From then on it is refused for its age, and nobody needs to remember that it was used. Epoch seconds. */
  usableUntil: number;
}

export type VerifiedLogoutToken =
  | { kind: 'valid'; token: LogoutToken }
  | { kind: 'invalid'; reason: string }
  /** Signed by the provider, but not with what the configuration names. */
  | { kind: 'other-algorithm'; algorithm: string }
  /** The keys can't be fetched: the provider may send it again. */
  | { kind: 'unavailable'; fault: Fault };

const longestToken = 12 * 1024;
/** A logout token older than this is stale. Seconds. */
const oldestIssue = 300;
const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout';

/**
 * Verifies a logout token (Back-Channel Logout §2.6). Nothing else that the provider signs passes: an ID token has a
 * nonce or no event, an access token another type (LO6, LO7, LO11).
 */
export async function verifyLogoutToken(server: AuthorizationServer, jwt: string): Promise<VerifiedLogoutToken> {
  const { config } = server;
  const tolerance = config.clockTolerance / 1000;
  if (jwt.length > longestToken) return { kind: 'invalid', reason: 'too long' };
  const rules = {
    issuer: config.issuer,
    audience: config.clientId,
    algorithms: config.idTokenSigningAlgorithms,
    requiredClaims: ['iat', 'exp', 'jti', 'events'],
    clockTolerance: tolerance,
    currentDate: new Date(server.nowMs()),
  };
  try {
    const { payload, protectedHeader } = await server.keys.verify(jwt, rules, 'stranger');
    const reason = faultOf(
      payload,
      protectedHeader.typ,
      server.nowMs() / 1000,
      tolerance,
      config.strictLogoutTokenType,
    );
    if (reason !== undefined) return { kind: 'invalid', reason };
    const { sid, sub, jti = '', iat = 0, exp = 0 } = payload;
    return {
      kind: 'valid',
      token: {
        jti,
        algorithm: protectedHeader.alg,
        iat,
        usableUntil: Math.min(exp, iat + oldestIssue) + tolerance,
        ...(typeof sid === 'string' ? { sid } : {}),
        ...(sub === undefined ? {} : { sub }),
      },
    };
  } catch (error) {
    if (error instanceof errors.JOSEAlgNotAllowed) {
      // Only a token of the provider's own is worth a warning: anybody can send others.
      const others = { ...rules, algorithms: usualSigningAlgorithms };
      const signed = await server.keys.verify(jwt, others, 'stranger').catch(() => undefined);
      if (signed !== undefined) return { kind: 'other-algorithm', algorithm: signed.protectedHeader.alg };
    }
    if (error instanceof errors.JOSEError)
      return { kind: 'invalid', reason: timeFault(error, server.nowMs() / 1000, tolerance) ?? error.code };
    const fault = sortFault(error);
    // A key id that is not in the key set as it is now is made up. Before we could look, nothing is known about it: a
    // provider that has just changed its keys sends the token again.
    const isOurs = fault.kind === 'unavailable' && !(error instanceof KeysUnavailableError && error.isUnknownKey);
    return isOurs ? { kind: 'unavailable', fault } : { kind: 'invalid', reason: 'unknown key' };
  }
}

/**
 * May a logout token have this algorithm? It should be the one that is registered for this client's ID tokens (§2.6): those
 * that the configuration names, else those that the ID tokens of its sessions had. Where they are over already, as after
 * a logout that the user began here, those of all of this client (`ofClient`). Where nothing is known, any: a logout that
 * is missed is worse than one that nobody needed.
 */
export function isExpectedAlgorithm(
  config: Pick<AuthorizationServerConfig, 'idTokenSigningAlgorithms'>,
  algorithm: string,
  sessions: { idTokenAlgorithms?: string[] }[],
  ofClient: Iterable<string> = [],
): boolean {
  if (!isDeepStrictEqual(config.idTokenSigningAlgorithms, usualSigningAlgorithms)) return true; // it is one of them
  if (sessions.some(({ idTokenAlgorithms }) => idTokenAlgorithms === undefined)) return true;
  const had =
    sessions.length === 0 ? [...ofClient] : sessions.flatMap(({ idTokenAlgorithms = [] }) => idTokenAlgorithms);
  return had.length === 0 || had.map(nameOf).includes(nameOf(algorithm));
}

/** One algorithm with two names (RFC 9864). */
function nameOf(algorithm: string): string {
  return algorithm === 'Ed25519' ? 'EdDSA' : algorithm;
}

function faultOf(
  payload: JWTPayload,
  typ: unknown,
  now: number,
  tolerance: number,
  isStrict: boolean,
): string | undefined {
  const { events, iat = 0, jti, sid, sub } = payload;
  // Providers that do not set the type yet are the rule; any other type is a token for something else.
  const type = String(typ ?? 'JWT').toLowerCase();
  if (type !== 'logout+jwt' && (isStrict || type !== 'jwt')) return 'typ';
  if (typeof events !== 'object' || events === null || Array.isArray(events)) return 'events';
  const event: unknown = Object.hasOwn(events, logoutEvent)
    ? (events as Record<string, unknown>)[logoutEvent]
    : undefined;
  if (typeof event !== 'object' || event === null || Array.isArray(event)) return 'events';
  if (Object.hasOwn(payload, 'nonce')) return 'nonce';
  if (typeof jti !== 'string' || jti === '' || jti.length > 512) return 'jti';
  const isUntimely = issueFault(now - iat, tolerance, { name: 'its five minutes', seconds: oldestIssue });
  if (isUntimely !== undefined) return isUntimely;
  const named = [sid, sub].filter((value) => value !== undefined);
  if (named.length === 0 || named.some((value) => typeof value !== 'string' || value === '' || value.length > 255))
    return 'sid or sub';
  return undefined;
}
