import { generateKeyPairSync } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import type { DiscoveryFault } from '../support/evil-provider/faults.ts';
import { toJwk } from '../support/evil-provider/jwt.ts';
import type { EvilProviderOptions } from '../support/evil-provider.ts';
import { attemptLogin } from '../support/login-attempt.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// Authorization servers that are not where their issuer says, and those that want another audience in client assertions.

let world: World;
afterEach(() => world.stop());

interface Start {
  provider?: EvilProviderOptions;
  /** `origin`: of the provider. */
  config?: (data: ConfigData, origin: string) => void;
}

async function start({ provider = {}, config }: Start): Promise<void> {
  world = await startWorld({
    store: 'memory',
    provider,
    config: (data) => config?.(data, new URL(data.authorizationServer.issuer).origin),
  });
}

describe('W31 metadata beside the issuer', () => {
  const startAt = (metadataPath: string, issuerPath = '/tfp/6f1e/b2c_1_signin/v2.0/', url = metadataPath) =>
    start({
      provider: { issuerPath, metadataPath },
      config: ({ authorizationServer }, origin) => {
        authorizationServer.metadataUrl = `${origin}${url}`;
      },
    });

  it.each([
    ['as Azure AD B2C has it', '/tenant/b2c_1_signin/v2.0/.well-known/openid-configuration'],
    ['with the policy in the query', '/tenant/v2.0/.well-known/openid-configuration?p=b2c_1_signin'],
    ['of an OAuth server', '/.well-known/oauth-authorization-server/tfp'],
    ['with no well-known path', '/metadata.json'],
  ])('W31 %s: the login works', async (_what, metadataPath) => {
    await startAt(metadataPath);
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    expect(world.provider.requestsTo('discovery').map(({ url }) => url)).toEqual([metadataPath]);
  });

  const otherIssuers: [string, (issuer: string) => DiscoveryFault][] = [
    ['of another tenant', (issuer) => ({ issuer: `${issuer}tenant-b` })],
    ['with a slash less', (issuer) => ({ issuer: issuer.slice(0, -1) })],
    ['of the place of the metadata', (issuer) => ({ issuer: new URL('/tenant', issuer).href })],
    ['with a template for the tenant', (issuer) => ({ issuer: issuer.replace('6f1e', '{tenantid}') })],
  ];
  it.each(otherIssuers)('W31 with an issuer %s: no login begins', async (_what, fault) => {
    await startAt('/tenant/.well-known/openid-configuration');
    world.provider.faults.discovery = fault(world.provider.issuer);
    expect((await attemptLogin(world)).isLoggedIn).toBe(false);
    expect(world.log.text()).toContain('the issuer in the metadata is another one');
    expect(world.provider.requestsTo('authorize')).toEqual([]);
  });

  it('W31 at a URL where there is none: nothing else is asked', async () => {
    await startAt('/here', '/tenant', '/there');
    expect((await attemptLogin(world)).isLoggedIn).toBe(false);
    expect(new Set(world.provider.requests.map(({ url }) => url))).toEqual(new Set(['/there']));
  });

  it('W31 of an issuer of bearer tokens: its keys are found there, and only its tokens are taken', async () => {
    const metadataPath = '/tenant/b2c_1_api/v2.0/.well-known/openid-configuration?p=x';
    await start({
      provider: { issuerPath: '/tfp/6f1e', metadataPath },
      config: (data, origin) => {
        const { issuer } = data.authorizationServer;
        data.authorizationServer.metadataUrl = `${origin}${metadataPath}`;
        data.bearerIssuers = { mobile: { issuer, metadataUrl: `${origin}${metadataPath}`, audiences: ['api'] } };
        data.apis.orders.accept = ['bearer'];
      },
    });
    await until(() => world.provider.requestsTo('discovery').length >= 2);
    const call = async (token: string) =>
      (await world.browser().fetch('/api/orders/1', { headers: { authorization: `Bearer ${token}` } })).status;
    expect(await call(world.provider.accessToken())).toBe(200);
    expect(await call(world.provider.accessToken({ claims: { iss: new URL(world.provider.issuer).origin } }))).toBe(
      401,
    );
  });
});

describe('W32 the audience of client assertions', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keys = {
    provider: { clientJwks: [toJwk({ kid: 'cloakroom-1', publicKey })] },
    config: {
      clientSecret: undefined,
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      privateKeyId: 'cloakroom-1',
    },
  };
  const methods = {
    private_key_jwt: keys,
    client_secret_jwt: { provider: {}, config: { clientAuthentication: 'client_secret_jwt' } },
  };
  const audiences = [
    ['issuer', 'issuer', undefined],
    ['token', 'token_endpoint', 'token_endpoint'],
    ['called', 'called_endpoint', 'called_endpoint'],
  ] as const;

  /** Pushes, redeems, refreshes, revokes; an API's own token by client credentials too. */
  async function useAll(): Promise<void> {
    const browser = await world.loggedIn();
    const headers = { 'x-csrf': '1' };
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers })).status).toBe(200);
    expect((await browser.fetch('/api/orders/1', { headers })).status).toBe(200);
    expect((await browser.fetch('/bff/logout', { method: 'POST', headers })).status).toBe(200);
    await until(() => world.provider.revoked.length > 0, { message: 'the refresh token to be revoked' });
  }

  for (const [method, { provider, config }] of Object.entries(methods))
    it.each(audiences)(`W32 ${method}: a server that wants the %s has it with %s`, async (wanted, _name, setting) => {
      await start({
        provider: { ...provider, par: true, assertionAudience: wanted },
        config: (data) => {
          Object.assign(data.authorizationServer, config);
          if (setting !== undefined) data.authorizationServer.clientAssertionAudience = setting;
          data.apis.orders.token = 'client';
        },
      });
      await useAll();
      const of = (endpoint: 'par' | 'token' | 'revocation') =>
        world.provider.requestsTo(endpoint).map(({ params }) => decode(params.get('client_assertion')).aud);
      const { issuer } = world.provider;
      const path = {
        issuer: ['', '', ''],
        token: ['/token', '/token', '/token'],
        called: ['/par', '/token', '/revoke'],
      };
      const [par, token, revoke] = path[wanted].map((end) => [`${issuer}${end}`]);
      expect([...new Set(of('par'))]).toEqual(par);
      expect([...new Set(of('token'))]).toEqual(token);
      expect([...new Set(of('revocation'))]).toEqual(revoke);
    });
});

function decode(assertion: string | null): Record<string, unknown> {
  return JSON.parse(Buffer.from(assertion?.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
}
