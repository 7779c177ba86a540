import { decodeJwt } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import { bearers, forceRefresh, logOut, sessionOf } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { problemCode } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// One Cloakroom in front of several APIs: each gets a token made for it and nothing else.

const orders = 'urn:test:orders';
const catalog = 'urn:test:catalog';

let world: World;
afterEach(() => world.stop());

async function start(apis: Record<string, ConfigData>, change: (data: ConfigData) => void = () => undefined) {
  world = await startTimedWorld({
    config(data) {
      const { upstream } = data.apis.orders;
      data.apis = Object.fromEntries(
        Object.entries(apis).map(([name, api]) => [
          name,
          { path: `/api/${name}`, upstream, rewritePath: `/${name}`, ...api },
        ]),
      );
      change(data);
    },
  });
}

const get = (browser: Browser, name: string) =>
  browser.fetch(`/api/${name}/1`, { headers: { 'sec-fetch-site': 'same-origin' } });
/** Claims of the token of the last request that reached this API. */
function received(name: string) {
  const request = world.upstream.requests.findLast(({ target }) => target.startsWith(`/${name}/`));
  const bearer = request?.header('authorization')?.slice('Bearer '.length);
  return bearer === undefined ? undefined : decodeJwt(bearer);
}
const asked = (grantType: string) => world.provider.tokenRequests(grantType).map(({ params }) => params);
const exchangeType = 'urn:ietf:params:oauth:grant-type:token-exchange';

