import { decodeJwt, type JWTPayload } from 'jose';
import * as oidc from 'openid-client';
import type { Secret } from '../config/secret.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { type Fault, sortFault } from './faults.ts';
import { type IdTokenClaims, verifyIdToken } from './id-token.ts';
import { acceptTokenResponse, type TokenResponse } from './token-response.ts';

/** What the session knows that a refreshed ID token must not contradict (Core §12.2). */
export interface KnownSubject {
  issuer: string;
  subject: string;
  nonce?: string;
  authTime?: number;
}

export type Refreshed =
  | { kind: 'refreshed'; response: TokenResponse; claims?: IdTokenClaims }
  /** The answer is about somebody else or for another client: end the session, tell the audit log (RF4, T115). */
  | { kind: 'foreign'; response?: TokenResponse }
  | { kind: 'failed'; fault: Fault };

/** One refresh token grant (RFC 6749 §6). Never tied to a browser's request (RF6). */
export async function refreshGrant(
  server: AuthorizationServer,
  refreshToken: Secret,
  known: KnownSubject,
): Promise<Refreshed> {
  let response: TokenResponse | undefined;
  try {
    const configuration = await server.configuration();
    const parameters = new URLSearchParams();
    for (const resource of server.config.resources) parameters.append('resource', resource);
    response = acceptTokenResponse(await oidc.refreshTokenGrant(configuration, refreshToken.reveal(), parameters));
    const claims = await verifyIdToken(server, response);
    if (claims !== undefined && !isSameSubject(claims, known)) return { kind: 'foreign', response };
    return { kind: 'refreshed', response, ...(claims === undefined ? {} : { claims }) };
  } catch (error) {
    const fault = sortFault(error);
    // openid-client compared iss and aud.
    if (fault.kind === 'untrusted' && fault.reason === 'OAUTH_JWT_CLAIM_COMPARISON_FAILED') return { kind: 'foreign' };
    // The rotation is done and only the signing keys can't be fetched: losing the new tokens would log the user out.
    // The answer came over verified TLS (Core §3.1.3.7 no. 6); its claims are not taken over.
    if (response?.idToken !== undefined && fault.kind === 'unavailable') {
      return isSameSubject(decodeJwt(response.idToken.reveal()), known)
        ? { kind: 'refreshed', response }
        : { kind: 'foreign', response };
    }
    return { kind: 'failed', fault };
  }
}

function isSameSubject(claims: JWTPayload, known: KnownSubject): boolean {
  return (
    claims.iss === known.issuer &&
    claims.sub === known.subject &&
    (claims.nonce === undefined || claims.nonce === known.nonce) &&
    (claims.auth_time === undefined || known.authTime === undefined || claims.auth_time === known.authTime)
  );
}
