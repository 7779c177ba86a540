import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort } from '../support/redis.ts';
import { playedBy } from './scenarios/played.ts';
import { startDjangoServer } from './support/django-server.ts';
import { post } from './support/real-server.ts';
import { openRealWorld, type RealWorld, refresh } from './support/real-world.ts';

// django-oauth-toolkit, as it comes from PyPI.

let world: RealWorld;
beforeAll(async () => {
  const [port, relayPort] = [await freePort(), await freePort()];
  const origin = `http://localhost:${port}`;
  const server = await startDjangoServer(relayPort);
  const client = await server.addApp(origin);
  world = await openRealWorld({
    server,
    origin,
    client,
    config: (upstream, files) => ({
      publicUrl: origin,
      files,
      authorizationServer: {
        issuer: server.issuer,
        ...client,
        scopes: ['openid', 'profile', 'email'],
        clockTolerance: '0s',
        revocationEndpoint: server.revocationEndpoint,
        idTokenHint: true,
      },
      apis: {
        orders: {
          path: '/api/orders',
          upstream,
          require: { roles: ['clerk'] },
          routes: [{ path: '/*/refund', methods: ['POST'], require: { maxAge: '10s' } }],
        },
      },
    }),
  });
});
afterAll(() => world?.stop());

for (const [name, play] of playedBy('django')) it(name, () => play(world));

it('says itself what it does not offer, or shows it', async () => {
  const { server, shop } = world;
  const metadata = async (kind: string) =>
    (await (await fetch(`${server.issuer}/.well-known/${kind}`)).json()) as Record<string, unknown>;
  const openid = await metadata('openid-configuration');
  for (const name of ['backchannel_logout_supported', 'frontchannel_logout_supported', 'acr_values_supported'])
    expect(openid).not.toHaveProperty(name);
  const { grant_types_supported: grants } = await metadata('oauth-authorization-server');
  expect(grants).toContain('refresh_token');
  expect(grants).not.toContain('urn:ietf:params:oauth:grant-type:token-exchange');

  // Its end-session page takes no form but its own.
  const body = new URLSearchParams({ client_id: shop.clientId });
  expect((await fetch(String(openid.end_session_endpoint), { method: 'POST', body })).status).toBe(403);

  // An application has one grant: that of the shop is no client of its own.
  const client = { grant_type: 'client_credentials' };
  await expect(post(server.tokenEndpoint, shop, client)).rejects.toThrow('unauthorized_client');
  const { token } = await server.issueJobToken();
  expect(token.split('.')).toHaveLength(1);
  // A refresh for one API's scopes narrows the refresh token itself (RFC 6749 §6 would not): the next API gets nothing.
  await refresh(await world.loggedIn(await server.addUser()), shop);
  const granted = JSON.parse(server.relay.refreshes().at(-1)?.answer as string);
  const narrow = { grant_type: 'refresh_token', refresh_token: granted.refresh_token, scope: 'openid email' };
  const narrowed = await post<{ refresh_token: string }>(server.tokenEndpoint, shop, narrow);
  const wide = { grant_type: 'refresh_token', refresh_token: narrowed.refresh_token, scope: 'openid profile' };
  await expect(post(server.tokenEndpoint, shop, wide)).rejects.toThrow('invalid_scope');
});