describe('token: user', () => {
  it('DT1 asks for a token per resource, once, and sends it there only', async () => {
    await start({ orders: { resource: orders }, catalog: { resource: catalog } });
    const alice = await world.loggedIn('alice');
    const calls = [1, 2, 3].flatMap(() => [get(alice, 'orders'), get(alice, 'catalog')]);
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(received('orders')).toMatchObject({ aud: orders, sub: 'alice' });
    expect(received('catalog')).toMatchObject({ aud: catalog, sub: 'alice' });
    expect(new Set(bearers(world)).size).toBe(2);
    expect(asked('refresh_token').map((params) => params.getAll('resource'))).toEqual(
      expect.arrayContaining([[orders], [catalog]]),
    );
    expect(asked('refresh_token')).toHaveLength(2);
    expect(world.provider.reuseDetected()).toBe(0);
  });

  it('DT5 asks for the resources of its APIs at the login already', async () => {
    await start({ orders: { resource: orders }, catalog: { resource: catalog }, jobs: { token: 'client' } });
    await world.loggedIn();
    const [login] = world.provider.requestsTo('authorize');
    expect(login?.params.getAll('resource')).toEqual([orders, catalog]);
  });

  it('DT1 asks by audience and by scopes where the server knows no resource', async () => {
    await start({ orders: { audience: 'https://orders.example', scopes: ['openid'] } });
    const alice = await world.loggedIn();
    expect((await get(alice, 'orders')).status).toBe(200);
    expect(received('orders')).toMatchObject({ aud: 'https://orders.example', scope: 'openid' });
    expect(asked('refresh_token').map(String)[0]).not.toContain('resource');
  });

  it('DT3 keeps each token as long as it lives, and gets the next ahead of its end', async () => {
    await start({ orders: { resource: orders } });
    const alice = await world.loggedIn();
    await get(alice, 'orders');
    world.clock.advance(230_000);
    await get(alice, 'orders');
    expect(new Set(bearers(world)).size).toBe(1);
    world.clock.advance(20_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    await until(() => asked('refresh_token').length === 2);
    await until(async () => {
      await get(alice, 'orders');
      return new Set(bearers(world)).size === 2;
    });
    expect(asked('refresh_token')).toHaveLength(2);
  });

  it('DT4 does not send the login’s token where the server gives none for the resource', async () => {
    await start({ orders: { resource: orders }, plain: {} });
    const alice = await world.loggedIn();
    world.provider.faults.refreshResponse = { body: { error: 'invalid_target' } };
    const refused = await get(alice, 'orders');
    expect(refused.status).toBe(403);
    expect(problemCode(refused)).toBe('BFF_TOKEN_REFUSED');
    expect(received('orders')).toBeUndefined();
    // Shared briefly: not every call asks again.
    expect((await get(alice, 'orders')).status).toBe(403);
    expect(asked('refresh_token')).toHaveLength(1);
    expect((await get(alice, 'plain')).status).toBe(200);

    delete world.provider.faults.refreshResponse;
    world.clock.advance(15_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    expect(received('orders')).toMatchObject({ aud: orders });
  });

  it('RF10 an invalid_grant that is about the resource ends no session, one about the login does', async () => {
    await start({ orders: { resource: orders }, plain: {} });
    const alice = await world.loggedIn();
    world.provider.faults.refreshResponse = [{ body: { error: 'invalid_grant' }, times: 1 }];
    expect((await get(alice, 'orders')).status).toBe(200);
    expect(asked('refresh_token').map((params) => params.getAll('resource'))).toEqual([[orders], [], [orders]]);

    world.provider.revokeGrants('alice');
    world.clock.advance(300_000);
    expect((await get(alice, 'orders')).status).toBe(401);
    expect((await sessionOf(alice)).authenticated).toBe(false);
  });

  it('W22 a session that can’t be refreshed any more is over with its access token, for an API with a token of its own too', async () => {
    await start({ orders: { resource: orders } });
    world.allowErrors();
    const alice = await world.loggedIn();
    world.provider.faults.refreshResponse = { times: 1, body: 'nothing of use' };
    expect(problemCode(await get(alice, 'orders'))).toBe('BFF_TOKEN_REFUSED');
    expect((await sessionOf(alice)).authenticated).toBe(true);
    world.clock.advance(300_000);
    const over = await get(alice, 'orders');
    expect([over.status, problemCode(over)]).toEqual([401, 'BFF_SESSION_REQUIRED']);
    expect((await sessionOf(alice)).authenticated).toBe(false);
    expect(asked('refresh_token')).toHaveLength(1);
  });

  it('T115 ends the session when a token for an API comes with somebody else’s ID token', async () => {
    await start({ orders: { resource: orders } });
    world.allowErrors();
    const alice = await world.loggedIn();
    world.provider.faults.refreshIdToken = { claims: { sub: 'mallory' } };
    expect((await get(alice, 'orders')).status).toBe(401);
    expect(received('orders')).toBeUndefined();
    expect((await sessionOf(alice)).authenticated).toBe(false);
  });

  it('gives no token for a resource to a session without a refresh token; the login’s own works', async () => {
    await start({ orders: { resource: orders }, plain: {} });
    world.provider.settings.issueRefreshToken = false;
    const alice = await world.loggedIn();
    expect(problemCode(await get(alice, 'orders'))).toBe('BFF_TOKEN_REFUSED');
    expect((await get(alice, 'plain')).status).toBe(200);
  });

  it('POST /bff/refresh makes the tokens of APIs new too', async () => {
    await start({ orders: { resource: orders } });
    const alice = await world.loggedIn();
    await get(alice, 'orders');
    expect((await forceRefresh(alice)).status).toBe(200);
    await get(alice, 'orders');
    expect(new Set(bearers(world)).size).toBe(2);
  });

  it('PO5 judges `require.scopes` by the token that is sent', async () => {
    await start({
      orders: { resource: orders, scopes: ['openid'], require: { scopes: ['profile'] } },
      plain: { require: { scopes: ['profile'] } },
    });
    const alice = await world.loggedIn();
    expect(problemCode(await get(alice, 'orders'))).toBe('BFF_POLICY_DENIED');
    expect((await get(alice, 'plain')).status).toBe(200);
  });
});

describe('token: exchange', () => {
  it('DT4 exchanges the session’s token and sends what comes, once', async () => {
    await start({ orders: { token: 'exchange', audience: 'orders', scopes: ['orders.read'] }, plain: {} });
    const alice = await world.loggedIn();
    const answers = await Promise.all([1, 2, 3, 4].map(() => get(alice, 'orders')));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await get(alice, 'plain');
    expect(received('orders')).toMatchObject({ aud: 'orders', scope: 'orders.read', sub: 'alice' });
    const [exchange, ...others] = asked(exchangeType);
    expect(others).toEqual([]);
    expect(Object.fromEntries(exchange ?? [])).toMatchObject({
      subject_token: bearers(world).at(-1)?.slice('Bearer '.length),
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      audience: 'orders',
      scope: 'orders.read',
    });
    expect(received('plain')).toMatchObject({ aud: world.provider.settings.audience });
  });

  it('DT4 renews the subject token first when it is over', async () => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.clock.advance(300_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    expect(world.provider.tokenRequests().map(({ params }) => params.get('grant_type'))).toEqual([
      'authorization_code',
      'refresh_token',
      exchangeType,
    ]);
  });

  it('DT4 renews it first also ahead of time: Keycloak refuses a subject token that is over', async () => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.clock.advance(200_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    // The exchanged token ages, but lives; the login's is over.
    world.clock.advance(250_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    await until(() => asked(exchangeType).length === 2, { message: 'the exchange ahead of time' });
    const grants = world.provider.tokenRequests().map(({ params }) => params.get('grant_type'));
    expect(grants).toEqual(['authorization_code', exchangeType, 'refresh_token', exchangeType]);
    const [first, second] = asked(exchangeType).map((params) => params.get('subject_token'));
    expect(second).not.toBe(first);
  });

  it('DT4 renews it first also when the API refused what was exchanged', async () => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.clock.advance(200_000);
    expect((await get(alice, 'orders')).status).toBe(200);
    world.clock.advance(150_000);
    const refused = bearers(world).at(-1);
    const answer = world.upstream.respond;
    const no = reply({ status: 401, headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']] });
    world.upstream.respond = (request, socket) =>
      (request.header('authorization') === refused ? no : answer)(request, socket);
    expect((await get(alice, 'orders')).status).toBe(200);
    const grants = world.provider.tokenRequests().map(({ params }) => params.get('grant_type'));
    expect(grants).toEqual(['authorization_code', exchangeType, 'refresh_token', exchangeType]);
  });

  const refusals = ['invalid_grant', 'invalid_request', 'invalid_target', 'access_denied', 'interaction_required'];
  it.each(refusals)('DT4 %s: nothing is sent instead, and the session is kept', async (error) => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.provider.faults.tokenResponse = { body: { error } };
    expect(problemCode(await get(alice, 'orders'))).toBe('BFF_TOKEN_REFUSED');
    expect(world.upstream.requests).toEqual([]);
    expect((await sessionOf(alice)).authenticated).toBe(true);
  });

  it.each([
    ['another issued_token_type', { issued_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }],
    ['no issued_token_type', { issued_token_type: undefined }],
    ['token_type N_A', { token_type: 'N_A' }],
  ])('DT4 %s is not believed', async (_what, changed) => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.provider.faults.tokenResponse = { mutate: (json) => ({ ...json, ...changed }) };
    expect(problemCode(await get(alice, 'orders'))).toBe('BFF_TOKEN_UNAVAILABLE');
    expect(world.upstream.requests).toEqual([]);
    expect((await sessionOf(alice)).authenticated).toBe(true);
  });

  it('DT4 honours expires_in of the exchanged token', async () => {
    await start({ orders: { token: 'exchange', audience: 'orders' } });
    const alice = await world.loggedIn();
    world.provider.faults.tokenResponse = { times: 1, mutate: (json) => ({ ...json, expires_in: 10 }) };
    await get(alice, 'orders');
    world.clock.advance(10_000);
    await get(alice, 'orders');
    expect(asked(exchangeType)).toHaveLength(2);
    expect(asked('refresh_token')).toHaveLength(0);
  });

  it('exchanges the ID token where the configuration says so, and on-behalf-of as Entra speaks it', async () => {
    await start({
      orders: { token: 'exchange', scopes: ['api://orders/.default'], exchange: { form: 'on-behalf-of' } },
      hr: { token: 'exchange', audience: 'hr', exchange: { subjectToken: 'id_token' } },
    });
    const alice = await world.loggedIn();
    expect((await get(alice, 'orders')).status).toBe(200);
    const [behalf] = asked('urn:ietf:params:oauth:grant-type:jwt-bearer');
    expect(Object.fromEntries(behalf ?? [])).toMatchObject({
      assertion: expect.stringMatching(/^ey/),
      requested_token_use: 'on_behalf_of',
      scope: 'api://orders/.default',
    });
    await get(alice, 'hr');
    const [exchange] = asked(exchangeType);
    expect(exchange?.get('subject_token_type')).toBe('urn:ietf:params:oauth:token-type:id_token');
    expect(decodeJwt(exchange?.get('subject_token') ?? '')).toMatchObject({ aud: 'cloakroom', sub: 'alice' });
  });
});

describe('token: client', () => {
  it('DT8 sends the application’s token, one for all users, and needs a session all the same', async () => {
    await start({ jobs: { token: 'client', resource: 'urn:test:jobs', scopes: ['jobs'] } });
    const [alice, bob] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
    await Promise.all([get(alice, 'jobs'), get(bob, 'jobs'), get(alice, 'jobs')]);
    expect(new Set(bearers(world)).size).toBe(1);
    expect(received('jobs')).toMatchObject({ sub: 'cloakroom', aud: 'urn:test:jobs', scope: 'jobs' });
    expect(asked('client_credentials')).toHaveLength(1);
    expect((await get(world.browser(), 'jobs')).status).toBe(401);
    await logOut(alice);
    expect((await get(alice, 'jobs')).status).toBe(401);
    expect(asked('client_credentials')).toHaveLength(1);
  });

  it('outlives an outage of the server, asks ahead of the end and waits between failures', async () => {
    await start({ jobs: { token: 'client' } });
    const alice = await world.loggedIn();
    await get(alice, 'jobs');
    await world.provider.down();
    world.clock.advance(250_000);
    expect((await get(alice, 'jobs')).status).toBe(200);
    world.clock.advance(50_000);
    const refused = await get(alice, 'jobs');
    expect([refused.status, problemCode(refused)]).toEqual([503, 'BFF_TOKEN_UNAVAILABLE']);
    await world.provider.up();
    world.clock.advance(30_000);
    expect((await get(alice, 'jobs')).status).toBe(200);
  });
});

describe('token: user-or-client', () => {
  it('DT8 gives a guest the application’s token and a user the user’s', async () => {
    await start({ catalog: { token: 'user-or-client', resource: catalog } });
    const guest = world.browser();
    expect((await get(guest, 'catalog')).status).toBe(200);
    expect(received('catalog')).toMatchObject({ sub: 'cloakroom', aud: catalog });
    const alice = await world.loggedIn('alice');
    expect((await get(alice, 'catalog')).status).toBe(200);
    expect(received('catalog')).toMatchObject({ sub: 'alice', aud: catalog });
    expect((await get(guest, 'catalog')).status).toBe(200);
    expect(received('catalog')).toMatchObject({ sub: 'cloakroom' });
    expect(asked('client_credentials')).toHaveLength(1);
  });

  it('DT8 makes no guest of a session that is lost, forged or doubled', async () => {
    await start({ catalog: { token: 'user-or-client' } });
    const alice = await world.loggedIn();
    const [cookie] = alice.cookies();
    await logOut(alice);
    const browser = world.browser();
    for (const value of [cookie?.value ?? '', 'forged', `${'A'.repeat(32)}.x`]) {
      browser.setCookie(`${cookie?.name}=${value}; Path=/`, { force: true });
      const refused = await get(browser, 'catalog');
      expect([refused.status, problemCode(refused)]).toEqual([401, 'BFF_SESSION_REQUIRED']);
    }
    expect(world.upstream.requests).toEqual([]);
    // It may be another server's: nothing but a logout clears what we can't read, and then it is a guest (W7).
    await browser.fetch('/bff/session');
    expect((await get(browser, 'catalog')).status).toBe(401);
    await logOut(browser);
    expect((await get(browser, 'catalog')).status).toBe(200);
    expect(received('catalog')).toMatchObject({ sub: 'cloakroom' });
  });

  it('CS1 lends the application’s token to no other site', async () => {
    await start({ catalog: { token: 'user-or-client' } });
    const headers = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' };
    const refused = await world.browser().fetch('/api/catalog/1', { method: 'POST', headers });
    expect(problemCode(refused)).toBe('BFF_CSRF_REJECTED');
    expect(world.upstream.requests).toEqual([]);
  });

  it('PO1 keeps guests out where `require` is set', async () => {
    await start({ catalog: { token: 'user-or-client', routes: [{ path: '/1', require: { roles: ['admin'] } }] } });
    expect((await get(world.browser(), 'catalog')).status).toBe(401);
    expect((await world.browser().fetch('/api/catalog/2', { headers: { 'x-csrf': '1' } })).status).toBe(200);
  });
});

describe('the ID token', () => {
  it('DT9 goes only to the API that names a header for it, and a browser can’t send one', async () => {
    await start({ orders: { idTokenHeader: 'x-id-token' }, plain: {} });
    const alice = await world.loggedIn();
    const headers = { 'sec-fetch-site': 'same-origin', 'x-id-token': 'forged' };
    await alice.fetch('/api/orders/1', { headers });
    const [toOrders] = world.upstream.requests;
    expect(decodeJwt(toOrders?.header('x-id-token') ?? '')).toMatchObject({ sub: 'alice', aud: 'cloakroom' });
    await alice.fetch('/api/plain/1', { headers });
    expect(world.upstream.requests.at(-1)?.header('x-id-token')).toBeUndefined();
    expect(JSON.stringify(world.upstream.requests.at(-1)?.headers)).not.toContain('forged');
  });
});

describe('on all replicas', () => {
  it('T88 one flight per resource, also when replicas race, and a refusal is shared', async () => {
    world = await startWorld({
      replicas: 2,
      config(data) {
        const { upstream } = data.apis.orders;
        data.apis = {
          orders: { path: '/api/orders', upstream, rewritePath: '/orders', resource: orders },
          catalog: { path: '/api/catalog', upstream, rewritePath: '/catalog', resource: catalog },
          denied: { path: '/api/denied', upstream, rewritePath: '/denied', token: 'exchange', audience: 'denied' },
        };
      },
    });
    const here = await world.loggedIn('alice');
    const there = world.browser(1);
    for (const { name, value } of here.cookies()) there.setCookie(`${name}=${value}; Path=/`, { force: true });
    const calls = [1, 2, 3, 4, 5].flatMap(() =>
      ['orders', 'catalog'].flatMap((name) => [get(here, name), get(there, name)]),
    );
    expect(new Set((await Promise.all(calls)).map(({ status }) => status))).toEqual(new Set([200]));
    for (const request of world.upstream.requests) {
      const { aud } = decodeJwt(request.header('authorization')?.slice('Bearer '.length) ?? '');
      expect(aud).toBe(request.target.startsWith('/orders') ? orders : catalog);
    }
    expect(asked('refresh_token')).toHaveLength(2);
    world.provider.faults.tokenResponse = { body: { error: 'access_denied' } };
    expect((await get(here, 'denied')).status).toBe(403);
    expect((await get(there, 'denied')).status).toBe(403);
    expect(asked(exchangeType)).toHaveLength(1);
  });
});
