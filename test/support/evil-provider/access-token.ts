import { randomBytes } from 'node:crypto';
import type { JwtFault } from './faults.ts';
import { signJwt } from './jwt.ts';
import { epochSeconds, issueSecret, type ProviderState } from './provider-state.ts';
import { secretOf } from './token-issuer.ts';

/** A JWT access token (RFC 9068) that no grant was needed for: another app got it, and calls with it. */
export interface AccessTokenOptions extends JwtFault {
  /** `mobile-user`; `null` leaves it out. */
  sub?: string | null;
  /** The provider's default audience. */
  audience?: string | string[];
  /** `mobile-app`. */
  clientId?: string;
  /** Space-separated. */
  scope?: string;
}

/** Signs one; valid unless the options say otherwise. It counts as issued, for canary searches. */
export function makeAccessToken(
  state: ProviderState,
  {
    sub = 'mobile-user',
    audience = state.settings.audience,
    clientId = 'mobile-app',
    scope,
    ...fault
  }: AccessTokenOptions,
): string {
  const claims = {
    iss: state.issuer,
    ...(sub === null ? {} : { sub }),
    aud: audience,
    client_id: clientId,
    ...(scope === undefined ? {} : { scope }),
    iat: epochSeconds(state),
    exp: epochSeconds(state) + state.settings.accessTokenSeconds,
    jti: randomBytes(8).toString('hex'),
  };
  const clientSecret = secretOf(state, 'cloakroom');
  const token = signJwt({ keys: state.keys, clientSecret, claims, typ: 'at+jwt', fault }) ?? '';
  return issueSecret(state, 'access_token', token);
}
