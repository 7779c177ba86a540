import type { Run } from './run.ts';

const signatures = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES256K', 'ES384', 'ES512', 'EdDSA',
]; // biome-ignore format: a list of names reads better in rows

/** What the suite says about itself: nothing of PKCE, several flows, and an end-session endpoint for logouts alone. */
export function suiteMetadata(issuer: string, { module, jwksPath }: Run): Record<string, unknown> {
  return {
    issuer,
    authorization_endpoint: `${issuer}authorize`,
    token_endpoint: `${issuer}token`,
    jwks_uri: `${issuer}${jwksPath}`,
    userinfo_endpoint: `${issuer}userinfo`,
    registration_endpoint: `${issuer}register`,
    scopes_supported: ['openid', 'phone', 'profile', 'email', 'address', 'offline_access'],
    response_types_supported: ['code', 'id_token code', 'token code id_token', 'id_token', 'token id_token', 'token'],
    response_modes_supported: ['query', 'fragment', 'form_post'],
    token_endpoint_auth_methods_supported: ['client_secret_basic'],
    token_endpoint_auth_signing_alg_values_supported: signatures,
    grant_types_supported: ['authorization_code', 'implicit'],
    claims_parameter_supported: true,
    acr_values_supported: ['PASSWORD'],
    subject_types_supported: ['public', 'pairwise'],
    claim_types_supported: ['normal', 'aggregated', 'distributed'],
    claims_supported: ['sub', 'name', 'email'],
    id_token_signing_alg_values_supported: ['none', ...signatures],
    userinfo_signing_alg_values_supported: signatures,
    ...(module.logout === undefined
      ? {}
      : {
          check_session_iframe: `${issuer}check_session_iframe`,
          end_session_endpoint: `${issuer}end_session_endpoint`,
        }),
  };
}
