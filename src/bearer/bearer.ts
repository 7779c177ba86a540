import { decodeJwt, decodeProtectedHeader, errors, type JWTHeaderParameters } from 'jose';
import type { BearerIssuer } from '../config/config.ts';
import { type Fault, KeysUnavailableError, sortFault } from '../issuer/faults.ts';
import { type BearerIdentity, buildBearerIdentity, type Claims, claimFault } from './claims.ts';
import {
  type BearerPeer,
  type BearerPeerOptions,
  createBearerPeer,
  headerFault,
  type UnverifiedJwt,
  verifySignature,
} from './issuer.ts';

/** What came of a token that a caller brought. `issuer` is the configured name of the one that it names, or `none`. */
export type VerifiedBearer =
  | { kind: 'valid'; issuer: string; identity: BearerIdentity }
  | { kind: 'invalid'; issuer: string; reason: string }
  /** Bound to a key of the caller, which nobody has shown here. */
  | { kind: 'bound'; issuer: string }
  /** Nothing is known about it: 503, never 401 and never let through. */
  | { kind: 'unavailable'; issuer: string; fault: Fault };

export interface BearerVerifier {
  /** `own`: the names of the API itself, one of which must be an audience of the token; none if it has no name. */
  verify(token: string, own: string[]): Promise<VerifiedBearer>;
  /** Reads metadata ahead of the first token. */
  start(): void;
  close(): Promise<void>;
}

/** Before anything is parsed. Microsoft Entra lists up to 200 groups, which make 10 KiB. Characters. */
const longestToken = 12 * 1024;

/** Verifies access tokens of the configured issuers (RFC 9068, RFC 7662). Its state is keys and answers, never a session. */
export function createBearerVerifier(issuers: BearerIssuer[], options: BearerPeerOptions): BearerVerifier {
  const { nowMs } = options;
  const peers = issuers.map((issuer) => createBearerPeer(issuer, options));
  const byIssuer = new Map(peers.map((peer) => [peer.config.issuer, peer]));
  const introspecting = peers.find(({ introspect }) => introspect !== undefined);

  /** Throws when the issuer can't be asked. */
  async function judge(token: string, own: string[]): Promise<VerifiedBearer> {
    const jwt = readJwt(token);
    const peer = jwt === undefined ? introspecting : byIssuer.get(String(jwt.claims.iss));
    if (peer === undefined) return { kind: 'invalid', issuer: 'none', reason: jwt === undefined ? 'not a JWT' : 'iss' };
    const { config } = peer;
    const refusal = (reason: string): VerifiedBearer =>
      reason === 'cnf' ? { kind: 'bound', issuer: config.name } : { kind: 'invalid', issuer: config.name, reason };
    try {
      const found =
        jwt === undefined ? await introspected(peer, token) : await verified(peer, token, jwt, own, nowMs());
      if (typeof found === 'string') return refusal(found);
      const fault = claimFault(found, config, own, nowMs());
      return fault === undefined
        ? { kind: 'valid', issuer: config.name, identity: buildBearerIdentity(found, config) }
        : refusal(fault);
    } catch (error) {
      if (error instanceof errors.JOSEError) return refusal(error.code);
      if (error instanceof KeysUnavailableError && error.isUnknownKey) return refusal('unknown key');
      return { kind: 'unavailable', issuer: config.name, fault: sortFault(error) };
    }
  }

  return {
    async verify(token, own) {
      return token.length > longestToken ? { kind: 'invalid', issuer: 'none', reason: 'too long' } : judge(token, own);
    },
    start() {
      for (const peer of peers) peer.start();
    },
    async close() {
      await Promise.all(peers.map((peer) => peer.close()));
    },
  };
}

/** The claims, or what is wrong with the token. */
async function verified(
  { config, keys }: BearerPeer,
  token: string,
  jwt: UnverifiedJwt,
  own: string[],
  nowMs: number,
): Promise<Claims | string> {
  if (keys === undefined) return 'not opaque';
  // First what needs no key: a token that is over or meant for others makes nobody look for its key.
  const fault = headerFault(jwt, config) ?? claimFault(jwt.claims, config, own, nowMs);
  return fault ?? verifySignature(token, keys, config, nowMs);
}

async function introspected({ config, introspect }: BearerPeer, token: string): Promise<Claims | string> {
  const answer = await introspect?.(token);
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
