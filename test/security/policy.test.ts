import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { startTwoUpstreams, type TwoUpstreams } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// T60, T79, T83, T84 and methods: what no route allows is refused, and nothing is read into a claim.

let world: TwoUpstreams;

beforeAll(async () => {
  world = await startTwoUpstreams((data, otherUrl) => {
    const { upstream } = data.apis.orders;
    data.session.claims = ['sub', 'roles', 'groups', 'email', 'realm_access', 'level', 'vip'];
    data.apis.admin = { path: '/api/admin', upstream, require: { roles: ['admin'] } };
    data.apis.mail = { path: '/api/mail', upstream, require: { claims: { email: 'a@corp.com' } } };
    data.apis.realm = { path: '/api/realm', upstream, require: { claims: { 'realm_access.roles': 'admin' } } };
    data.apis.level = { path: '/api/level', upstream, require: { claims: { level: 3, vip: true } } };
    data.apis.scoped = { path: '/api/scoped', upstream, require: { scopes: ['orders:write'] } };
    data.apis.files = { path: '/api/files', upstream, token: 'none', require: { roles: ['admin'] } };
    data.apis.reads = { path: '/api/reads', upstream: otherUrl, methods: ['GET'] };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const status = async (browser: Browser, target: string) => (await browser.fetch(target)).status;

describe('claims', () => {
  const refused: [target: string, claims: Record<string, unknown>][] = [
    ['/api/admin/1', {}],
    ['/api/admin/1', { roles: 'admin' }],
    ['/api/admin/1', { roles: 'admin,user' }],
    ['/api/admin/1', { roles: 'admin user' }],
    ['/api/admin/1', { roles: ['administrator'] }],
    ['/api/admin/1', { roles: ['Admin'] }],
    ['/api/admin/1', { roles: [' admin'] }],
    ['/api/admin/1', { roles: ['admin\0'] }],
    ['/api/admin/1', { roles: ['user,admin'] }],
    ['/api/admin/1', { roles: [['admin']] }],
    ['/api/admin/1', { roles: [{ toString: 'admin' }, 'admin'] }],
    ['/api/admin/1', { roles: { admin: true } }],
    ['/api/admin/1', { roles: { 0: 'admin', length: 1 } }],
    ['/api/admin/1', { roles: null }],
    ['/api/admin/1', { roles: true }],
    ['/api/admin/1', { groups: ['admin'] }],
    ['/api/mail/1', { email: 'a@evil@corp.com' }],
    ['/api/mail/1', { email: 'A@corp.com' }],
    ['/api/mail/1', { email: 'a@corp.com.evil.example' }],
    ['/api/mail/1', { email: { 0: 'a@corp.com' } }],
    ['/api/realm/1', { realm_access: { roles: 'admin,user' } }],
    ['/api/realm/1', { realm_access: [{ roles: ['admin'] }] }],
    ['/api/realm/1', { realm_access: null }],
    ['/api/realm/1', { realm_access: 'roles' }],
    ['/api/level/1', { level: '3', vip: true }],
    ['/api/level/1', { level: 3, vip: 'true' }],
    ['/api/level/1', { level: 3, vip: 1 }],
    ['/api/level/1', { level: 4, vip: true }],
    ['/api/scoped/1', {}],
    ['/api/files/1', { roles: ['user'] }],
  ];
  for (const [target, claims] of refused) {
    it(`T83 refuses ${target} to ${JSON.stringify(claims)}`, async () => {
      const browser = await world.loggedIn('mallory', claims);
      const answer = await browser.fetch(target);
      expect(answer.status).toBe(403);
      expect(answer.json()).toMatchObject({ code: 'BFF_POLICY_DENIED' });
      expect(answer.header('proxy-status')).toContain('BFF_POLICY_DENIED');
      expect(world.upstream.requests).toEqual([]);
      expect((await browser.fetch('/api/orders/1')).status).toBe(200); // still logged in
    });
  }

  const allowed: [target: string, claims: Record<string, unknown>][] = [
    ['/api/admin/1', { roles: ['user', 'admin'] }],
    ['/api/mail/1', { email: 'a@corp.com' }],
    ['/api/realm/1', { realm_access: { roles: ['x', 'admin'] } }],
    ['/api/level/1', { level: 3, vip: true }],
  ];
  for (const [target, claims] of allowed) {
    it(`T83 lets ${JSON.stringify(claims)} through to ${target}`, async () => {
      expect(await status(await world.loggedIn('bob', claims), target)).toBe(200);
    });
  }

  it('T83 needs a session where a policy stands, though no token is attached', async () => {
    expect(await status(world.browser(), '/api/files/1')).toBe(401);
    expect(await status(await world.loggedIn('bob', { roles: ['admin'] }), '/api/files/1')).toBe(200);
    expect(world.upstream.requests.map((request) => request.header('authorization'))).toEqual([undefined]);
  });

  it('T83 writes who was refused what, and no claim, into the log', async () => {
    const browser = await world.loggedIn('mallory', { roles: ['unheard-of'] });
    world.log.clear();
    await browser.fetch('/api/admin/1');
    const [line] = world.log.lines.filter(({ audit }) => audit === 'policy_denied');
    expect(line).toMatchObject({ api: 'admin', reason: 'roles' });
    expect(world.log.text()).not.toContain('unheard-of');
  });
});

describe('the matched route decides', () => {
  it('T79 judges by the route and never by what a query or fragment says', async () => {
    const anonymous = (target: string) =>
      rawRequest(world.port, `GET ${target} HTTP/1.1\r\nHost: localhost:${world.port}\r\nX-CSRF: 1\r\n\r\n`);
    expect((await anonymous('/api/orders/1?x=/api/public/')).status).toBe(401);
    expect((await anonymous('/api/orders/api/public')).status).toBe(401);
    expect((await anonymous('/api/public/..%2forders')).status).toBe(400);
    expect((await anonymous('/api/orders/1#/api/public')).status).toBe(400);
    expect((await anonymous('/api/public/api/orders')).status).toBe(200);
    expect(world.upstream.requests.map(({ target }) => target)).toEqual(['/api/orders']);
  });

  it('T84 asks for a session and token where a route says nothing about it', async () => {
    const answer = await world.browser().fetch('/api/orders/1');
    expect(answer.status).toBe(401);
    expect(answer.header('www-authenticate')).toBe('Session realm="cloakroom"');
    expect(answer.json()).toMatchObject({ code: 'BFF_SESSION_REQUIRED', loginUrl: '/bff/login' });
    expect(answer.leftTo ?? answer.header('location')).toBeUndefined();
  });

  it('T84 answers even a navigation to an API with 401 and never with a redirect', async () => {
    const page = await world.browser().navigate('/api/orders/1');
    expect(page.status).toBe(401);
    expect(page.header('content-type')).toContain('application/problem+json');
  });
});

describe('methods', () => {
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS']) {
    it(`refuses ${method} where only GET is listed, and says so in Allow`, async () => {
      const result = await rawRequest(world.port, world.head('/api/reads/1', ['Content-Length: 0'], method));
      expect(result.status).toBe(405);
      expect(result.responses[0]?.all('allow')).toEqual(['GET']);
      expect(world.other.requests).toEqual([]);
    });
  }

  for (const method of ['TRACE', 'PROPFIND', 'QUERY', 'LINK', 'PURGE', 'MKCOL', 'SEARCH']) {
    it(`never passes ${method} on`, async () => {
      for (const target of ['/api/orders/1', '/api/public/1', '/api/reads/1']) {
        const result = await rawRequest(world.port, world.head(target, [], method));
        expect([400, 404, 405], result.text).toContain(result.status);
      }
      expect([...world.upstream.requests, ...world.other.requests]).toEqual([]);
    });
  }

  for (const method of ['get', 'GETT', 'G\tET', 'XGET']) {
    it(`refuses the method ${JSON.stringify(method)}`, async () => {
      const result = await rawRequest(world.port, world.head('/api/public/1', [], method));
      expect(result.status).toBe(400);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  for (const from of ['https://evil.example', 'https://app.example.com.evil', 'null']) {
    it(`T60 grants no preflight to ${from} and passes none on`, async () => {
      for (const target of ['/api/orders/1', '/api/public/1', '/bff/session', '/bff/logout']) {
        const lines = [
          `Origin: ${from}`,
          'Access-Control-Request-Method: POST',
          'Access-Control-Request-Headers: x-csrf',
        ];
        const result = await rawRequest(world.port, world.head(target, lines, 'OPTIONS'));
        expect(result.status).toBeGreaterThanOrEqual(400);
        expect(result.headers.filter(([name]) => /^access-control/i.test(name))).toEqual([]);
      }
      expect(world.upstream.requests).toEqual([]);
    });
  }
});

describe('several APIs and users at once', () => {
  it('T88 every call gets the token of its own session, however they are mixed', async () => {
    const [bob, carol] = [await world.loggedIn('bob'), await world.loggedIn('carol')];
    const call = (browser: Browser, name: string) => (_: unknown, index: number) =>
      browser.fetch(`/api/orders/${name}-${index}`);
    const everybody = [call(bob, 'bob'), call(carol, 'carol'), call(world.alice, 'alice')];
    await Promise.all(everybody.flatMap((one) => Array.from({ length: 20 }, one)));
    const tokens = new Map<string, Set<string | undefined>>();
    for (const { target, header } of world.upstream.requests) {
      const name = target.slice(1).split('-')[0] as string;
      tokens.set(name, (tokens.get(name) ?? new Set()).add(header('authorization')));
    }
    expect([...tokens.values()].map(({ size }) => size)).toEqual([1, 1, 1]);
    expect(new Set([...tokens.values()].flatMap((set) => [...set])).size).toBe(3);
    expect((await world.alice.fetch('/api/reads/1')).text).toBe('other');
  });
});
