import { describe, expect, it } from 'vitest';
import { hideSecrets, normalizeAnswer } from '../../../src/issuer/answer.ts';

const normal = (answer: unknown) => JSON.parse(normalizeAnswer(JSON.stringify(answer)).text);

describe('an answer of an authorization server', () => {
  it('W25 has no members that are null', () => {
    expect(normal({ access_token: 'a', refresh_token: null, expires_in: null, scope: null, token_type: null })).toEqual(
      {
        access_token: 'a',
      },
    );
    expect(normal({ issuer: 'https://id.example', end_session_endpoint: null })).toEqual({
      issuer: 'https://id.example',
    });
    expect(normal({ keys: [{ kty: 'RSA', use: null, alg: null, key_ops: null }, null, 7] })).toEqual({
      keys: [{ kty: 'RSA' }, null, 7],
    });
  });

  it('T115 has no refresh token that is empty', () => {
    expect(normal({ access_token: '', refresh_token: '' })).toEqual({ access_token: '' });
  });

  it('W25 has its scopes as one text', () => {
    expect(normal({ access_token: 'a', scope: ['openid', 'profile'] })).toMatchObject({ scope: 'openid profile' });
    expect(normal({ active: true, scope: ['a', 'b'] })).toEqual({ active: true, scope: 'a b' });
    expect(normal({ access_token: 'a', scope: [] })).toMatchObject({ scope: '' });
  });

  it.each([
    { active: 'true' },
    { active: 1 },
    { access_token: 'a', scope: ['openid', 7] },
    { access_token: 'a', scope: { openid: true } },
    { sub: 'alice', scope: ['a claim', 'of a user'], refresh_token: '' },
    { expires_in: '60', access_token: 7, refresh_token: ['r'], token_type: 'BEARER' },
    { aud: ['a', 'b'], sub: 7, roles: [null], address: { region: null } },
    [null, { scope: ['a'] }],
    null,
    'text',
  ])('W25 is left as it is otherwise: %j', (answer) => {
    const text = ` ${JSON.stringify(answer)}\n`;
    expect(normalizeAnswer(text).text).toBe(text);
  });

  it('is left as it is where it is no JSON, a JWT or nothing', () => {
    for (const text of ['', 'eyJhbGciOiJSUzI1NiJ9.e30.AAAA', '<h1>scope: null</h1>', '{"scope":null'])
      expect(normalizeAnswer(text)).toEqual({ text, isError: false });
  });

  it('T38 is left as it is where it is nested deeper than can be written', () => {
    const text = `{"scope":null,"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    expect(normalizeAnswer(text).text).toBe(text);
  });

  it('T38 puts nothing into a prototype', () => {
    const { text } = normalizeAnswer('{"__proto__":{"polluted":true},"scope":null}');
    expect(text).toBe('{"__proto__":{"polluted":true}}');
    expect(Object.prototype).not.toHaveProperty('polluted');
  });

  it('T39 has no secret in it, in whatever form JSON writes that, and stays JSON', () => {
    const secret = 'correct "horse"\\battery';
    const text = JSON.stringify({ error: 'invalid_client', error_description: `no client with ${secret}!` });
    expect(JSON.parse(hideSecrets(text, [secret, '', 'no']))).toEqual({
      error: 'invalid_client',
      error_description: 'no client with (not shown)!',
    });
  });

  it('is an error where it has a code', () => {
    expect(normalizeAnswer('{"error":"invalid_client"}').isError).toBe(true);
    expect(normalizeAnswer('{"error":null}').isError).toBe(false);
  });
});
