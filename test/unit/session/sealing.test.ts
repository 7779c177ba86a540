import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildKeyRing, deriveSessionKeys, hashId } from '../../../src/crypto/keys.ts';
import { open, seal } from '../../../src/crypto/seal.ts';
import { Secret } from '../../../src/crypto/secret.ts';

const master = () => new Secret(randomBytes(32).toString('base64'));
const [newer, older] = [master(), master()];
const ring = buildKeyRing([newer, older], 'shop');
const text = '{"a":"ünïcode","n":1}';

describe('sealed bytes', () => {
  it('open again, also any text', () => {
    expect(open(ring.identity, seal(ring.identity, text, 'x'), 'x')).toBe(text);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (plain, context) => {
        expect(open(ring.tokens, seal(ring.tokens, plain, context), context)).toBe(plain);
      }),
    );
  });

  it('are different every time', () => {
    expect(seal(ring.identity, text, 'x')).not.toEqual(seal(ring.identity, text, 'x'));
  });

  it('T52 do not open after a change of any one bit', () => {
    const sealed = seal(ring.identity, text, 'x');
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(open(ring.identity, changed, 'x'), `bit ${bit}`).toBeUndefined();
    }
  });

  it('T52 do not open cut to any length', () => {
    const sealed = seal(ring.identity, text, 'x');
    for (let length = 0; length < sealed.length; length++)
      expect(open(ring.identity, sealed.subarray(0, length), 'x'), `${length} bytes`).toBeUndefined();
  });

  it('T52 do not open in another context, for another purpose, frontend or session', () => {
    const sealed = seal(ring.identity, text, 'identity/1/a');
    expect(open(ring.identity, sealed, 'identity/1/b')).toBeUndefined();
    expect(open(ring.tokens, sealed, 'identity/1/a')).toBeUndefined();
    expect(open(ring.transaction, sealed, 'identity/1/a')).toBeUndefined();
    expect(open(buildKeyRing([newer, older], 'admin').identity, sealed, 'identity/1/a')).toBeUndefined();
    const tokens = seal(deriveSessionKeys(ring.tokens, 'session-a'), text, 'x');
    expect(open(deriveSessionKeys(ring.tokens, 'session-b'), tokens, 'x')).toBeUndefined();
    expect(open(ring.tokens, tokens, 'x')).toBeUndefined();
  });

  it('T46 are sealed with the newest key and open with any that is still listed', () => {
    const before = buildKeyRing([older], 'shop');
    expect(open(ring.identity, seal(before.identity, text, 'x'), 'x')).toBe(text);
    expect(open(before.identity, seal(ring.identity, text, 'x'), 'x')).toBeUndefined();
    expect(open(buildKeyRing([newer], 'shop').identity, seal(before.identity, text, 'x'), 'x')).toBeUndefined();
  });
});

describe('keys', () => {
  it('are all different: one key, one purpose', () => {
    const all = [
      ...ring.signing,
      ...[ring.identity, ring.tokens, ring.transaction].flat().map(({ key }) => key),
      ...buildKeyRing([newer], 'admin').signing,
      ...deriveSessionKeys(ring.tokens, 'session-a').map(({ key }) => key),
      Buffer.from(newer.reveal(), 'base64'),
    ].map((key) => key.toString('hex'));
    expect(new Set(all).size).toBe(all.length);
    for (const key of all) expect(key).toHaveLength(64);
  });

  it('do not depend on their place in the list, so that a rotation finds them again', () => {
    expect(buildKeyRing([older, newer], 'shop').tokens[1]).toEqual(ring.tokens[0]);
  });
});

describe('hashed ids', () => {
  it('do not collide across the border of their parts', () => {
    const hashes = [
      hashId('a', 'bc'),
      hashId('ab', 'c'),
      hashId('abc'),
      hashId('a', 'b', 'c'),
      hashId('abc', ''),
      hashId('', 'abc'),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    for (const hash of hashes) expect(hash).toMatch(/^[A-Za-z0-9_-]{43}$/);
  });
});
