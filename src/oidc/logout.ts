import { randomBytes } from 'node:crypto';
import * as oidc from 'openid-client';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, sortFault } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';

export interface EndSessionRequest {
  postLogoutRedirectUri: string;
  /** Session id or subject at the authorization server. */
  logoutHint?: string;
  /** Only with `idTokenHint: true`: it shows the ID token to the browser (docs/adr/0003-no-id-token-hint-by-default.md). */
  idToken?: Secret;
}

/**
 * The URL that logs the user out at the authorization server (RP-Initiated Logout §2), or `undefined` when it has
 * none or its metadata was never readable: the local logout does not wait for it.
 */
export async function buildEndSessionUrl(
  server: AuthorizationServer,
  request: EndSessionRequest,
): Promise<string | undefined> {
  if (!server.isKnown()) return undefined;
  try {
    const configuration = await server.configuration();
    if (configuration.serverMetadata().end_session_endpoint === undefined) return undefined;
    return oidc.buildEndSessionUrl(configuration, {
      client_id: server.config.clientId,
      post_logout_redirect_uri: request.postLogoutRedirectUri,
      state: randomBytes(16).toString('base64url'), // nothing waits for it: docs/adr/0008-nothing-happens-on-return-from-logout.md
      ...(request.logoutHint === undefined ? {} : { logout_hint: request.logoutHint }),
      ...(request.idToken === undefined ? {} : { id_token_hint: request.idToken.reveal() }),
    }).href;
  } catch {
    return undefined;
  }
}

export type Revoked = { kind: 'revoked' | 'not-offered' } | { kind: 'failed'; fault: Fault };

/** Revokes a refresh token (RFC 7009). "Unknown token" is success there. */
export async function revokeRefreshToken(server: AuthorizationServer, refreshToken: Secret): Promise<Revoked> {
  try {
    const configuration = await server.configuration();
    if (configuration.serverMetadata().revocation_endpoint === undefined) return { kind: 'not-offered' };
    await oidc.tokenRevocation(configuration, refreshToken.reveal(), { token_type_hint: 'refresh_token' });
    return { kind: 'revoked' };
  } catch (error) {
    return { kind: 'failed', fault: sortFault(error) };
  }
}
