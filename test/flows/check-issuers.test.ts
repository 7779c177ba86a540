import { describe, expect, it, onTestFinished } from 'vitest';
import { type ProviderOptions, startProvider } from '../../demo/provider.ts';
import { check, configOf, faultsOf, redirectUri, startEvil, stopAfterwards } from '../support/check.ts';
import { startIntrospectionServer } from '../support/introspection-server.ts';
import type { ConfigData } from '../support/world.ts';

// `cloakroom check --connect` with a server that is used in production, and with issuers of bearer tokens.

describe('oidc-provider', () => {
  const client = {
    client_id: 'shop',
    client_secret: 'a-secret-of-the-shop-8s7d6f',
    redirect_uris: [redirectUri],
    scope: 'openid profile',
  };
  async function checkWith(options: ProviderOptions, change: (server: ConfigData) => void = () => undefined) {
    const provider = await startProvider({ port: 0, clients: [client], ...options });
    onTestFinished(() => provider.close());
    const data = configOf({ issuer: provider.issuer, clientId: 'shop', clientSecret: client.client_secret });
    change(data.authorizationServer);
    return check(data);
  }

  const ways = ['off', 'offered', 'required'] as const;
  it.each(ways)('that takes us has nothing but ok (PAR: %s)', async (pushedAuthorizationRequests) => {
    expect(faultsOf(await checkWith({ pushedAuthorizationRequests }))).toEqual([]);
  });

  it.each(ways)('names a wrong secret (PAR: %s)', async (pushedAuthorizationRequests) => {
    const findings = await checkWith({ pushedAuthorizationRequests }, (server) => {
      server.clientSecret = 'another-secret-8s7d6f';
    });
    expect(faultsOf(findings)).toEqual([
      expect.stringMatching(/^FAIL {2}authorizationServer\.clientAuthentication: .*invalid_client/),
    ]);
  });

  it('names a redirect URI that is not registered, and an unknown client', async () => {
    const clients = [{ ...client, redirect_uris: ['https://other.example.com/bff/callback'] }];
    const pushed = faultsOf(await checkWith({ clients, pushedAuthorizationRequests: 'offered' }));
    expect(pushed).toEqual([
      expect.stringMatching(
        /^FAIL {2}.*redirect URI https:\/\/app\.example\.com\/bff\/callback is refused: .* → .*register publicUrl/,
      ),
    ]);
    const shown = faultsOf(await checkWith({ clients, pushedAuthorizationRequests: 'off' }));
    expect(shown).toEqual([
      expect.stringMatching(
        /^warn {2}.*does not come back to https:\/\/app\.example\.com\/bff\/callback .* → register that/,
      ),
    ]);
    const unknown = await checkWith({ pushedAuthorizationRequests: 'off' }, (server) => {
      server.clientId = 'nobody';
    });
    expect(faultsOf(unknown).at(-1)).toMatch(
      /^FAIL {2}authorizationServer\.\w+: the token endpoint refuses the client: .*invalid_client/,
    );
  });

  it.each(['off', 'offered'] as const)(
    'names a scope that this client has not (PAR: %s)',
    async (pushedAuthorizationRequests) => {
      const findings = await checkWith({ pushedAuthorizationRequests }, (server) => {
        server.scopes = ['openid', 'email'];
      });
      expect(faultsOf(findings)).toEqual([
        expect.stringMatching(/^FAIL {2}authorizationServer\.scopes: .*invalid_scope.* → .*correct scopes/),
      ]);
    },
  );
});

describe('an issuer of bearer tokens', () => {
  it('is asked for its keys, and about a token with the client that introspects', async () => {
    const provider = await startEvil();
    const opaque = await startIntrospectionServer();
    stopAfterwards(opaque);
    const data = configOf(provider);
    const client = { clientId: opaque.clientId, clientSecret: opaque.clientSecret };
    data.bearerIssuers = {
      jwt: { issuer: provider.issuer, audiences: ['https://api.example.com'] },
      opaque: { issuer: opaque.issuer, audiences: ['api'], introspection: { ...client, endpoint: opaque.endpoint } },
    };
    data.apis = { orders: { path: '/api/orders', upstream: provider.issuer, accept: ['bearer'] } };
    expect(faultsOf(await check(data))).toEqual([]);
    data.bearerIssuers.opaque.introspection.clientSecret = 'another-secret-8s7d6f';
    provider.faults.jwks = { status: 404 };
    const faults = faultsOf(await check(data));
    expect(faults).toContainEqual(
      expect.stringMatching(/^FAIL {2}bearerIssuers\.jwt\.issuer: its signing keys can’t be read/),
    );
    expect(faults).toContainEqual(
      expect.stringMatching(/^FAIL {2}bearerIssuers\.opaque\.introspection: it does not tell the client/),
    );
  });
});
