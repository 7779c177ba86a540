import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// T79, T81, T83: a group of paths under an API protects it however the path is written, whatever the API’s token is.

let world: ProxyWorld;
let admin: Browser;
let bob: Browser;
let anonymous: Browser;

const groups = [
  { path: '/admin', require: { roles: ['admin'] } },
  { path: '/*/refunds', methods: ['POST', 'GET'], require: { claims: { level: 3 } } },
  { path: '/admin/keys', require: { scopes: ['keys'] } },
];
const apis = { orders: 'user', guests: 'user-or-client', open: 'none', own: 'client' };

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    for (const [name, token] of Object.entries(apis))
      data.apis[name] = { path: `/api/${name}`, upstream, token, routes: groups };
  });
  admin = await world.loggedIn('admin', { roles: ['admin'] });
  bob = await world.loggedIn('bob', { roles: ['user'] });
  anonymous = world.browser();
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const call = (browser: Browser, target: string, method = 'GET') =>
  browser.fetch(target, { method, headers: { 'x-csrf': '1' } });

describe.each(Object.entries(apis))('an API %s (token: %s)', (name, token) => {
  const isOpenToAll = token === 'none' || token === 'user-or-client';

  const spellings = [
    '/admin',
    '/admin/',
    '/admin/x',
    '/admin/x/y?z',
    '/admin?x=/public',
    '/%61dmin',
    '/%61%64%6D%69%6e/x',
    '/admin;x',
    '/admin;x=1/y',
    '/admin%3bx',
    '/admin%3B',
    '/ADMIN',
    '/aDmin/x',
    '/%41dmin',
    '/admin.',
    '/admin%20',
    '/admin%2e',
    '/admin.json',
    '/admin.json/x',
  ];
  it.each(spellings)('T79 T81 protects %s', async (spelling) => {
    const target = `/api/${name}${spelling}`;
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
      expect((await call(bob, target, method)).status, method).toBe(403);
      expect((await call(anonymous, target, method)).status, method).toBe(401);
    }
    expect(world.upstream.requests).toEqual([]);
    expect((await call(admin, target)).status).toBe(200);
    // Sent as it came: what was judged is what arrives.
    expect(world.upstream.requests.map((request) => request.target)).toEqual([spelling]);
  });

  it.each([
    '/x/../admin',
    '/admin/..',
    '//admin',
    '/;x/admin',
    '/%3b/admin',
    '/%2e/admin',
    '/admin%2fx',
    '/x\\admin',
    '/%2561dmin',
  ])('T79 refuses %s', async (spelling) => {
    const head = world.head(`/api/${name}${spelling}`);
    expect((await rawRequest(world.port, head)).status).toBe(400);
    expect(world.upstream.requests).toEqual([]);
  });

  it('T81 leaves other paths as the API has them', async () => {
    for (const path of ['', '/', '/administrator', '/admins', '/x/admin', '/admin-x', '/%61dmins'])
      for (const [who, browser] of Object.entries({ bob, anonymous })) {
        const { status } = await call(browser, `/api/${name}${path}`);
        expect(status, `${path} for ${who}`).toBe(who === 'bob' || isOpenToAll ? 200 : 401);
      }
  });

  it('a group with methods is about those, and HEAD is a GET', async () => {
    const status = async (method: string) => (await call(admin, `/api/${name}/7/refunds/1`, method)).status;
    for (const method of ['GET', 'HEAD', 'POST']) expect(await status(method), method).toBe(403);
    for (const method of ['PUT', 'PATCH', 'DELETE']) expect(await status(method), method).toBe(200);
  });

  it('T83 all groups that match are needed', async () => {
    expect((await call(admin, `/api/${name}/admin/keys`)).status).toBe(403);
    expect((await call(admin, `/api/${name}/admin/refunds`)).status).toBe(403);
    const both = await world.loggedIn('both', { roles: ['admin'], level: 3 });
    expect((await call(both, `/api/${name}/admin/refunds`)).status).toBe(200);
    expect((await call(both, `/api/${name}/7/refunds`)).status).toBe(200);
    expect((await call(both, `/api/${name}/admin/keys`)).status).toBe(403);
  });

  it('PO2 no header says what the path is', async () => {
    const lines = ['X-Original-URL: /', 'X-Rewrite-URL: /', 'X-Forwarded-Uri: /', 'X-Http-Method-Override: GET'];
    const result = await rawRequest(world.port, world.head(`/api/${name}/admin`, lines, 'DELETE'));
    expect(result.status).toBe(403); // Alice has no role
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('what is sent', () => {
  it('PO3 nothing of a session where the API is public, also on its protected path', async () => {
    await call(admin, '/api/open/admin');
    await call(admin, '/api/open/x');
    const sent = world.upstream.requests.map(({ header }) => [header('authorization'), header('cookie')]);
    expect(sent).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  it('DT8 the user’s own token on a protected path, the application’s for guests beside it', async () => {
    await call(admin, '/api/guests/admin');
    await call(admin, '/api/guests/x');
    await call(anonymous, '/api/guests/x');
    const [one, two, three] = world.upstream.requests.map(({ header }) => header('authorization'));
    expect(one).toBe(two);
    expect(three).not.toBe(one);
    expect([one, two, three]).toEqual(Array(3).fill(expect.stringMatching(/^Bearer /)));
  });

  it('a lost session is no guest, not even beside the protected path', async () => {
    const lost = await world.loggedIn('lost');
    const copy = lost.clone();
    await call(lost, '/bff/logout', 'POST');
    expect((await call(copy, '/api/guests/x')).status).toBe(401);
    expect((await call(copy, '/api/guests/admin')).status).toBe(401);
    await copy.close();
  });
});

describe('PO 401, 403, page or redirect, by the kind of route', () => {
  const problem = 'application/problem+json';
  const page = 'text/html';

  it.each([
    ['an API, nobody logged in', () => anonymous, '/api/orders/x', 401, problem],
    ['a protected path of a public API, nobody logged in', () => anonymous, '/api/open/admin', 401, problem],
    ['an API, without the role', () => bob, '/api/orders/admin', 403, problem],
    ['an API, an ambiguous path', () => bob, '/api/orders/%2561', 400, problem],
    ['no API', () => bob, '/api/nothing', 404, problem],
  ] as const)('%s: the same for a fetch and a navigation', async (_name, who, target, status, type) => {
    for (const answer of [await call(who(), target), await who().navigate(target, { from: who().origin })]) {
      expect(answer.status).toBe(status);
      expect(answer.header('content-type')).toContain(type);
      expect(answer.header('location') ?? answer.header('refresh')).toBeUndefined();
      expect(answer.header('www-authenticate') !== undefined).toBe(status === 401);
      expect('loginUrl' in answer.json()).toBe(status === 401);
    }
  });

  it.each([
    ['/bff/login?step_up=x', 400],
    ['/bff/callback?state=x&code=x', 400],
    ['/bff/nothing', 404],
  ])('an endpoint, %s: a page for a navigation, a problem for a fetch', async (target, status) => {
    const navigated = await bob.navigate(target, { from: bob.origin, followRedirects: false });
    expect([navigated.status, navigated.header('content-type')]).toEqual([status, expect.stringContaining(page)]);
    const fetched = await call(bob, target);
    expect([400, 404]).toContain(fetched.status);
    expect(fetched.header('content-type')).toContain(problem);
  });
});
