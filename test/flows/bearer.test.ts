import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { type RunningProvider, startProvider } from '../../demo/provider.ts';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { assertNoSecrets } from '../support/canary.ts';
import { type Demo, loggedInAt, startDemo } from '../support/demo.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, refusalOf } from '../support/websocket/page.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { startWorld } from '../support/world.ts';

// Programs beside browsers, at the same APIs: with oidc-provider as issuer of both kinds of token, and with a Redis
// that nobody needs for it.

const orders = 'urn:cloakroom:demo:orders';
const robot = {
  client_id: 'robot',
  client_secret: 'robot-secret-of-this-test-only',
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  token_endpoint_auth_method: 'client_secret_post' as const,
};

/** The client's own token, by the client credentials grant. */
async function tokenFor(provider: RunningProvider, resource: string): Promise<string> {
  const response = await fetch(`${provider.issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: robot.client_id,
      client_secret: robot.client_secret,
      resource,
    }),
  });
  const { access_token: token } = (await response.json()) as { access_token?: string };
  if (token === undefined) throw new Error(`no token: ${response.status}`);
  return token;
}

describe('programs and browsers at one API, with oidc-provider', () => {
  let demo: Demo;
  let other: RunningProvider;
  const used: string[] = [];

  afterEach(async () => {
    await demo.stop();
    await other.close();
    assertNoSecrets({ secrets: used, haystacks: [{ name: 'log', text: demo.log.text() }] });
    expect(demo.log.errors()).toEqual([]);
  });

  const call = async (path: string, token: string) => {
    used.push(token);
    const response = await fetch(`${demo.origin}${path}`, { headers: { authorization: `Bearer ${token}` } });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  };

  it('BV2, BV3 takes JWTs of two issuers and opaque tokens, each at the API that it is for', async () => {
    const opaque = { identifier: 'urn:cloakroom:test:opaque', format: 'opaque' as const };
    // Keys of another kind: RS256 beside the demo's ES256.
    other = await startProvider({ port: 0, clients: [robot], resources: [opaque, orders] });
    demo = await startDemo({
      otherClients: [robot],
      config(data) {
        Object.assign(data.apis.orders, { accept: ['session', 'bearer'] });
        data.apis.opaque = {
          path: '/api/opaque',
          upstream: data.apis.orders.upstream,
          accept: ['bearer'],
          token: 'none',
        };
        data.apis.opaque.require = { roles: ['reader'] };
        data.bearerIssuers = {
          login: { issuer: data.authorizationServer.issuer, audiences: [orders] },
          partner: {
            issuer: other.issuer,
            audiences: [orders, opaque.identifier],
            introspection: { clientId: robot.client_id, clientSecret: robot.client_secret },
          },
        };
      },
    });

    const alice = await loggedInAt(demo, 'alice');
    const asSession = await alice.fetch('/api/orders/me');
    expect(asSession.json<{ claims: { sub: string } }>().claims.sub).toBe('alice');
    // A user's token in the hands of a program is that user's.
    const [aliceToken = ''] = demo.bearers;
    expect(await call('/api/orders/me', aliceToken)).toMatchObject({ status: 200, json: { claims: { sub: 'alice' } } });
    // An application's own token is the application's.
    const own = await tokenFor(demo.provider, orders);
    expect(await call('/api/orders/me', own)).toMatchObject({ status: 200, json: { claims: { sub: 'robot' } } });
    expect(demo.bearers.slice(-2)).toEqual([aliceToken, own]);
    expect((await call('/api/orders/me', await tokenFor(demo.provider, 'urn:cloakroom:demo:catalog'))).status).toBe(
      401,
    );

    // The other issuer. Its JWT is good here, but not to the API itself, which knows one issuer only.
    const foreign = await call('/api/orders/me', await tokenFor(other, orders));
    expect(foreign).toMatchObject({ status: 401 });
    expect(foreign.json).not.toHaveProperty('code');
    const opaqueToken = await tokenFor(other, opaque.identifier);
    expect(opaqueToken).not.toContain('.');
    // The API sees no token there, and says so.
    const passed = await call('/api/opaque/me', opaqueToken);
    expect(passed.status).toBe(401);
    expect(passed.json).not.toHaveProperty('code');
    expect(await call('/api/orders/me', opaqueToken)).toMatchObject({
      status: 401,
      json: { code: 'BFF_BEARER_INVALID' },
    });
    for (const nothing of ['made-up-token', own.slice(0, -2), demo.tokens.find((token) => !token.includes('.')) ?? ''])
      expect(await call('/api/opaque/me', nothing)).toMatchObject({
        status: 401,
        json: { code: 'BFF_BEARER_INVALID' },
      });
    await alice.close();
  });

  it('BV3 never takes a refresh token for an access token, although oidc-provider calls it active', async () => {
    other = await startProvider({ port: 0, clients: [robot] });
    demo = await startDemo({
      config(data) {
        Object.assign(data.apis.orders, { accept: ['session', 'bearer'] });
        const { issuer, clientId, clientSecret } = data.authorizationServer;
        data.bearerIssuers = { login: { issuer, audiences: [orders], introspection: { clientId, clientSecret } } };
      },
    });
    const alice = await loggedInAt(demo, 'alice');
    const refreshToken = demo.tokens.find((token) => !token.includes('.')) ?? '';
    const introspected = await fetch(`${demo.issuer}/token/introspection`, {
      method: 'POST',
      headers: { authorization: `Basic ${btoa('cloakroom-demo:demo-secret-for-the-local-provider-only')}` },
      body: new URLSearchParams({ token: refreshToken }),
    });
    expect(await introspected.json()).toMatchObject({ active: true, sub: 'alice' });
    expect(await call('/api/orders/me', refreshToken)).toMatchObject({
      status: 401,
      json: { code: 'BFF_BEARER_INVALID' },
    });
    await alice.close();
  });
});

describe('a program’s call', () => {
  it('BV5 reads and writes no session: nothing comes into Redis, and nothing is missed while Redis is gone', async () => {
    const redis = await startFaultProxy(Number(new URL(inject('redisUrl')).port));
    const world = await startWorld({
      redisUrl: redis.redisUrl,
      config(data) {
        data.apis.orders.accept = ['session', 'bearer'];
        data.bearerIssuers = { own: { issuer: data.authorizationServer.issuer, audiences: ['api'] } };
      },
    });
    const call = async (method = 'GET') =>
      (
        await fetch(`${world.origin}/api/orders/1`, {
          method,
          headers: { authorization: `Bearer ${world.provider.accessToken()}` },
        })
      ).status;
    try {
      expect([await call(), await call('POST')]).toEqual([200, 200]);
      expect(await dumpRedis(inject('redisUrl'), `${world.keyPrefix}*`)).toEqual([]);
      const alice = await world.loggedIn('alice');
      redis.refuse();
      expect([await call(), await call('POST')]).toEqual([200, 200]);
      expect((await alice.fetch('/api/orders/1')).status).toBe(503);
    } finally {
      redis.reset();
      await world.stop();
      await redis.stop();
    }
  });
});

describe('a program’s WebSocket', () => {
  let world: BearerWorld;
  const api = createWebSocketApi(echo);
  beforeAll(async () => {
    world = await startBearerWorld({
      config: ({ apis }) => {
        apis.both.websocket = {};
        apis.orders.websocket = {};
      },
    });
  });
  beforeEach(() => {
    world.fresh();
    world.upstream.respond = api.respond;
  });
  afterAll(() => world.stop());
  const path = '/api/both/ws';
  const bearer = (token: string, more: Record<string, string> = {}) => ({ authorization: `Bearer ${token}`, ...more });

  it('BV5 is opened by a token, without an Origin, and the API gets the same token', async () => {
    const token = world.mobile.accessToken();
    const socket = await openWebSocket(world, undefined, { path, origin: null, headers: bearer(token) });
    socket.socket.send('hello');
    await until(() => socket.messages.includes('hello'));
    socket.socket.terminate();
    expect(world.arrived()).toEqual([`Bearer ${token}`]);
  });

  it('BV5 is no way round the Origin list, nor into APIs that accept no token', async () => {
    const token = world.mobile.accessToken();
    const evil = { path, origin: 'https://evil.example', headers: bearer(token) };
    expect(await refusalOf(world, undefined, evil)).toMatchObject({ status: 403 });
    const elsewhere = { path: '/api/orders/ws', origin: null, headers: bearer(token) };
    expect((await refusalOf(world, undefined, elsewhere)).status).toBe(403);
    const browser = await world.loggedIn('alice');
    const both = await refusalOf(world, browser, { path, origin: null, headers: bearer(token) });
    expect(both).toMatchObject({ status: 400, code: 'BFF_CREDENTIALS_AMBIGUOUS' });
    for (const bad of ['made-up', world.mobile.accessToken({ alg: 'none' })])
      expect(await refusalOf(world, undefined, { path, origin: null, headers: bearer(bad) })).toMatchObject({
        status: 401,
        code: 'BFF_BEARER_INVALID',
      });
    expect(world.upstream.requests).toEqual([]);
  });

  it('BV2 does not outlive its token', async () => {
    const exp = Math.floor(world.clock.now() / 1000) + 1; // timers are real
    const token = world.mobile.accessToken({ claims: { exp } });
    const socket = await openWebSocket(world, undefined, { path, origin: null, headers: bearer(token) });
    expect((await socket.closed).code).toBe(4401);
  });
});

describe('forward-auth', () => {
  it('decides about a program’s call as it would for one to Cloakroom itself', async () => {
    const key = randomBytes(32).toString('base64url');
    const world = await startBearerWorld({
      config(data) {
        data.trustedProxies = ['127.0.0.1/32'];
        data.forwardAuth = { key };
      },
    });
    const ask = (uri: string, lines: string[]) =>
      world.send('/bff/forward-auth', [
        `X-Forward-Auth-Key: ${key}`,
        'X-Original-Method: GET',
        `X-Original-URI: ${uri}`,
        ...lines,
      ]);
    try {
      const line = `Authorization: Bearer ${world.provider.accessToken()}`;
      const good = await ask('/api/checked/1', [line]);
      expect(good.status).toBe(200);
      expect(good.header('authorization')).toBeUndefined();
      expect((await ask('/api/orders/1', [line])).status).toBe(401);
      expect(await ask('/api/both/1?access_token=x', [line])).toMatchObject({ code: 'BFF_BEARER_MALFORMED' });
      expect(await ask('/api/both/1', [line, line])).toMatchObject({ code: 'BFF_BEARER_MALFORMED' });
      expect(await ask('/api/both/1', ['Authorization: Bearer made-up'])).toMatchObject({ code: 'BFF_BEARER_INVALID' });
    } finally {
      await world.stop();
    }
  });
});
