import { Secret } from '../config/secret.ts';
import type { TokenResponse } from '../oidc/token-response.ts';

/** The tokens of one session. Instants are epoch seconds on the store's clock. */
export interface TokenSet {
  accessToken: Secret;
  refreshToken?: Secret;
  idToken?: Secret;
  /** Granted scopes, space-separated. */
  scope: string;
  obtainedAt: number;
  expiresAt: number;
}

/** No token is used longer than a day, whatever the server says (RF14, T36). Seconds. */
const longestLife = 86_400;

export interface TokenDefaults {
  /** Life of a token whose response names none. Seconds. */
  assumedLifetime: number;
  /** Scopes asked for: granted when the response names none (RFC 6749 §5.1). */
  scope: string;
  /** Only a logout with `id_token_hint` needs it (TS9). */
  keepIdToken: boolean;
}

/**
 * The token set after a token endpoint response. A refresh that brings no new refresh or ID token keeps the old ones
 * (RF3).
 */
export function buildTokenSet(
  response: TokenResponse,
  now: number,
  defaults: TokenDefaults,
  previous?: TokenSet,
): TokenSet {
  const { expiresIn } = response;
  const life =
    expiresIn === undefined || !Number.isFinite(expiresIn) || expiresIn <= 0 ? defaults.assumedLifetime : expiresIn;
  const refreshToken = response.refreshToken ?? previous?.refreshToken;
  const idToken = defaults.keepIdToken ? (response.idToken ?? previous?.idToken) : undefined;
  return {
    accessToken: response.accessToken,
    ...(refreshToken === undefined ? {} : { refreshToken }),
    ...(idToken === undefined ? {} : { idToken }),
    scope: response.scope ?? previous?.scope ?? defaults.scope,
    obtainedAt: Math.floor(now),
    expiresAt: Math.floor(now) + Math.min(Math.max(Math.floor(life), 1), longestLife),
  };
}

/**
 * When the provider wants the session over at the latest, epoch seconds: `session_expiry` of the ID token (IPSIE) or
 * `authorization_expires_in` of the response. `refresh_expires_in` is none: it starts anew with every refresh.
 */
export function hardEnd(response: TokenResponse, now: number, claims?: Record<string, unknown>): number | undefined {
  const { authorizationExpiresIn } = response;
  const expiry = claims?.session_expiry;
  const ends = [
    typeof expiry === 'number' ? expiry : undefined,
    authorizationExpiresIn === undefined ? undefined : now + authorizationExpiresIn,
  ].filter((end) => end !== undefined && Number.isFinite(end));
  return ends.length === 0 ? undefined : Math.floor(Math.min(...(ends as number[])));
}

/** `fresh`: use it. `ageing`: use it, and refresh meanwhile. `expired`: refresh first. */
export type TokenState = 'fresh' | 'ageing' | 'expired';

/** Refreshing begins `refreshAhead` seconds before the end, but never in the first half of a token's life (RF1, T119). */
export function tokenState(tokens: TokenSet, now: number, refreshAhead: number): TokenState {
  if (now >= tokens.expiresAt) return 'expired';
  const ahead = Math.min(refreshAhead, (tokens.expiresAt - tokens.obtainedAt) / 2);
  return now >= tokens.expiresAt - ahead ? 'ageing' : 'fresh';
}

/** JSON for sealing: besides the upstream's header, the only place where tokens are spelled out. */
export function serializeTokenSet(tokens: TokenSet): string {
  const { accessToken, refreshToken, idToken, scope, obtainedAt, expiresAt } = tokens;
  return JSON.stringify({
    a: accessToken.reveal(),
    r: refreshToken?.reveal(),
    i: idToken?.reveal(),
    s: scope,
    o: obtainedAt,
    e: expiresAt,
  });
}

export function parseTokenSet(text: string): TokenSet {
  const { a, r, i, s, o, e } = JSON.parse(text) as {
    a: string;
    r?: string;
    i?: string;
    s: string;
    o: number;
    e: number;
  };
  return {
    accessToken: new Secret(a),
    ...(r === undefined ? {} : { refreshToken: new Secret(r) }),
    ...(i === undefined ? {} : { idToken: new Secret(i) }),
    scope: s,
    obtainedAt: o,
    expiresAt: e,
  };
}
