import { exportJWK, generateKeyPair, type JSONWebKeySet, type JWK } from 'jose';
import type { JWKS } from 'oidc-provider';

/** A fresh ES256 key per start: made in a millisecond, where an RSA key takes a good part of a second. */
export async function generateSigningKeys(): Promise<JWKS> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const jwk: JWK = await exportJWK(privateKey);
  return { keys: [{ ...jwk, alg: 'ES256', use: 'sig', kid: crypto.randomUUID() }] } as JWKS;
}

/** The algorithm that ID tokens and access tokens are signed with: that of the first key. */
export function signingAlgorithm(jwks: JWKS): 'ES256' | 'RS256' {
  return jwks.keys[0]?.kty === 'RSA' ? 'RS256' : 'ES256';
}

/** The set as the provider publishes it. */
export function publicKeys(jwks: JWKS): JSONWebKeySet {
  const keys = jwks.keys.map(({ kty, crv, x, y, n, e, kid, alg, use }) => ({ kty, crv, x, y, n, e, kid, alg, use }));
  return JSON.parse(JSON.stringify({ keys }));
}
