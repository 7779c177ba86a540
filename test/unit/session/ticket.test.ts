import { randomBytes } from 'node:crypto';
import { Signer } from '@fastify/cookie';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readTicket } from '../../../src/session/ticket.ts';

const key = (): string => randomBytes(32).toString('latin1');
const [current, previous, removed] = [key(), key(), key()];
const signer = new Signer([current, previous], 'sha256');
const id = randomBytes(24).toString('base64url');
const ticket = signer.sign(id);
const read = (header: string | undefined) => readTicket(header, '__Host-c', signer);

describe('the session cookie in a Cookie header', () => {
  it('is found wherever it stands', () => {
    const valid = { kind: 'valid', sessionId: id, value: ticket, isOldKey: false };
    for (const header of [
      `__Host-c=${ticket}`,
      `a=1; __Host-c=${ticket}`,
      `a=1;__Host-c=${ticket};b=2`,
      `  __Host-c=${ticket}  `,
      `x__Host-c=planted; __Host-c=${ticket}`,
      `a=__Host-c=planted; __Host-c=${ticket}`,
      ` __Host-c\t= ${ticket}\t`,
    ])
      expect(read(header), header).toEqual(valid);
  });

  it('T43 is ambiguous when it stands there twice', () => {
    for (const header of [
      `__Host-c=${ticket}; __Host-c=${ticket}`,
      `__Host-c=; __Host-c=${ticket}`,
      `__Host-c=${ticket};__Host-c=x`,
    ])
      expect(read(header), header).toEqual({ kind: 'ambiguous' });
  });

  it('T44 has exactly its name', () => {
    for (const name of ['__host-c', '__HOST-c', '__Host-C', '__Host-c\xa0', '\xa0__Host-c', '__Host-cc', 'x__Host-c'])
      expect(read(`${name}=${ticket}`).kind, name).toBe('none');
    expect(read(undefined)).toEqual({ kind: 'none' });
    expect(read('')).toEqual({ kind: 'none' });
  });

  it('T46 says when it was signed with the previous key, and is forged with a removed one', () => {
    expect(read(`__Host-c=${new Signer(previous, 'sha256').sign(id)}`)).toMatchObject({
      kind: 'valid',
      isOldKey: true,
    });
    expect(read(`__Host-c=${new Signer(removed, 'sha256').sign(id)}`)).toEqual({ kind: 'forged' });
  });

  it('T42 is forged when a valid signature is on something that is no id', () => {
    for (const value of [
      '',
      'short',
      '__proto__',
      'a'.repeat(31),
      'a'.repeat(33),
      `${'a'.repeat(31)}/`,
      `${'a'.repeat(31)}\n`,
    ])
      expect(read(`__Host-c=${signer.sign(value)}`), value).toEqual({ kind: 'forged' });
  });

  it('W2 has one spelling', () => {
    for (const value of [`%${ticket.charCodeAt(0).toString(16)}${ticket.slice(1)}`, `"${ticket}"`, `${ticket}\xa0`])
      expect(read(`__Host-c=${value}`), value).toEqual({ kind: 'forged' });
  });

  it('T42 never throws and never accepts what was not signed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        const { kind } = read(`__Host-c=${value}`);
        expect(kind).not.toBe('valid');
      }),
    );
    fc.assert(
      fc.property(fc.nat(ticket.length - 1), fc.constantFrom(...'Aa0_-./+%;= '), (at, character) => {
        const changed = `${ticket.slice(0, at)}${character}${ticket.slice(at + 1)}`;
        fc.pre(changed !== ticket);
        expect(read(`__Host-c=${changed}`).kind).not.toBe('valid');
      }),
    );
  });
});
