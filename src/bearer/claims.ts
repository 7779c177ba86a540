import type { BearerIssuer } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';

export type Claims = Record<string, unknown>;

/** Who a caller is, as a verified token says. */
export interface BearerIdentity {
  /** Name of the issuer in the configuration. */
  issuer: string;
  /** Hash of issuer and subject, for log lines (BV7). */
  handle: string;
  /** The client itself called: there is no user (RFC 9700 §4.15). */
  isClient: boolean;
  /** Of the token; a client's have no `sub`, so that no rule about a user can meet one. */
  claims: Claims;
  acr?: string;
  /** When the user authenticated, epoch seconds. */
  authTime?: number;
  /** Space-separated. */
  scope: string;
  /** Epoch seconds. */
  expiresAt: number;
}

/**
 * What is wrong with the claims of an access token, or `undefined` (RFC 9068 §4, RFC 7662 §2.2). `own` are the names of
 * the API itself, where it has any: a token is only sent on to the API that it was made for (DT1).
 */
export function claimFault(
  claims: Claims,
  { issuer, audiences, clockTolerance }: BearerIssuer,
  own: string[],
  nowMs: number,
): string | undefined {
  const now = nowMs / 1000;
  const tolerance = clockTolerance / 1000;
  const { iss, aud, exp, nbf, iat, sub } = claims;
  if (iss !== issuer) return 'iss';
  if (!hasOne(aud, audiences) || (own.length > 0 && !hasOne(aud, own))) return 'aud';
  if (!isInstant(exp) || exp <= now - tolerance) return 'exp';
  if (nbf !== undefined && (!isInstant(nbf) || nbf > now + tolerance)) return 'nbf';
  if (iat !== undefined && (!isInstant(iat) || iat > now + tolerance)) return 'iat';
  if (sub === undefined ? clientOf(claims) === undefined : !isName(sub)) return 'sub';
  // Proof of possession is not verified here, and a bound token without it is a stolen one (BV6).
  return Object.hasOwn(claims, 'cnf') ? 'cnf' : undefined;
}

/**
 * What a verified JWT and its issuer's answer say together (W43), or what they differ about. The answer is newer, and may
 * say more than the token; who it is must be the same in both, and the token lives no longer than either says.
 */
export function mergeClaims(jwt: Claims, answer: Claims): Claims | string {
  const different = ['iss', 'sub', 'client_id'].find(
    (name) => jwt[name] !== undefined && answer[name] !== undefined && jwt[name] !== answer[name],
  );
  if (different !== undefined) return different;
  const { exp } = answer;
  return { ...jwt, ...answer, exp: typeof exp === 'number' ? Math.min(Number(jwt.exp), exp) : exp };
}

/** Who the claims name; `claimFault` must have found nothing. */
export function buildBearerIdentity(claims: Claims, issuer: BearerIssuer): BearerIdentity {
  const { sub, acr, auth_time: authTime, exp } = claims;
  const client = clientOf(claims);
  const isClient = sub === undefined || sub === client;
  const { sub: _, ...withoutSubject } = claims;
  return {
    issuer: issuer.name,
    handle: isClient ? hashId(issuer.issuer, 'client', String(client)) : hashId(issuer.issuer, String(sub)),
    isClient,
    claims: isClient ? withoutSubject : claims,
    ...(typeof acr === 'string' ? { acr } : {}),
    ...(typeof authTime === 'number' ? { authTime } : {}),
    scope: scopeOf(claims.scope ?? claims.scp),
    expiresAt: Number(exp),
  };
}

function clientOf({ client_id: clientId, azp }: Claims): string | undefined {
  const client = clientId ?? azp;
  return isName(client) ? client : undefined;
}

/** A string as in the RFCs, or a list as some servers write it. */
function scopeOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return '';
  return value.filter((item) => typeof item === 'string' && !item.includes(' ')).join(' ');
}

/** The audience is a string or a list of strings (RFC 7519 §4.1.3), compared exactly. */
function hasOne(aud: unknown, wanted: string[]): boolean {
  const list: unknown[] = Array.isArray(aud) ? aud : [aud];
  return list.every((item) => typeof item === 'string') && list.some((item) => wanted.includes(item));
}

function isInstant(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(Math.floor(value));
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && /^[\x20-\x7e]{1,255}$/.test(value);
}
