import { isDeepStrictEqual } from 'node:util';
import type { StoredSession } from '../store/record.ts';

/** Who is logged in, as the verified ID token says, and UserInfo where it is asked. Sealed in the store. */
export interface Identity {
  issuer: string;
  subject: string;
  /** Our client id there, written with every record; absent in what release 0.1 wrote. */
  client?: string;
  /** Session id at the authorization server, for back-channel logout. */
  sid?: string;
  /** All claims of the ID token but those that only concern the protocol, and those of UserInfo that it lacks. */
  claims: Record<string, unknown>;
  /** All that UserInfo said when it was asked last: the next ID token may lack other claims than this one. */
  userInfo?: Record<string, unknown>;
  /** Names of claims that both have. Those in `claims` are the ID token's. */
  inBoth?: string[];
  /** When the user authenticated, epoch seconds. */
  authTime?: number;
  acr?: string;
  /** Nonce of the login: a refreshed ID token may repeat it, and no other (Core §12.2). */
  nonce?: string;
  /** When the ID token of the login was made, epoch seconds of the provider's clock. */
  issuedAt?: number;
  /** What its ID tokens were signed with; absent in what release 0.1 wrote. */
  idTokenAlgorithms?: string[];
  /** What a step-up asked of the login, if one did: the same once more would not help. */
  stepUp?: string;
  /** Browser and system of the login, coarsely, for the session inventory. */
  device?: string;
}

/** Claims that only concern the protocol, or that have a field of their own. */
const protocolClaims = new Set([
  'iss',
  'aud',
  'exp',
  'iat',
  'nbf',
  'nonce',
  'at_hash',
  'c_hash',
  's_hash',
  'azp',
  'jti',
]);

/** What of UserInfo is never taken: how and until when somebody is logged in is the ID token's to say. */
const notOfUserInfo = new Set([
  ...protocolClaims,
  ...['sub', 'sid', 'acr', 'amr', 'auth_time', 'session_expiry'],
  // Claims that would have to be fetched elsewhere (Core §5.6.2), which nobody does, with access tokens for that.
  ...['_claim_names', '_claim_sources'],
]);

/** The identity that the claims of a verified ID token give, over those of UserInfo. */
export function buildIdentity(
  claims: Record<string, unknown> & { sub: string },
  issuer: string,
  userInfo?: Record<string, unknown>,
): Identity {
  const { sid, acr, nonce, auth_time: authTime } = claims;
  return {
    issuer,
    subject: claims.sub,
    ...(typeof sid === 'string' ? { sid } : {}),
    ...(typeof acr === 'string' ? { acr } : {}),
    ...(typeof nonce === 'string' ? { nonce } : {}),
    ...(typeof authTime === 'number' ? { authTime } : {}),
    ...mergeClaims(without(protocolClaims, claims), userInfo && without(notOfUserInfo, userInfo)),
  };
}

/** How and when a user authenticated: three claims, one fact (W38). */
const authenticationClaims = ['acr', 'amr', 'auth_time'] as const;

/**
 * The identity after a refresh: what came anew, verified, replaces what was there from the same source. How the user
 * authenticated stays what the login said: a server may name there what happened since in another application of the
 * same SSO session, and this session must not get stronger by that. It may get weaker. `differs`: claims of that fact
 * which came with other values.
 */
