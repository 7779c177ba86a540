import type { ClientMetadata } from 'oidc-provider';
import { EXCHANGE_GRANT_TYPES } from './token-exchange.ts';

/** Not a secret: it is printed here for everybody, and opens nothing but a demo on your own machine. */
export const DEMO_CLIENT_SECRET = 'demo-secret-for-the-local-provider-only';
export const DEMO_CLIENT_ID = 'cloakroom-demo';

/** Where Cloakroom answers in front of the demo: `publicUrl` of its config, with no slash at the end. */
export function demoClient(publicUrl: string): ClientMetadata {
  return {
    client_id: DEMO_CLIENT_ID,
    client_name: 'the Cloakroom demo',
    client_secret: DEMO_CLIENT_SECRET,
    token_endpoint_auth_method: 'client_secret_basic',
    redirect_uris: [`${publicUrl}/bff/callback`],
    post_logout_redirect_uris: [`${publicUrl}/`],
    backchannel_logout_uri: `${publicUrl}/bff/backchannel-logout`,
    backchannel_logout_session_required: true,
  };
}

/** All grants that Cloakroom can ask for; a client that lists its own keeps them. */
export function withGrantTypes(client: ClientMetadata): ClientMetadata {
  return {
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials', ...EXCHANGE_GRANT_TYPES],
    response_types: ['code'],
    ...client,
  };
}
