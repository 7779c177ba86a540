import { decodeJwt, type JWTPayload } from 'jose';
import * as oidc from 'openid-client';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, sortFault } from '../issuer/faults.ts';
import type { GrantTarget } from './api-grants.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { type IdTokenClaims, UntimelyIdTokenError, verifyIdToken } from './id-token.ts';
import { acceptTokenResponse, type TokenResponse, unusedIn, unusedOf } from './token-response.ts';
import { askUserInfo, type UserInfoClaims } from './userinfo.ts';

/** Who a refreshed ID token must be about (Core §12.2). When the user authenticated is not part of it (W38). */
export interface KnownSubject {
  issuer: string;
  subject: string;
  nonce?: string;
}

export type Refreshed =
  | {
      kind: 'refreshed';
      response: TokenResponse;
      claims?: IdTokenClaims;
      /** Why there are no new claims although an ID token came. */
      unverified?: string;
      userInfo?: UserInfoClaims;
      /** Why there is none although it was asked for. */
      withoutUserInfo?: Fault;
    }
  /**
   * The answer is about somebody else, for another client or forged: end the session, tell the audit log (RF4, T115).
   * `unused`: the refresh token that came with it, to be revoked.
   */
  | { kind: 'foreign'; reason: string; unused?: Secret }
  /**
   * The server said 200, and nothing that can be used came of it. The refresh token is spent: sending it again would
   * have a server that detects reuse revoke the whole family (W22).
   */
  | { kind: 'spent'; fault: Fault }
  | { kind: 'failed'; fault: Fault };

/**
 * One refresh token grant (RFC 6749 §6), for the login's own token or for one API's `target`, whose token is none for
 * UserInfo. Never tied to a browser's request (RF6).
 */
export async function refreshGrant(
  server: AuthorizationServer,
  refreshToken: Secret,
  known: KnownSubject,
  target?: GrantTarget,
): Promise<Refreshed> {
  const refreshed = await refresh(server, refreshToken, known, target);
  if (refreshed.kind !== 'refreshed' || target !== undefined || server.config.userInfo !== 'always') return refreshed;
  const { response } = refreshed;
  const answer = await askUserInfo(server, response.accessToken, known.subject);
  if (answer.kind === 'claims') return { ...refreshed, userInfo: answer.claims };
  // The rotation is done: whatever else is wrong with UserInfo costs nobody the new tokens.
  return answer.kind === 'foreign'
    ? { kind: 'foreign', reason: answer.fault.reason, ...unusedOf(response) }
    : { ...refreshed, withoutUserInfo: answer.fault };
}

async function refresh(
  server: AuthorizationServer,
  refreshToken: Secret,
  known: KnownSubject,
  target?: GrantTarget,
): Promise<Refreshed> {
  let response: TokenResponse;
  let isGranted = false;
  let text = '';
  try {
    const configuration = await server.configurationFor({
      timeoutMs: server.config.refreshTimeout,
      onStatus: (status) => {
        isGranted = status >= 200 && status < 300;
      },
      onAnswer: (answer) => {
        text = answer;
      },
    });
    const parameters = new URLSearchParams();
    if (target === undefined) for (const resource of server.config.resources) parameters.append('resource', resource);
    else for (const [name, value] of Object.entries(target)) parameters.set(name, value);
    response = acceptTokenResponse(await oidc.refreshTokenGrant(configuration, refreshToken.reveal(), parameters));
  } catch (error) {
    const fault = sortFault(error);
    if (isAboutIdToken(error) && 'reason' in fault) return { kind: 'foreign', reason: fault.reason, ...unusedIn(text) };
    return { kind: isGranted ? 'spent' : 'failed', fault };
  }
  // From here on the rotation is done: another try with the old refresh token would end the whole family.
  try {
    const claims = await verifyIdToken(server, response);
    if (claims === undefined) return { kind: 'refreshed', response };
    return isSameSubject(claims, known)
      ? { kind: 'refreshed', response, claims }
      : { kind: 'foreign', reason: 'ID token: other subject', ...unusedOf(response) };
  } catch (error) {
    const fault = sortFault(error);
    const reason = 'reason' in fault ? fault.reason : fault.kind;
    // Only the signing keys or the clocks are in the way: losing the new tokens would log everybody out. The answer
    // came over verified TLS (Core §3.1.3.7 no. 6), and a refresh needs no ID token; its claims are not taken over.
    const isJudged = fault.kind !== 'unavailable' && !(error instanceof UntimelyIdTokenError);
    const { idToken, ...tokens } = response;
    if (isJudged || idToken === undefined || !isSameSubject(decodeJwt(idToken.reveal()), known))
      return { kind: 'foreign', reason, ...unusedOf(response) };
    return { kind: 'refreshed', response: tokens, unverified: reason };
  }
}

/** openid-client looked into an ID token and refused it: so tokens were issued, and the answer was not lost. */
function isAboutIdToken(error: unknown): boolean {
  if (!(error instanceof oidc.ClientError) || !(error.cause instanceof Error)) return false;
  const detail = error.cause.cause;
  return typeof detail === 'object' && detail !== null && ('claims' in detail || 'header' in detail);
}

function isSameSubject(claims: JWTPayload, known: KnownSubject): boolean {
  return (
    claims.iss === known.issuer &&
    claims.sub === known.subject &&
    (claims.nonce === undefined || claims.nonce === known.nonce)
  );
}