export function refreshIdentity(
  previous: Identity,
  { claims, userInfo }: { claims?: Record<string, unknown> & { sub: string }; userInfo?: Record<string, unknown> },
): { identity: Identity; differs: string[] } {
  if (claims === undefined) {
    if (userInfo === undefined) return { identity: previous, differs: [] };
    const merged = mergeClaims(claimsOfIdToken(previous), without(notOfUserInfo, userInfo));
    return { identity: { ...previous, ...merged }, differs: [] };
  }
  const login = previous.claims;
  const differs = authenticationClaims.filter(
    (name) => claims[name] !== undefined && !isDeepStrictEqual(claims[name], login[name]),
  );
  const isWeaker = differs.every((name) => isNoStronger(name, claims[name], login[name]));
  const fact = Object.fromEntries(
    authenticationClaims.map((name) => [name, isWeaker ? (claims[name] ?? login[name]) : login[name]]),
  );
  const { acr: _acr, authTime: _authTime, ...rest } = previous;
  const next = buildIdentity({ ...claims, ...fact }, previous.issuer, userInfo ?? previous.userInfo);
  const present = Object.entries(next.claims).filter(([, value]) => value !== undefined);
  return { identity: { ...rest, ...next, claims: Object.fromEntries(present) }, differs };
}

/** Only what has an order can be less: times, levels that are numbers, a smaller set of methods. */
function isNoStronger(name: (typeof authenticationClaims)[number], now: unknown, login: unknown): boolean {
  if (name === 'amr')
    return Array.isArray(now) && Array.isArray(login) && now.every((method) => login.includes(method));
  const [less, more] = [now, login].map((value) => (name === 'acr' ? levelOf(value) : value));
  return typeof less === 'number' && typeof more === 'number' && less < more;
}

function levelOf(acr: unknown): number | undefined {
  return typeof acr === 'string' && /^\d{1,4}$/.test(acr) ? Number(acr) : undefined;
}

function mergeClaims(
  ofIdToken: Record<string, unknown>,
  userInfo: Record<string, unknown> | undefined,
): Pick<Identity, 'claims' | 'userInfo' | 'inBoth'> {
  if (userInfo === undefined) return { claims: ofIdToken };
  return {
    claims: { ...userInfo, ...ofIdToken },
    userInfo,
    inBoth: Object.keys(userInfo).filter((name) => Object.hasOwn(ofIdToken, name)),
  };
}

function claimsOfIdToken({ claims, userInfo = {}, inBoth = [] }: Identity): Record<string, unknown> {
  return without(new Set(Object.keys(userInfo).filter((name) => !inBoth.includes(name))), claims);
}

function without(names: Set<string>, claims: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !names.has(name)));
}

/** An opened session. Its times move on when the store is asked again; everything else stays as it is. */
export interface Session {
  /** Our id, as in the browser's cookie. Never printed, logged or stored. */
  id: string;
  /** Hash of the id: what Redis keys and log lines have. */
  handle: string;
  generation: number;
  createdAt: number;
  expiresAt: number;
  lastSeenAt: number;
  now: number;
  identity: Identity;
  /** The serialized token set; only `tokens/` reads it. */
  tokens: string;
}

export interface Lifetimes {
  /** Seconds without a request after which a session is over. */
  idleTimeout: number;
  /** Seconds after the login at which it is over in any case. */
  absoluteTimeout: number;
}

export type SessionState = 'active' | 'idle' | 'expired';

/** Both lifetimes on the store's clock (SE1). */
export function sessionState(
  session: Pick<StoredSession, 'expiresAt' | 'lastSeenAt' | 'now'>,
  { idleTimeout }: Lifetimes,
): SessionState {
  if (session.now >= session.expiresAt) return 'expired';
  return session.now >= session.lastSeenAt + idleTimeout ? 'idle' : 'active';
}

/** When the session ends if nobody uses it any more, epoch seconds. */
export function idleExpiresAt(
  session: Pick<StoredSession, 'expiresAt' | 'lastSeenAt'>,
  { idleTimeout }: Lifetimes,
): number {
  return Math.min(session.expiresAt, session.lastSeenAt + idleTimeout);
}

/** Last-seen is written at most once per twentieth of the idle timeout: precise enough, and most calls write nothing. */
export function shouldTouch(session: Pick<StoredSession, 'lastSeenAt' | 'now'>, { idleTimeout }: Lifetimes): boolean {
  return session.now - session.lastSeenAt >= idleTimeout / 20;
}
