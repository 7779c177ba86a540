import { decodeProtectedHeader } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBrowser } from '../support/browser.ts';
import { type Demo, type DemoOptions, loggedInAt, startDemo } from '../support/demo.ts';

// The demo as it is, and other token modes in front of its two APIs, which check issuer, signature and their own
// audience. The provider is oidc-provider.

interface Me {
  claims: { sub: string; aud: string; roles?: string[]; scope?: string; client_id?: string; act?: unknown };
}

describe('tokens for the demo’s APIs', () => {
  let demo: Demo;
  const start = async (options: DemoOptions = {}) => {
    demo = await startDemo(options);
    return demo;
  };
  afterEach(async () => {
    await demo.stop();
    expect(demo.log.errors()).toEqual([]);
  });

  it('gets each API a token of its own audience, from one login', async () => {
    await start();
    const alice = await loggedInAt(demo, 'alice');
    const orders = await alice.fetch('/api/orders/me');
    const catalog = await alice.fetch('/api/catalog/me');
    expect(orders.json<Me>().claims).toMatchObject({ sub: 'alice', aud: 'urn:cloakroom:demo:orders', scope: 'orders' });
    expect(catalog.json<Me>().claims).toMatchObject({
      sub: 'alice',
      aud: 'urn:cloakroom:demo:catalog',
      scope: 'catalog',
    });
    await alice.close();
  });

  it('lets a guest read the catalog with the application’s token, and nothing else (DT8)', async () => {
    await start();
    const guest = createBrowser({ origin: demo.origin, fetchHeaders: { 'x-csrf': '1' } });
    const me = await guest.fetch('/api/catalog/me');
    expect(me.json<Me>().claims).toMatchObject({
      sub: 'cloakroom-demo',
      aud: 'urn:cloakroom:demo:catalog',
      roles: ['reader'],
    });
    expect((await guest.fetch('/api/catalog/products')).status).toBe(200);
    // The route's rule wants a user, and the API itself the role.
    const arrived = demo.bearers.length;
    const change = await guest.fetch('/api/catalog/products/1', { method: 'PUT', body: { price: 1 } });
    expect(change.status).toBe(401);
    expect(change.json()).toMatchObject({ code: 'BFF_SESSION_REQUIRED', loginUrl: '/bff/login' });
    expect((await guest.fetch('/api/orders/orders')).status).toBe(401);
    expect(demo.bearers).toHaveLength(arrived);
    await guest.close();
  });

  it('exchanges the login’s token for one of the API’s audience that names the actor (RFC 8693)', async () => {
    await start({
      config({ apis }) {
        apis.orders.token = 'exchange';
        apis.catalog.token = 'user';
      },
    });
    const bob = await loggedInAt(demo, 'bob');
    const { claims } = (await bob.fetch('/api/orders/me')).json<Me>();
    expect(claims).toMatchObject({
      sub: 'bob',
      aud: 'urn:cloakroom:demo:orders',
      client_id: 'cloakroom-demo',
      act: { sub: 'cloakroom-demo' },
      roles: ['clerk'],
    });
    expect((await bob.fetch('/api/orders/orders')).status).toBe(200);
    // One exchange serves both calls.
    expect(new Set(demo.bearers).size).toBe(1);
    await bob.close();
  });

  it('exchanges an ID token, and asks by audience', async () => {
    await start({
      config({ apis }) {
        Object.assign(apis.orders, {
          token: 'exchange',
          resource: undefined,
          audience: 'urn:cloakroom:demo:orders',
          exchange: { subjectToken: 'id_token', requestedTokenType: 'jwt' },
        });
      },
    });
    const bob = await loggedInAt(demo, 'bob');
    expect((await bob.fetch('/api/orders/me')).json<Me>().claims).toMatchObject({ sub: 'bob', act: expect.anything() });
    await bob.close();
  });

  it('gets a token on behalf of the user in the form that Microsoft Entra ID speaks', async () => {
    await start({
      config({ apis }) {
        Object.assign(apis.orders, {
          token: 'exchange',
          resource: undefined,
          scopes: ['urn:cloakroom:demo:orders/.default'],
          exchange: { form: 'on-behalf-of' },
        });
      },
    });
    const bob = await loggedInAt(demo, 'bob');
    expect((await bob.fetch('/api/orders/me')).json<Me>().claims).toMatchObject({
      sub: 'bob',
      aud: 'urn:cloakroom:demo:orders',
      act: { sub: 'cloakroom-demo' },
    });
    await bob.close();
  });
});

