import { createHash } from 'node:crypto';
import { decodeProtectedHeader, errors, type JWTPayload } from 'jose';
import type { Secret } from '../crypto/secret.ts';
import { CallFailedError } from '../issuer/call.ts';
import { difference, KeysUnavailableError, UntrustedAnswerError } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import type { TokenResponse } from './token-response.ts';

/** Deeper claims are no claims; they overflow the stack of whoever writes them as JSON again (T38). */
export const deepestClaim = 32;

/** The claims of a verified ID token. */
export interface IdTokenClaims extends JWTPayload {
  sub: string;
  iat: number;
}

/**
 * Verifies an ID token beyond what openid-client does by default (S14): its signature, `at_hash`, the window of `iat`,
 * extra audiences and `azp`, the form of `sub`. OpenID Connect Core §3.1.3.7, §3.1.3.8.
 */
export async function verifyIdToken(
  server: AuthorizationServer,
  response: TokenResponse,
): Promise<IdTokenClaims | undefined> {
  const { idToken } = response;
  if (idToken === undefined) return undefined;
  const { config } = server;
  const tolerance = config.clockTolerance / 1000;
  const now = server.nowMs() / 1000;
  const rules = {
    issuer: config.issuer,
    audience: config.clientId,
    algorithms: config.idTokenSigningAlgorithms,
    requiredClaims: ['sub', 'iat', 'exp'],
    clockTolerance: tolerance,
    currentDate: new Date(server.nowMs()),
  };
  const verified = server.keys.verify(idToken.reveal(), rules, 'server');
  const { payload, protectedHeader } = await verified.catch((error: unknown) => {
    if (error instanceof CallFailedError || error instanceof KeysUnavailableError) throw error;
    const fault = timeFault(error, now, tolerance);
    if (fault !== undefined) throw new UntimelyIdTokenError(`ID token: ${fault}`);
    if (error instanceof errors.JOSEAlgNotAllowed) {
      throw new UntrustedAnswerError('ID token: its algorithm is not taken', error, {
        mistake: 'id-token-algorithm',
        ...difference(config.idTokenSigningAlgorithms, signingAlgorithmOf(idToken)),
      });
    }
    throw new UntrustedAnswerError(error instanceof errors.JOSEError ? `ID token: ${error.code}` : 'ID token', error);
  });

  const { sub, iat = 0, exp = 0 } = payload;
  if (!Number.isSafeInteger(Math.floor(exp)) || !Number.isSafeInteger(Math.floor(iat)))
    throw new UntrustedAnswerError('ID token: absurd time');
  if (typeof sub !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(sub))
    throw new UntrustedAnswerError('ID token: sub is not valid');
  if (isDeeperThan(deepestClaim, payload)) throw new UntrustedAnswerError('ID token: its claims are nested too deeply');
  checkAudience(payload, config.clientId, config.trustedAudiences);
  checkAccessTokenHash(payload.at_hash, protectedHeader.alg, response.accessToken.reveal());
  // One that is older was not made for the answer that it came in. Last, so that nothing else is wrong with it.
  const maxAge = { name: 'idTokenMaxAge', seconds: config.idTokenMaxAge / 1000 };
  const fault = issueFault(now - iat, tolerance, maxAge);
  if (fault !== undefined) throw new UntimelyIdTokenError(`ID token: ${fault}`);
  server.idTokenAlgorithms.add(protectedHeader.alg);
  return { ...payload, sub, iat };
}

/** What a verified ID token is signed with. */
export function signingAlgorithmOf(idToken: Secret): string {
  return decodeProtectedHeader(idToken.reveal()).alg ?? 'none';
}

/** The ID token is signed by the issuer but not for now: it is an old one, or one of the two clocks is wrong. */
export class UntimelyIdTokenError extends UntrustedAnswerError {}

/** What jose found wrong with `exp` or `nbf`, and by how many seconds; `undefined` for any other error. */
export function timeFault(error: unknown, now: number, tolerance: number): string | undefined {
  if (error instanceof errors.JWTExpired) return outside('exp', now - Number(error.payload.exp), tolerance);
  const isNotYet =
    error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf' && error.reason === 'check_failed';
  return isNotYet ? outside('nbf', now - Number(error.payload.nbf), tolerance) : undefined;
}

/** What is wrong with an `iat` that is so many seconds ago, and by how many. */
export function issueFault(
  ago: number,
  tolerance: number,
  maxAge: { name: string; seconds: number },
): string | undefined {
  if (-ago > tolerance) return outside('iat', ago, tolerance);
  return ago > maxAge.seconds + tolerance
    ? outside('iat', ago, maxAge.seconds + tolerance, `${maxAge.name} and `)
    : undefined;
}

/** `allowed`: how far away the instant may be that the claim names, by `settings` and `clockTolerance`. Seconds. */
function outside(claim: string, ago: number, allowed: number, settings = ''): string {
  const distance = Math.abs(ago);
  const excess = Math.max(1, Math.ceil(distance - allowed));
  return `${claim} is ${Math.ceil(distance)} s ${ago < 0 ? 'ahead' : 'ago'}, ${excess} s outside of ${settings}clockTolerance`;
}

function checkAudience(payload: JWTPayload, clientId: string, trusted: string[]): void {
  const audiences = [payload.aud].flat();
  const { azp } = payload;
  if (azp !== undefined && azp !== clientId) throw new UntrustedAnswerError('ID token: azp is another client');
  const others = audiences.filter((audience) => audience !== clientId);
  if (others.length === 0) return;
  if (others.some((audience) => audience === undefined || !trusted.includes(audience)) || azp === undefined) {
    throw new UntrustedAnswerError('ID token: it is also for an audience that is not trusted');
  }
}

export function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(levels - 1, inner));
}

/** Left half of the access token's hash, with the hash of the signature algorithm (Core §3.1.3.6). */
function checkAccessTokenHash(expected: unknown, algorithm: string, accessToken: string): void {
  if (expected === undefined) return;
  const bits = /(256|384|512)$/.exec(algorithm)?.[1] ?? '512'; // EdDSA (Ed25519) goes with SHA-512
  const digest = createHash(`sha${bits}`).update(accessToken).digest();
  if (expected !== digest.subarray(0, digest.length / 2).toString('base64url')) {
    throw new UntrustedAnswerError('ID token: at_hash does not fit the access token');
  }
}
