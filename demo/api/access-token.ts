import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from 'jose';

export type TokenResult =
  | { outcome: 'valid'; claims: JWTPayload }
  | { outcome: 'rejected'; reason: string }
  | { outcome: 'unavailable'; reason: string };

/**
 * Checks access tokens as RFC 9068 section 4 says: signature by a key of the issuer, issuer, audience, expiry and the
 * type `at+jwt`, so that an ID token, which the same issuer signs with the same key, is no access token.
 */
export function createTokenVerifier(issuer: string, audience: string): (token: string) => Promise<TokenResult> {
  let keys: Promise<ReturnType<typeof createRemoteJWKSet>> | undefined;

  return async function verify(token) {
    try {
      // At the first token, not at start: the API may be up before the provider.
      keys ??= discoverKeys(issuer);
      const options = {
        issuer,
        audience,
        typ: 'at+jwt',
        algorithms: ['ES256', 'RS256'],
        requiredClaims: ['exp', 'sub'],
      };
      const { payload } = await jwtVerify(token, await keys, options);
      return { outcome: 'valid', claims: payload };
    } catch (error) {
      if (isTokenFault(error)) return { outcome: 'rejected', reason: error.message };
      keys = undefined;
      return { outcome: 'unavailable', reason: 'the keys of the authorization server cannot be read' };
    }
  };
}

async function discoverKeys(issuer: string): Promise<ReturnType<typeof createRemoteJWKSet>> {
  const response = await fetch(`${issuer}/.well-known/openid-configuration`, { signal: AbortSignal.timeout(3000) });
  if (!response.ok) throw new Error(`discovery answered ${response.status}`);
  const metadata = (await response.json()) as { issuer?: unknown; jwks_uri?: unknown };
  if (metadata.issuer !== issuer || typeof metadata.jwks_uri !== 'string') {
    throw new Error(`discovery of ${issuer} describes another issuer`);
  }
  return createRemoteJWKSet(new URL(metadata.jwks_uri), { timeoutDuration: 3000 });
}

/** The token is at fault, not the way to the keys: everything jose says except that it could not fetch them. */
function isTokenFault(error: unknown): error is errors.JOSEError {
  const fetchFaults = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];
  return error instanceof errors.JOSEError && !fetchFaults.includes(error.code);
}