describe('what the demo’s provider exchanges', () => {
  const own = 'cloakroom-demo:demo-secret-for-the-local-provider-only';
  const other = { client_id: 'other', client_secret: 'not-a-secret', redirect_uris: ['https://other.example/cb'] };
  let demo: Demo;
  beforeEach(async () => {
    demo = await startDemo();
  });
  afterEach(() => demo.stop());

  const ask = async (
    path: string,
    parameters: Record<string, string>,
    credentials = own,
  ): Promise<Record<string, unknown>> => {
    const response = await fetch(`${demo.issuer}${path}`, {
      method: 'POST',
      headers: { authorization: `Basic ${btoa(credentials)}` },
      body: new URLSearchParams(parameters),
    });
    return { status: response.status, ...((await response.json()) as object) };
  };
  const exchange = (changes: Record<string, string> = {}, credentials = own) =>
    ask(
      '/token',
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: demo.bearers[0] ?? '',
        subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        resource: 'urn:cloakroom:demo:catalog',
        ...changes,
      },
      credentials,
    );

  it('is its own live token, of the same client, for one target', async () => {
    const alice = await loggedInAt(demo, 'alice');
    await alice.fetch('/api/orders/me');
    expect(await exchange()).toMatchObject({
      status: 200,
      token_type: 'Bearer',
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      scope: 'catalog',
    });
    expect(await exchange({ subject_token: 'x.y.z' })).toMatchObject({ status: 400, error: 'invalid_grant' });
    const [head, body] = (demo.bearers[0] ?? '').split('.');
    expect(await exchange({ subject_token: `${head}.${body}.AAAA` })).toMatchObject({ error: 'invalid_grant' });
    const idToken =
      demo.tokens.find((token) => token.includes('.') && decodeProtectedHeader(token).typ === undefined) ?? '';
    expect(idToken).not.toBe('');
    expect(await exchange({ subject_token: idToken })).toMatchObject({ error: 'invalid_grant' });
    expect(await exchange({ resource: 'urn:cloakroom:demo:none' })).toMatchObject({ error: 'invalid_target' });
    expect(await exchange({ audience: 'urn:cloakroom:demo:orders' })).toMatchObject({ error: 'invalid_target' });
    expect(await exchange({ scope: 'orders' })).toMatchObject({ error: 'invalid_scope' });
    expect(await exchange({}, 'other:not-a-secret')).toMatchObject({ status: 401, error: 'invalid_client' });
    await alice.close();
  });

  it('is nothing of another client, and nothing after the logout', async () => {
    await demo.stop();
    demo = await startDemo({ otherClients: [other] });
    const alice = await loggedInAt(demo, 'alice');
    await alice.fetch('/api/orders/me');
    expect(await exchange({}, 'other:not-a-secret')).toMatchObject({ status: 400, error: 'invalid_grant' });
    expect(await exchange()).toMatchObject({ status: 200 });
    // The logout revokes the refresh token, some seconds later, and the grant with it.
    await alice.fetch('/bff/logout', { method: 'POST' });
    await expect.poll(() => exchange(), { timeout: 15_000 }).toMatchObject({ status: 400, error: 'invalid_grant' });
    await alice.close();
  });

  it('says by introspection whether an opaque token is alive', async () => {
    await demo.stop();
    const resources = [{ identifier: 'urn:opaque', format: 'opaque' as const }];
    demo = await startDemo({ provider: { resources }, config: ({ apis }) => deleteResources(apis) });
    const token = String((await ask('/token', { grant_type: 'client_credentials' })).access_token);
    expect(await ask('/token/introspection', { token })).toMatchObject({ active: true, aud: 'urn:opaque' });
    expect(await ask('/token/introspection', { token: `${token}x` })).toEqual({ status: 200, active: false });
  });
});

function deleteResources(apis: Record<string, Record<string, unknown>>): void {
  for (const api of Object.values(apis)) delete api.resource;
}
