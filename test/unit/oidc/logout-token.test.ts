import { describe, expect, it } from 'vitest';
import { usualSigningAlgorithms } from '../../../src/config/config.ts';
import { isExpectedAlgorithm } from '../../../src/oidc/logout-token.ts';

const had = (...idTokenAlgorithms: string[]) => ({ idTokenAlgorithms });
const isExpected = (algorithm: string, ...sessions: { idTokenAlgorithms?: string[] }[]) =>
  isExpectedAlgorithm({ idTokenSigningAlgorithms: usualSigningAlgorithms }, algorithm, sessions);

describe('the algorithm of a logout token', () => {
  it('W48 is one that the ID tokens of the sessions had', () => {
    expect(isExpected('RS256', had('RS256'))).toBe(true);
    expect(isExpected('ES256', had('RS256'), had('RS256'))).toBe(false);
    expect(isExpected('ES256', had('RS256', 'ES256'))).toBe(true);
    expect(isExpected('ES256', had('RS256'), had('ES256'))).toBe(true);
  });

  it('W48 is any where nothing is known: no session, or one that an older release wrote', () => {
    expect(isExpected('ES256')).toBe(true);
    expect(isExpected('ES256', {})).toBe(true);
    expect(isExpected('ES256', had('RS256'), {})).toBe(true);
  });

  it('W48 has two names for Ed25519 (RFC 9864)', () => {
    expect(isExpected('Ed25519', had('EdDSA'))).toBe(true);
    expect(isExpected('EdDSA', had('Ed25519'))).toBe(true);
    expect(isExpected('EdDSA', had('ES256'))).toBe(false);
  });

  it('W48 is any of those that the configuration names, whatever the ID tokens had', () => {
    const config = { idTokenSigningAlgorithms: ['RS256' as const, 'ES256' as const] };
    expect(isExpectedAlgorithm(config, 'ES256', [had('RS256')])).toBe(true);
  });
});
