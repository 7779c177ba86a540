import { createHash, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { Secret } from './secret.ts';

/** A key with the id that stands in what it sealed, so that a later key list still finds it (TS7). */
export interface SealingKey {
  id: Buffer;
  key: Buffer;
}

/** What one frontend derives from the server keys, newest first in every list. One key, one purpose. */
export interface KeyRing {
  /** Sign session cookies. */
  signing: Buffer[];
  /** Seal identities. */
  identity: SealingKey[];
  /** Half of what seals token sets; the browser's session id is the other half. */
  tokens: SealingKey[];
  /** Seal login transactions in the browser’s cookie, and step-ups in a login URL. */
  transaction: SealingKey[];
}

/**
 * Derives a frontend's keys (HKDF-SHA-256, RFC 5869). The frontend's name is part of the derivation: a cookie or a
 * record of one frontend means nothing to another.
 */
export function buildKeyRing(serverKeys: Secret[], frontend: string): KeyRing {
  const masters = serverKeys.map((key) => Buffer.from(key.reveal(), 'base64'));
  const derive = (purpose: string) => masters.map((master) => hkdf(master, '', `cloakroom/1/${frontend}/${purpose}`));
  const sealing = (purpose: string): SealingKey[] => {
    const keys = derive(purpose);
    return masters.map((master, index) => ({
      id: hkdf(master, '', 'cloakroom/1/key-id').subarray(0, 4),
      key: keys[index] as Buffer,
    }));
  };
  return {
    signing: derive('cookie'),
    identity: sealing('identity'),
    tokens: sealing('tokens'),
    transaction: sealing('transaction'),
  };
}

/**
 * The keys for one session's token set. Without the session id, which only the browser's cookie carries, a copy of
 * Redis and of the server keys opens nothing (TS3).
 */
export function deriveSessionKeys(keys: SealingKey[], sessionId: string): SealingKey[] {
  return keys.map(({ id, key }) => ({ id, key: hkdf(key, sessionId, 'cloakroom/1/session') }));
}

/** base64url SHA-256: how ids appear in Redis, so that a dump has no live cookie (TS4). */
export function hashId(...parts: string[]): string {
  const hash = createHash('sha256');
  // The length in front keeps ("a", "bc") apart from ("ab", "c").
  for (const part of parts) hash.update(parts.length === 1 ? part : `${Buffer.byteLength(part)}:${part}`);
  return hash.digest('base64url');
}

/**
 * Is this text the server key? Compared in constant time, and as bytes: an operator sends it as it was configured,
 * in hex, base64 or base64url.
 */
export function isServerKey(key: Secret, sent: string): boolean {
  const expected = Buffer.from(key.reveal(), 'base64');
  const bytes = Buffer.from(sent, /^([0-9a-f]{2}){32,}$/i.test(sent) ? 'hex' : 'base64');
  return bytes.length === expected.length && timingSafeEqual(bytes, expected);
}

/** `isServerKey` for a secret that stands in the configuration too. */
export function isSameKey(key: Secret, other: Secret): boolean {
  return isServerKey(key, other.reveal());
}

function hkdf(key: Buffer, salt: string, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}
