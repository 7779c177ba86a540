import * as oidc from 'openid-client';
import { hashId } from '../crypto/keys.ts';
import type { Claims } from './claims.ts';
import type { Failures } from './failures.ts';
import { createFairLine } from './fair-line.ts';
import { createRemembered, longestRemembered } from './remembered.ts';

/** What the issuer says about a token: its claims, or that it is nothing (RFC 7662 §2.2). */
export type Introspected = { kind: 'active'; claims: Claims } | { kind: 'inactive' };

/**
 * `client`: on whose behalf, as limits count. Throws `TooManyFailuresError`, and what `sortFault` sorts: then nothing is
 * known about the token (BV3).
 */
export type Introspect = (token: string, client: string) => Promise<Introspected>;

/** A longer answer is not kept. Characters. */
const longestKept = 8 * 1024;
/** For an answer without `exp`: no token is used longer than a day (RF14). Seconds. */
const longestLife = 86_400;

export interface IntrospectionOptions {
  cacheMs: number;
  /** Longer waits nobody for a turn. */
  longestWaitMs: number;
  failures: Failures;
  nowMs: () => number;
}

/**
 * Asks the issuer about tokens, once at a time for each, a few at a time in all, and keeps its answers for a short
 * while. Whoever has no token at all can make up as many as they like: without limits each would be a call (W9).
 */
export function createIntrospection(
  configuration: () => Promise<oidc.Configuration>,
  { cacheMs, longestWaitMs, failures, nowMs }: IntrospectionOptions,
): Introspect {
  const active = createRemembered<Introspected>();
  const inactive = createRemembered<Introspected>();
  /** Tokens that were active: their callers are not stopped by what others behind the same address bring. */
  const good = createRemembered<true>();
  const inTurn = createFairLine(longestWaitMs);
  const flights = new Map<string, Promise<Introspected>>();

  const check = (key: string, client: string) => {
    if (good.get(key, nowMs()) === undefined) failures.check(client);
  };
  const ask = async (token: string, key: string, client: string): Promise<Introspected> => {
    check(key, client); // while it waited, others of its tokens may have failed
    const askedAt = nowMs();
    // openid-client refuses an `active` that is not a boolean.
    const answer = await oidc.tokenIntrospection(await configuration(), token, { token_type_hint: 'access_token' });
    if (!answer.active) {
      failures.note(client);
      good.forget(key);
      inactive.set(key, { kind: 'inactive' }, askedAt + cacheMs);
      return { kind: 'inactive' };
    }
    const claims: Claims = { exp: Math.floor(askedAt / 1000) + longestLife, ...withoutNulls(answer) };
    const found: Introspected = { kind: 'active', claims };
    const end = typeof claims.exp === 'number' ? claims.exp * 1000 : 0;
    good.set(key, true, Math.min(askedAt + longestRemembered, end));
    if (JSON.stringify(claims).length <= longestKept) active.set(key, found, Math.min(askedAt + cacheMs, end));
    return found;
  };

  return async (token, client) => {
    const key = hashId(token);
    const now = nowMs();
    const kept = active.get(key, now) ?? inactive.get(key, now);
    if (kept !== undefined) return kept;
    const shared = flights.get(key);
    if (shared !== undefined) return shared;
    check(key, client);
    const flight = inTurn(client, () => ask(token, key, client)).finally(() => {
      flights.delete(key);
    });
    flights.set(key, flight);
    return flight;
  };
}

/** Some servers write null for what they have not to say. `active` was judged as it came (W25). */
function withoutNulls(answer: object): Claims {
  return Object.fromEntries(Object.entries(answer).filter(([, value]) => value !== null));
}
