import { Signer } from '@fastify/cookie';
import { LRUCache } from 'lru-cache';
import { cookieValues } from '../http/cookies.ts';

/** What the browser's Cookie header says about a session, before any store is asked. */
export type Ticket =
  | { kind: 'none' }
  /** Two cookies of the name: someone planted one, and order decides nothing (CK8, T43). */
  | { kind: 'ambiguous' }
  /** Unsigned, forged, signed with a key that was removed, or somebody else's: another server's on this host (W7). */
  | { kind: 'forged' }
  | { kind: 'valid'; sessionId: string; value: string; isOldKey: boolean };

/**
 * Signs session cookies with the first key, accepts all of them, and remembers what it verified: the same cookie comes
 * with every call of its browser.
 */
export function createSigner(keys: Buffer[], remembered: number): Signer {
  const verified = new LRUCache<string, ReturnType<Signer['unsign']>>({ max: remembered });
  // @fastify/cookie's types know only strings; it takes Buffers, as HMAC does.
  const signer = new Signer(keys as unknown as string[], 'sha256');
  const unsign = signer.unsign.bind(signer);
  signer.unsign = (value) => {
    const known = verified.get(value);
    if (known !== undefined) return known;
    const result = unsign(value);
    if (result.valid) verified.set(value, result); // what is forged must not push out what is not
    return result;
  };
  return signer;
}

/**
 * Reads and verifies the session cookie without any write: an API call can't put an old session back (S1).
 * The name is compared exactly, so `__host-…` variants of other subdomains are other cookies (T44). Nothing is decoded:
 * a ticket has one spelling.
 */
export function readTicket(cookieHeader: string | undefined, cookieName: string, signer: Signer): Ticket {
  const values = cookieValues(cookieHeader, cookieName);
  const [value] = values;
  if (value === undefined) return { kind: 'none' };
  if (values.length > 1) return { kind: 'ambiguous' };
  const { valid, renew, value: sessionId } = signer.unsign(value);
  return valid && sessionId !== null && sessionIdForm.test(sessionId)
    ? { kind: 'valid', sessionId, value, isOldKey: renew }
    : { kind: 'forged' };
}

/** 24 random bytes in base64url, as @fastify/session makes them. */
const sessionIdForm = /^[A-Za-z0-9_-]{32}$/;
