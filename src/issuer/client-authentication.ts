import { importPKCS8 } from 'jose';
import * as oidc from 'openid-client';
import type { AuthorizationServerConfig } from '../config/config.ts';

/** How Cloakroom proves that it is the registered client. A new assertion is made for every call (RF16). */
export async function buildClientAuthentication(config: AuthorizationServerConfig): Promise<oidc.ClientAuth> {
  const method =
    config.clientAuthentication ?? (config.privateKey === undefined ? 'client_secret_basic' : 'private_key_jwt');
  const secret = config.clientSecret?.reveal() ?? '';
  switch (method) {
    case 'client_secret_basic':
      return oidc.ClientSecretBasic(secret);
    case 'client_secret_post':
      return oidc.ClientSecretPost(secret);
    case 'client_secret_jwt':
      return withAudience(config, (options) => oidc.ClientSecretJwt(secret, options));
    case 'private_key_jwt': {
      const imported = await importPKCS8(config.privateKey?.reveal() ?? '', config.privateKeyAlgorithm);
      const key = config.privateKeyId === undefined ? imported : { key: imported, kid: config.privateKeyId };
      return withAudience(config, (options) => oidc.PrivateKeyJwt(key, options));
    }
  }
}

/**
 * The issuer is what newer standards want in `aud`, because it can't be mixed up with another server's endpoint. RFC 7523
 * §3 named the token endpoint, and servers of its time want that, or the endpoint that is called.
 */
function withAudience(
  { clientAssertionAudience }: AuthorizationServerConfig,
  build: (options: oidc.ModifyAssertionOptions) => oidc.ClientAuth,
): oidc.ClientAuth {
  if (clientAssertionAudience === 'issuer') return build({});
  return (server, client, body, headers) => {
    const audience =
      clientAssertionAudience === 'token_endpoint' ? server.token_endpoint : calledEndpoint(server, body);
    const authenticate = build({
      [oidc.modifyAssertion]: (_header, payload) => {
        payload.aud = audience;
      },
    });
    return authenticate(server, client, body, headers);
  };
}

/** openid-client does not say where the request goes; each of ours is known by what only it has. */
function calledEndpoint(server: oidc.ServerMetadata, body: URLSearchParams): string | undefined {
  if (body.has('grant_type')) return server.token_endpoint;
  return body.has('token') ? server.revocation_endpoint : server.pushed_authorization_request_endpoint;
}
