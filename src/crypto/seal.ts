import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { SealingKey } from './keys.ts';

// Sealed bytes: version (1) · key id (4) · IV (12) · tag (16) · ciphertext. AES-256-GCM with a random IV.
const version = 1;
const headerLength = 1 + 4 + 12 + 16;

/**
 * Seals with the newest key. `context` says what the bytes are and whose; they open only in the same context, so one
 * record can't be put in another's place (TS2).
 */
export function seal(keys: SealingKey[], plaintext: string, context: string): Buffer {
  const newest = keys[0];
  if (newest === undefined) throw new Error('no sealing key');
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', newest.key, iv);
  cipher.setAAD(Buffer.from(context));
  const ciphertext = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
  return Buffer.concat([Buffer.of(version), newest.id, iv, cipher.getAuthTag(), ciphertext]);
}

/** The plaintext, or `undefined` for anything that none of the keys sealed in this context. */
export function open(keys: SealingKey[], sealed: Buffer, context: string): string | undefined {
  if (sealed.length < headerLength || sealed[0] !== version) return undefined;
  const id = sealed.subarray(1, 5);
  const key = keys.find((candidate) => candidate.id.equals(id));
  if (key === undefined) return undefined;
  try {
    const decipher = createDecipheriv('aes-256-gcm', key.key, sealed.subarray(5, 17), { authTagLength: 16 });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(sealed.subarray(17, 33));
    return Buffer.concat([decipher.update(sealed.subarray(33)), decipher.final()]).toString('utf8');
  } catch {
    return undefined; // the tag does not fit: forged, swapped or damaged
  }
}
