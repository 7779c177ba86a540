import { hashId, type SealingKey } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import type { FrontendContext } from '../frontend/context.ts';
import type { AuthorizationRequest } from '../oidc/authorization.ts';
import type { Owner } from '../session/record-format.ts';

/** One login attempt, sealed in a cookie of the browser that started it: an anonymous visitor costs the store nothing. */
export interface LoginTransaction {
  request: AuthorizationRequest;
  /** At which server and as which client it was begun; release 0.1 did not note it. */
  issuer?: string;
  client?: string;
  returnTo: string;
  /** Asked for by a step-up, so that the session can say that it was. */
  isStepUp?: true;
  /** With `prompt=none`. */
  silent?: {
    isFrame?: true;
    /** Whose session the browser has: no other user may replace it. */
    subject?: string;
  };
  /** Another site asked for it. */
  isForeign?: true;
  /** Epoch milliseconds. */
  createdAt: number;
  /** Handles of sessions that this login replaces; a Strict session cookie does not come along to the callback. */
  replaces: string[];
}

/** A login must come back within ten minutes (LG4). */
export const transactionLifeMs = 10 * 60_000;
/** The cookie outlives it, so that a late callback is recognized and restarted instead of puzzling its user. Seconds. */
export const transactionCookieSeconds = 3600;
/** Attempts at the same time in one browser: tabs (LG11, T10). */
const mostTransactions = 5;
/** All login cookies together; beyond that the oldest go. Bytes. */
const mostCookieBytes = 4096;

/**
 * Prefix of the login cookies of a frontend, from its session cookie's name. No session cookie's name has a dot, so that
 * `shop` takes no cookie of a frontend `shop-login-desk` on the same host for one of its logins.
 */
export function transactionCookiePrefix(sessionCookieName: string): string {
  return `${sessionCookieName}.login.`;
}

/** One cookie an attempt: two tabs do not overwrite each other. */
export function transactionCookieName(prefix: string, state: string): string {
  return `${prefix}${hashId('state', state).slice(0, 16)}`;
}

export function sealTransaction(keys: SealingKey[], name: string, transaction: LoginTransaction): string {
  return seal(keys, JSON.stringify(transaction), `login/1/${name}`).toString('base64url');
}

/**
 * One of ours. What was begun at another server or as another client, with the same keys, would send that server's code,
 * and our verifier for it, to this one (W6).
 */
export function openTransaction(
  keys: SealingKey[],
  name: string,
  value: string,
  { issuer, clientId }: Owner,
): LoginTransaction | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(value)) return undefined;
  const text = open(keys, Buffer.from(value, 'base64url'), `login/1/${name}`);
  if (text === undefined) return undefined;
  const transaction = JSON.parse(text) as LoginTransaction;
  const isOurs = (transaction.issuer ?? issuer) === issuer && (transaction.client ?? clientId) === clientId;
  return isOurs ? transaction : undefined;
}

/** Lax, because the way back from the authorization server is cross-site; None only for its cross-site POST. */
export function transactionCookieAttributes({ frontend }: FrontendContext) {
  const isPost = frontend.authorizationServer.responseMode === 'form_post';
  return {
    path: '/',
    httpOnly: true,
    // Browsers take Secure cookies from http://localhost too, and None needs it.
    secure: frontend.isSecure || isPost,
    sameSite: isPost ? ('none' as const) : ('lax' as const),
  };
}

export interface PendingTransaction {
  name: string;
  value: string;
  transaction: LoginTransaction;
}

/**
 * What a browser's login cookies are: those that are live, oldest first, and those to clear. What can't be opened may be
 * another server's on this host: it is neither, and runs out by itself (W7).
 */
export function sortTransactions(
  cookies: Record<string, string | undefined>,
  prefix: string,
  keys: SealingKey[],
  owner: Owner,
  nowMs: number,
): { live: PendingTransaction[]; dead: string[] } {
  const live: PendingTransaction[] = [];
  const dead: string[] = [];
  for (const [name, value] of Object.entries(cookies)) {
    if (!name.startsWith(prefix) || value === undefined) continue;
    const transaction = openTransaction(keys, name, value, owner);
    if (transaction === undefined) continue;
    if (transaction.createdAt + transactionLifeMs < nowMs) dead.push(name);
    else live.push({ name, value, transaction });
  }
  live.sort((a, b) => a.transaction.createdAt - b.transaction.createdAt);
  return { live, dead };
}

/**
 * Names of live transactions that have to go so that one more of `newBytes` fits: those that other sites asked for, then
 * the oldest. One more of another site takes the room of its kind only: any site could ask for many (W34). `undefined`:
 * there is none.
 */
export function evictFor(live: PendingTransaction[], newBytes: number, isForeign: boolean): string[] | undefined {
  const foreign = live.filter(({ transaction }) => transaction.isForeign === true);
  const mayGo = isForeign ? foreign : [...foreign, ...live.filter((one) => !foreign.includes(one))];
  const evicted: string[] = [];
  let count = live.length;
  let bytes = live.reduce((sum, { name, value }) => sum + name.length + value.length + 3, newBytes);
  while (count > 0 && (count >= mostTransactions || bytes > mostCookieBytes)) {
    const next = mayGo.shift();
    if (next === undefined) return undefined;
    evicted.push(next.name);
    count--;
    bytes -= next.name.length + next.value.length + 3;
  }
  return evicted;
}
