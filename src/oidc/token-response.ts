import type * as oidc from 'openid-client';
import { Secret } from '../crypto/secret.ts';
import { difference, UntrustedAnswerError } from '../issuer/faults.ts';

/** What a token endpoint gave, checked, in types that do not print. */
export interface TokenResponse {
  accessToken: Secret;
  refreshToken?: Secret;
  idToken?: Secret;
  /** Granted scopes; absent when they are those asked for (RFC 6749 §5.1). */
  scope?: string;
  /** Seconds, as the server says, unchecked. */
  expiresIn?: number;
  /** Seconds until the whole authorization ends, refreshes included (draft-ietf-oauth-refresh-token-expiration). */
  authorizationExpiresIn?: number;
}

/**
 * A longer token would not fit an upstream's header limits. Only what travels in a header is held to it: an ID token
 * with hundreds of groups is bounded by the answer it came in (W21). Characters.
 */
export const longestHeaderToken = 16 * 1024;

/** Accepts a token endpoint's answer. A token with other characters than RFC 6750 §2.1 knows could break out of a header (T37). */
export function acceptTokenResponse(response: oidc.TokenEndpointResponse): TokenResponse {
  // Nothing here asks for DPoP, and no other type is a bearer token (DT7). openid-client made it lower case.
  if (response.token_type !== 'bearer') {
    throw new UntrustedAnswerError('the token_type is not Bearer', undefined, {
      ...(response.token_type === 'dpop' ? { mistake: 'sender-constrained' } : {}),
      ...difference('Bearer', response.token_type),
    });
  }
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(response.access_token))
    throw new UntrustedAnswerError('the access token has invalid characters');
  if (response.access_token.length > longestHeaderToken)
    throw new UntrustedAnswerError(
      `the access token has ${response.access_token.length} characters, more than the ${longestHeaderToken} that fit a header: ask for fewer claims in it`,
    );
  return {
    accessToken: new Secret(response.access_token),
    ...(response.refresh_token === undefined ? {} : { refreshToken: new Secret(response.refresh_token) }),
    ...(response.id_token === undefined ? {} : { idToken: new Secret(response.id_token) }),
    ...(typeof response.scope === 'string' ? { scope: response.scope } : {}),
    ...(typeof response.expires_in === 'number' ? { expiresIn: response.expires_in } : {}),
    ...(typeof response.authorization_expires_in === 'number'
      ? { authorizationExpiresIn: response.authorization_expires_in }
      : {}),
  };
}

/** The refresh token of an answer that is refused: nobody will use it. */
export function unusedOf(response: Pick<TokenResponse, 'refreshToken'> | undefined): { unused?: Secret } {
  return response?.refreshToken === undefined ? {} : { unused: response.refreshToken };
}

/** The same, where openid-client refused the answer before we saw it; of whatever text came. */
export function unusedIn(text: string): { unused?: Secret } {
  try {
    const { refresh_token: token } = JSON.parse(text) as { refresh_token?: unknown };
    return typeof token === 'string' ? { unused: new Secret(token) } : {};
  } catch {
    return {};
  }
}
