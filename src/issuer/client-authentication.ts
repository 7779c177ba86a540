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
      return oidc.ClientSecretJwt(secret);
    case 'private_key_jwt': {
      const key = await importPKCS8(config.privateKey?.reveal() ?? '', config.privateKeyAlgorithm);
      return oidc.PrivateKeyJwt(config.privateKeyId === undefined ? key : { key, kid: config.privateKeyId });
    }
  }
}
