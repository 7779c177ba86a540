import { Secret } from '../crypto/secret.ts';
import type { TokenResponse } from '../oidc/token-response.ts';
import type { Session } from '../session/session.ts';

/** An access token and how long it lives. Instants are epoch seconds on the store's clock. */
export interface IssuedToken {
  accessToken: Secret;
  /** Granted scopes, space-separated. */
  scope: string;
  obtainedAt: number;
  expiresAt: number;
  /** Obtained because an API refused the one before. */
  isReplacement?: true;
}

/** The authorization server gives none. Known to all replicas for a short while, so that not each of them asks again. */
export interface RefusedToken {
  refusedUntil: number;
}

/** The tokens of one session. */
export interface TokenSet extends IssuedToken {
  refreshToken?: Secret;
  idToken?: Secret;
  /** Tokens made for single APIs, by the key of their grant. */
  apiTokens: Record<string, IssuedToken | RefusedToken>;
  /** What a newer release put beside them: kept as it is (ADR 15). */
  unknown?: Record<string, unknown>;
}

/** What goes to an API. */
export interface AttachedToken extends IssuedToken {
  /** Only where the API names a header for it (DT9). */
  idToken?: Secret;
}

/** The answer of the only way to a token. */
export type AccessToken =
  /** `session` as it is now, where there is one. */
  | { kind: 'token'; token: AttachedToken; session?: Session }
  /** The session has ended, or has nothing left to refresh with: 401. */
  | { kind: 'ended' }
  /** The authorization server gives this API none; the session is fine: 403, and never a wider token instead (DT4). */
  | { kind: 'refused' }
  /** Nothing is decided: 503, never 401. `loginHelps`: the server refused, and a login is the way out (W24). */
  | { kind: 'unavailable'; retryAfterMs: number; loginHelps?: boolean };

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
  const refreshToken = response.refreshToken ?? previous?.refreshToken;
  const idToken = defaults.keepIdToken ? (response.idToken ?? previous?.idToken) : undefined;
  return {
    ...issuedToken(response, now, defaults, previous?.scope ?? defaults.scope),
    ...(refreshToken === undefined ? {} : { refreshToken }),
    ...(idToken === undefined ? {} : { idToken }),
    apiTokens: liveTokens(previous, now),
    ...(previous?.unknown === undefined ? {} : { unknown: previous.unknown }),
  };
}

/** The token set with what the authorization server said to one API's grant. What a rotation brought is kept too. */
export function addApiToken(
  previous: TokenSet,
  key: string,
  entry: IssuedToken | RefusedToken,
  now: number,
  response: Pick<TokenResponse, 'refreshToken' | 'idToken'> = {},
): TokenSet {
  const { refreshToken, idToken } = response;
  return {
    ...previous,
    ...(refreshToken === undefined ? {} : { refreshToken }),
    ...(idToken === undefined || previous.idToken === undefined ? {} : { idToken }),
    apiTokens: { ...liveTokens(previous, now), [key]: entry },
  };
}

/** The access token of a response; `scope` is what was asked for (RFC 6749 §5.1). */
export function issuedToken(
  response: TokenResponse,
  now: number,
  { assumedLifetime }: Pick<TokenDefaults, 'assumedLifetime'>,
  scope: string,
): IssuedToken {
  const { expiresIn } = response;
  const life = expiresIn === undefined || !Number.isFinite(expiresIn) || expiresIn <= 0 ? assumedLifetime : expiresIn;
  return {
    accessToken: response.accessToken,
    scope: response.scope ?? scope,
    obtainedAt: Math.floor(now),
    expiresAt: Math.floor(now) + Math.min(Math.max(Math.floor(life), 1), longestLife),
  };
}

function liveTokens(tokens: TokenSet | undefined, now: number): TokenSet['apiTokens'] {
  const entries = Object.entries(tokens?.apiTokens ?? {});
  return Object.fromEntries(
    entries.filter(([, entry]) => ('refusedUntil' in entry ? entry.refusedUntil : entry.expiresAt) > now),
  );
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
export function tokenState(tokens: IssuedToken, now: number, refreshAhead: number): TokenState {
  if (now >= tokens.expiresAt) return 'expired';
  const ahead = Math.min(refreshAhead, (tokens.expiresAt - tokens.obtainedAt) / 2);
  return now >= tokens.expiresAt - ahead ? 'ageing' : 'fresh';
}

interface SerializedToken {
  a: string;
  s: string;
  o: number;
  e: number;
  f?: 1;
}

interface SerializedSet extends SerializedToken {
  r?: string;
  i?: string;
  x?: Record<string, SerializedToken | { n: number }>;
}

/** JSON for sealing: besides the upstream's header, the only place where tokens are spelled out. */
export function serializeTokenSet(tokens: TokenSet): string {
  const { refreshToken, idToken, apiTokens, unknown } = tokens;
  const others = Object.entries(apiTokens).map(([key, entry]) => [
    key,
    'refusedUntil' in entry ? { n: entry.refusedUntil } : serializeToken(entry),
  ]);
  return JSON.stringify({
    ...serializeToken(tokens),
    r: refreshToken?.reveal(),
    i: idToken?.reveal(),
    x: others.length === 0 ? undefined : Object.fromEntries(others),
    ...unknown,
  });
}

function serializeToken({ accessToken, scope, obtainedAt, expiresAt, isReplacement }: IssuedToken): SerializedToken {
  const token = { a: accessToken.reveal(), s: scope, o: obtainedAt, e: expiresAt };
  return isReplacement === true ? { ...token, f: 1 } : token;
}

export function parseTokenSet(text: string): TokenSet {
  const serialized = JSON.parse(text) as SerializedSet;
  const { a, s, o, e, f, r, i, x = {}, ...unknown } = serialized;
  return {
    ...parseToken({ a, s, o, e, ...(f === undefined ? {} : { f }) }),
    ...(r === undefined ? {} : { refreshToken: new Secret(r) }),
    ...(i === undefined ? {} : { idToken: new Secret(i) }),
    apiTokens: Object.fromEntries(
      Object.entries(x).map(([key, entry]) => [key, 'n' in entry ? { refusedUntil: entry.n } : parseToken(entry)]),
    ),
    ...(Object.keys(unknown).length === 0 ? {} : { unknown }),
  };
}

function parseToken({ a, s, o, e, f }: SerializedToken): IssuedToken {
  const token = { accessToken: new Secret(a), scope: s, obtainedAt: o, expiresAt: e };
  return f === 1 ? { ...token, isReplacement: true } : token;
}

const parsed = new WeakMap<object, TokenSet>();

/** The token set of an opened session, parsed once. */
export function tokensOf(session: { tokens: string }): TokenSet {
  let tokens = parsed.get(session);
  if (tokens === undefined) {
    tokens = parseTokenSet(session.tokens);
    parsed.set(session, tokens);
  }
  return tokens;
}
