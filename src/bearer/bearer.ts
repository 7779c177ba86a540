import { decodeJwt, decodeProtectedHeader, errors, type JWTHeaderParameters } from 'jose';
import type { BearerIssuer } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';
import { type Fault, KeysUnavailableError, sortFault } from '../issuer/faults.ts';
import { type BearerIdentity, buildBearerIdentity, type Claims, claimFault, mergeClaims } from './claims.ts';
import { createFailures, TooManyFailuresError } from './failures.ts';
import {
  type BearerPeer,
  type BearerPeerOptions,
  createBearerPeer,
  headerFault,
  type UnverifiedJwt,
  verifySignature,
} from './issuer.ts';
import { createRemembered, longestRemembered } from './remembered.ts';

/** What came of a token that a caller brought. `issuer` is the configured name of the one that it names, or `none`. */
export type VerifiedBearer =
  | { kind: 'valid'; issuer: string; identity: BearerIdentity }
  | { kind: 'invalid'; issuer: string; reason: string }
  /** Bound to a key of the caller, which nobody has shown here. */
  | { kind: 'bound'; issuer: string }
  /** Whoever sent it has sent too many bad ones: it was not looked at. */
  | { kind: 'limited'; issuer: string; retryAfterSeconds: number }
  /** Nothing is known about it: 503, never 401 and never let through. */
  | { kind: 'unavailable'; issuer: string; fault: Fault };

export interface BearerVerifier {
  /**
   * `own`: the names of the API itself, one of which must be an audience of the token; none if it has no name. `client`:
   * who sent it, as limits count.
   */
  verify(token: string, own: string[], client?: string): Promise<VerifiedBearer>;
  /** Reads metadata ahead of the first token. */
  start(): void;
  close(): Promise<void>;
}

/** Before anything is parsed. Microsoft Entra lists up to 200 groups, which make 10 KiB. Characters. */
const longestToken = 12 * 1024;

/** Verifies access tokens of the configured issuers (RFC 9068, RFC 7662). Its state is keys and answers, never a session. */
export function createBearerVerifier(issuers: BearerIssuer[], options: BearerPeerOptions): BearerVerifier {
  const { nowMs } = options;
  const failures = createFailures(nowMs);
  const peers = issuers.map((issuer) => createBearerPeer(issuer, failures, options));
  const byIssuer = new Map(peers.map((peer) => [peer.config.issuer, peer]));
  const introspecting = peers.find(({ introspect }) => introspect !== undefined);

  /** JWTs that were good: their callers are not stopped by what others behind the same address bring. */
  const goodJwts = createRemembered<true>();

  /** The claims, or what is wrong with the token. */
  async function verified(
    peer: BearerPeer,
    token: string,
    jwt: UnverifiedJwt,
    own: string[],
    client: string,
  ): Promise<Claims | string> {
    const { config } = peer;
    const isAsked = config.introspection?.for === 'all';
    const now = nowMs();
    // First what needs no key: a token that is over or meant for others makes nobody look for its key.
    const fault = headerFault(jwt, config) ?? claimFault(jwt.claims, config, own, now);
    if (fault !== undefined) return fault;
    const keys = await peer.keys();
    if (keys === undefined) return isAsked ? introspected(peer, token, client) : 'not opaque';
    const name = hashId(token);
    const isKnown = goodJwts.get(name, now) !== undefined;
    if (!isKnown) failures.check(client);
    const claims = await verifySignature(token, keys, config, now);
    if (!isKnown) goodJwts.set(name, true, now + longestRemembered);
    const answer = isAsked ? await introspected(peer, token, client) : claims;
    return answer === claims || typeof answer === 'string' ? answer : mergeClaims(claims, answer);
  }

  async function judge(token: string, own: string[], client: string): Promise<VerifiedBearer> {
    const jwt = readJwt(token);
    const peer = jwt === undefined ? introspecting : byIssuer.get(String(jwt.claims.iss));
    if (peer === undefined) return { kind: 'invalid', issuer: 'none', reason: jwt === undefined ? 'not a JWT' : 'iss' };
    const { config } = peer;
    const refusal = (reason: string): VerifiedBearer =>
      reason === 'cnf' ? { kind: 'bound', issuer: config.name } : { kind: 'invalid', issuer: config.name, reason };
    try {
      const found =
        jwt === undefined ? await introspected(peer, token, client) : await verified(peer, token, jwt, own, client);
      if (typeof found === 'string') return refusal(found);
      const fault = claimFault(found, config, own, nowMs());
      return fault === undefined
        ? { kind: 'valid', issuer: config.name, identity: buildBearerIdentity(found, config) }
        : refusal(fault);
    } catch (error) {
      if (error instanceof TooManyFailuresError)
        return { kind: 'limited', issuer: config.name, retryAfterSeconds: error.retryAfterSeconds };
      const isUnknownKey = error instanceof KeysUnavailableError && error.isUnknownKey;
      // A bad signature counts even while nobody can say whether it is the key that changed: it costs the same.
      if (error instanceof Error && error.cause instanceof errors.JWSSignatureVerificationFailed) failures.note(client);
      if (error instanceof errors.JOSEError || isUnknownKey) {
        failures.note(client);
        return refusal(isUnknownKey ? 'unknown key' : (error as errors.JOSEError).code);
      }
      return { kind: 'unavailable', issuer: config.name, fault: sortFault(error) };
    }
  }

  return {
    async verify(token, own, client = '') {
      return token.length > longestToken
        ? { kind: 'invalid', issuer: 'none', reason: 'too long' }
        : judge(token, own, client);
    },
    start() {
      for (const peer of peers) peer.start();
    },
    async close() {
      await Promise.all(peers.map((peer) => peer.close()));
    },
  };
}

async function introspected(
  { config, introspect }: BearerPeer,
  token: string,
  client: string,
): Promise<Claims | string> {
  const answer = await introspect?.(token, client);
  if (answer?.kind !== 'active') return 'inactive';
  // Whoever answers is the issuer; what it says about itself must not differ. A refresh token has no type, or another.
  const { token_type: type = 'Bearer' } = answer.claims;
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') return 'token_type';
  return { iss: config.issuer, ...answer.claims };
}

/** What a token says about itself if it is a JWT; `undefined` for an opaque one. */
function readJwt(token: string): UnverifiedJwt | undefined {
  if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return undefined;
  try {
    return { header: decodeProtectedHeader(token) as JWTHeaderParameters, claims: decodeJwt(token) };
  } catch {
    return undefined;
  }
}
