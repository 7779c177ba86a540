import { randomBytes } from 'node:crypto';
import type { ClientMetadata, Configuration, Grant, JWKS, KoaContextWithOIDC } from 'oidc-provider';
import { type Dispatcher, fetch as undiciFetch } from 'undici';
import { withGrantTypes } from './clients.ts';
import { createMemoryAdapter } from './memory-adapter.ts';
import { renderErrorPage, renderLoggedOutPage, renderLogoutPage } from './pages.ts';
import type { Resources } from './resources.ts';
import { signingAlgorithm } from './signing-keys.ts';
import { EXCHANGED } from './token-exchange.ts';
import type { Users } from './users.ts';

export interface ProviderPolicy {
  clients: readonly ClientMetadata[];
  users: Users;
  jwks: JWKS;
  accessTokenTtlSeconds: number;
  resources: Resources;
  /** What a client may do by itself, without a user: the `roles` of its client credentials tokens. */
  applicationRoles: readonly string[];
  pushedAuthorizationRequests: 'off' | 'offered' | 'required';
  /** Authorization and logout requests by POST as well, which are other sites' forms. */
  takesForms: boolean;
  /** Claims are at UserInfo alone, and tokens are for UserInfo unless a request names a resource. */
  claimsAtUserInfo: boolean;
  /** Carries the back-channel logout calls; closed together with the provider. */
  dispatcher: Dispatcher;
}

/** Everything oidc-provider is told. What is not here is its default, and its defaults follow RFC 9700. */
export function buildConfiguration(policy: ProviderPolicy): Configuration {
  const { users, jwks, dispatcher, claimsAtUserInfo } = policy;
  const alg = signingAlgorithm(jwks);
  return {
    adapter: createMemoryAdapter(),
    clients: policy.clients.map(withGrantTypes),
    clientDefaults: { id_token_signed_response_alg: alg },
    clientBasedCORS: () => false,
    jwks,
    cookies: {
      keys: [randomBytes(32).toString('base64url')],
      // Lax, not Strict: the browser arrives here from another site, Cloakroom's, and should still be logged in.
      // A form comes with neither.
      long: { httpOnly: true, sameSite: policy.takesForms ? 'none' : 'lax', signed: true },
      short: { httpOnly: true, sameSite: 'lax', signed: true },
    },
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username', 'roles'],
      email: ['email', 'email_verified'],
    },
    // The ID token says who logged in: no access token made for an API could ask the userinfo endpoint for it.
    conformIdTokenClaims: claimsAtUserInfo,
    findAccount: (_ctx, sub) => {
      if (!users.get(sub)) return undefined;
      // Read at every call: a refreshed ID token shows the roles of now, not those of the login.
      return { accountId: sub, claims: () => ({ ...identityClaims(users, sub), sub }) };
    },
    extraTokenClaims: (_ctx, token) => {
      if (token.kind !== 'AccessToken') return { roles: [...policy.applicationRoles] };
      // Who acts for the user (RFC 8693 section 4.1).
      const actor = token.gty === EXCHANGED ? { act: { sub: token.clientId } } : {};
      return { ...accessTokenClaims(users, token.accountId), ...actor };
    },
    enableHttpPostMethods: policy.takesForms,
    fetch: (input, init) => fetchWithoutLoopbackGuard(input, init, dispatcher),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: grantWhatWasAsked,
    pkce: { required: () => true },
    responseTypes: ['code'],
    renderError: renderErrorPage,
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    // Numbers, also where they are the defaults: oidc-provider prints a notice for each one left to its own function.
    ttl: {
      AccessToken: policy.accessTokenTtlSeconds,
      AuthorizationCode: 60,
      ClientCredentials: policy.accessTokenTtlSeconds,
      Grant: 14 * DAY,
      IdToken: 60 * 60,
      Interaction: 60 * 60,
      RefreshToken: 14 * DAY,
      Session: 14 * DAY,
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: claimsAtUserInfo },
      jwtUserinfo: { enabled: claimsAtUserInfo },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientAuthMethod !== 'none' },
      revocation: { enabled: true, allowedPolicy: ownTokenOnly },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: renderLogoutPage,
        postLogoutSuccessSource: renderLoggedOutPage,
      },
      pushedAuthorizationRequests: {
        enabled: policy.pushedAuthorizationRequests !== 'off',
        requirePushedAuthorizationRequests: policy.pushedAuthorizationRequests === 'required',
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_ctx, _client, oneOf) =>
          oneOf?.[0] ?? (claimsAtUserInfo ? undefined : policy.resources.first),
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => policy.resources.describe(resource),
      },
    },
  };
}

const DAY = 24 * 60 * 60;

function identityClaims(users: Users, sub: string | undefined) {
  const user = sub === undefined ? undefined : users.get(sub);
  if (!user) return {};
  const { name, username, email, roles } = user;
  return { name, preferred_username: username, email, email_verified: true, roles: [...roles] };
}

function accessTokenClaims(users: Users, sub: string | undefined) {
  const { name, preferred_username, roles } = identityClaims(users, sub);
  return { name, preferred_username, roles };
}

/** A first-party client needs no consent page: what it asks for, within its registration, is granted. */
async function grantWhatWasAsked(ctx: KoaContextWithOIDC): Promise<Grant | undefined> {
  const { client, session, provider } = ctx.oidc;
  if (!client || !session?.accountId) return undefined;
  const grantId = session.grantIdFor(client.clientId);
  // One grant per browser session and client: oidc-provider binds tokens to it, so that a second one made by a
  // parallel tab would make the first tab's code invalid.
  const existing = grantId ? await provider.Grant.find(grantId) : undefined;
  const grant = existing ?? new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  grant.addOIDCScope(ctx.oidc.requestParamOIDCScopes);
  grant.addOIDCClaims(ctx.oidc.requestParamClaims);
  for (const [resource, server] of Object.entries(ctx.oidc.resourceServers ?? {})) {
    grant.addResourceScope(resource, server.scope);
  }
  await grant.save();
  return grant;
}

function ownTokenOnly(_ctx: unknown, client: { clientId: string }, token: { clientId?: string | undefined }): boolean {
  return token.clientId === client.clientId;
}

/**
 * oidc-provider refuses to call loopback and private addresses (server-side request forgery). Here the relying
 * party's back-channel logout endpoint lives on exactly such an address, so its guarded dispatcher is replaced.
 */
async function fetchWithoutLoopbackGuard(
  input: string | URL | Request,
  init: RequestInit | undefined,
  dispatcher: Dispatcher,
): Promise<Response> {
  const url = input instanceof Request ? input.url : input;
  // undici 8's fetch, because Node's built-in one brings an undici of its own that cannot use this dispatcher.
  // Both follow the Fetch standard; only their TypeScript names differ.
  const response = await undiciFetch(url, { ...(init as Parameters<typeof undiciFetch>[1]), dispatcher });
  return response as unknown as Response;
}
