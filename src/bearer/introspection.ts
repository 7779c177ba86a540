import * as oidc from 'openid-client';
import { hashId } from '../crypto/keys.ts';
import type { Claims } from './claims.ts';

/** What the issuer says about an opaque token: its claims, or that it is nothing (RFC 7662 §2.2). */
export type Introspected = { kind: 'active'; claims: Claims } | { kind: 'inactive' };

/** Throws what `sortFault` sorts: then nothing is known about the token (BV3). */
export type Introspect = (token: string) => Promise<Introspected>;

/** Answers of each kind that are kept: made-up tokens must not push the good ones out. */
const mostEntries = 10_000;
/** A longer answer is not kept. Characters. */
const longestKept = 8 * 1024;
/** For an answer without `exp`: no token is used longer than a day (RF14). Seconds. */
const longestLife = 86_400;

/** Asks the issuer about opaque tokens, once at a time for each, and keeps its answers for a short while. */
export function createIntrospection(
  configuration: () => Promise<oidc.Configuration>,
  cacheMs: number,
  nowMs: () => number,
): Introspect {
  // Keyed by a hash, as nothing else here needs the token (TS8).
  const active = createAnswers();
  const inactive = createAnswers();
  const flights = new Map<string, Promise<Introspected>>();

  const ask = async (token: string, key: string): Promise<Introspected> => {
    const askedAt = nowMs();
    // openid-client refuses an `active` that is not a boolean.
    const answer = await oidc.tokenIntrospection(await configuration(), token, { token_type_hint: 'access_token' });
    if (!answer.active) {
      inactive.set(key, { kind: 'inactive' }, askedAt + cacheMs);
      return { kind: 'inactive' };
    }
    const claims: Claims = { exp: Math.floor(askedAt / 1000) + longestLife, ...answer };
    const found: Introspected = { kind: 'active', claims };
    const end = Math.min(askedAt + cacheMs, typeof claims.exp === 'number' ? claims.exp * 1000 : 0);
    if (JSON.stringify(claims).length <= longestKept) active.set(key, found, end);
    return found;
  };

  return (token) => {
    const key = hashId(token);
    const now = nowMs();
    const kept = active.get(key, now) ?? inactive.get(key, now);
    if (kept !== undefined) return Promise.resolve(kept);
    const flight =
      flights.get(key) ??
      ask(token, key).finally(() => {
        flights.delete(key);
      });
    flights.set(key, flight);
    return flight;
  };
}

/** Answers with an end, as many as may be; the oldest goes first. */
function createAnswers() {
  const entries = new Map<string, { answer: Introspected; until: number }>();
  return {
    get(key: string, now: number): Introspected | undefined {
      const entry = entries.get(key);
      return entry !== undefined && now < entry.until ? entry.answer : undefined;
    },
    set(key: string, answer: Introspected, until: number): void {
      entries.delete(key);
      const [oldest] = entries.keys();
      if (entries.size >= mostEntries && oldest !== undefined) entries.delete(oldest);
      entries.set(key, { answer, until });
    },
  };
}
