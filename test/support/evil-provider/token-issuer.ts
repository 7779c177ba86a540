import { createHash, randomBytes } from 'node:crypto';
import { takeFault } from './faults.ts';
import { signJwt } from './jwt.ts';
import { type CodeGrant, epochSeconds, type Family, issueSecret, type ProviderState } from './provider-state.ts';

export interface AccessTokenRequest {
  clientId: string;
  scope: string;
  audience: string[];
  login?: CodeGrant['login'];
  family?: Family;
  /** Thumbprint of the DPoP key. */
  thumbprint?: string | undefined;
}

/** A JWT (RFC 9068) or opaque access token as the token endpoint returns it. */
export function issueAccessToken(state: ProviderState, request: AccessTokenRequest): Record<string, unknown> {
  const { settings } = state;
  const { clientId, login, family, thumbprint, scope } = request;
  const audience = request.audience.length > 0 ? request.audience : [settings.audience];
  const fault = takeFault(state.faults, 'accessToken');
  const claims = {
    iss: state.issuer,
    sub: login?.sub ?? clientId,
    aud: audience.length === 1 ? audience[0] : audience,
    client_id: clientId,
    scope,
    iat: epochSeconds(state),
    exp: epochSeconds(state) + settings.accessTokenSeconds,
    jti: randomBytes(8).toString('hex'),
    sid: login?.sid,
    cnf: thumbprint === undefined ? undefined : { jkt: thumbprint },
    ...login?.accessTokenClaims,
  };
  const token =
    settings.accessTokenFormat === 'jwt' || fault
      ? signJwt({ keys: state.keys, clientSecret: secretOf(state, clientId), claims, typ: 'at+jwt', fault })
      : undefined;
  const value = fault?.omit ? undefined : issueSecret(state, 'access_token', token);
  if (value !== undefined) state.accessTokens.set(value, { clientId, login, family, active: true });
  return {
    access_token: value,
    token_type: thumbprint === undefined ? 'Bearer' : 'DPoP',
    expires_in: settings.accessTokenSeconds,
    scope,
  };
}

/** The ID token of a code or refresh grant; `undefined` when its fault omits it. */
export function issueIdToken(
  state: ProviderState,
  from: Pick<Family, 'clientId' | 'login' | 'nonce'>,
  accessToken: string,
  faultName: 'idToken' | 'refreshIdToken',
): string | undefined {
  const { login, clientId, nonce } = from;
  const claims = {
    iss: state.issuer,
    sub: login.sub,
    aud: clientId,
    iat: epochSeconds(state),
    exp: epochSeconds(state) + state.settings.idTokenSeconds,
    auth_time: login.authTime,
    nonce,
    at_hash: createHash('sha256').update(accessToken).digest().subarray(0, 16).toString('base64url'),
    sid: login.sid,
    acr: login.acr,
    email: `${login.sub}@example.com`,
    ...login.claims,
  };
  const fault = takeFault(state.faults, faultName);
  const token = signJwt({ keys: state.keys, clientSecret: secretOf(state, clientId), claims, typ: 'JWT', fault });
  if (typeof token === 'string' && token.length >= 8) issueSecret(state, 'id_token', token);
  return token;
}

export function startFamily(state: ProviderState, code: CodeGrant): Family {
  const family: Family = {
    id: randomBytes(6).toString('hex'),
    clientId: code.clientId,
    scope: code.scope,
    nonce: code.nonce,
    login: code.login,
    valid: new Set(),
    used: new Map(),
    rotations: 0,
    reuseDetected: 0,
    revoked: false,
  };
  state.families.push(family);
  return family;
}

export function issueRefreshToken(state: ProviderState, family: Family): string {
  const token = issueSecret(state, 'refresh_token');
  family.valid.add(token);
  return token;
}

/** Ends a family: its refresh tokens are refused, its access tokens are inactive at UserInfo. */
export function revokeFamily(state: ProviderState, family: Family): void {
  family.revoked = true;
  for (const token of state.accessTokens.values()) if (token.family === family) token.active = false;
}

export function secretOf(state: ProviderState, clientId: string): string {
  return state.clients.get(clientId) ?? '';
}
