import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { Config } from '../../src/config/config.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { explainCall, type Question } from '../../src/explain/explain.ts';
import type { Browser } from '../support/browser.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';

// `cloakroom explain` says what happens: every answer is compared with what the same configuration does to a real call.

let world: ProxyWorld;
let config: Config;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    const { issuer } = data.authorizationServer;
    data.bearerIssuers = { own: { issuer, audiences: ['machines'] } };
    data.apis.orders.rewritePath = '/v1';
    data.apis.orders.forwardHeaders = ['x-shop-*', 'x-tenant'];
    data.apis.orders.routes = [
      { path: '/*/refunds', methods: ['POST'], require: { roles: ['support'], acr: ['urn:gold'] } },
      { path: '/admin', require: { claims: { 'realm.level': 3, vip: true } } },
      { path: '/scoped', require: { scopes: ['orders:write'] } },
      { path: '/recent', require: { maxAge: '5m' } },
    ];
    data.apis.catalog = {
      path: '/api/catalog',
      upstream,
      token: 'user-or-client',
      routes: [{ path: '/edit', require: { roles: ['admin'] } }],
    };
    data.apis.open = {
      path: '/api/open',
      upstream,
      token: 'none',
      routes: [{ path: '/edit', require: { roles: ['admin'] } }],
    };
    data.apis.own = {
      path: '/api/own',
      upstream,
      token: 'client',
      methods: ['GET', 'POST'],
    };
    data.apis.forms = { path: '/api/forms', upstream, csrf: 'origin', idTokenHeader: 'x-id-token' };
    data.apis.machines = { path: '/api/machines', upstream, accept: ['bearer'] };
    const parsed = parseConfig('world.yaml', stringify(data), {});
    if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
    config = parsed.config;
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const targets = [
  '/api/orders',
  '/api/orders/',
  '/api/orders/7?x=/1',
  '/api/orders/7/refunds',
  '/api/orders/7/ReFunds;v=1/x',
  '/api/orders/%61dmin',
  '/api/orders/admin/x',
  '/api/orders/scoped',
  '/api/orders/recent',
  '/api/orders2',
  '/api/orders//x',
  '/api/orders/%2561',
  '/api/catalog/1',
  '/api/catalog/edit',
  '/api/open/1',
  '/api/open/edit',
  '/api/own/1',
  '/api/forms/1',
  '/api/machines/1',
  '/%61pi/orders',
  '/nothing',
];
const people: [name: string, claims: Record<string, unknown> | undefined][] = [
  ['nobody', undefined],
  ['a user', {}],
  ['support', { roles: ['support'] }],
  ['support with gold', { roles: ['support'], acr: 'urn:gold' }],
  ['an admin', { roles: ['admin'], realm: { level: 3 }, vip: true }],
  ['roles as text', { roles: 'admin,support', realm: { level: '3' }, vip: 'true' }],
  ['an old login', { auth_time: Math.floor(Date.now() / 1000) - 1000 }],
];

/** As a configured header would be sent, and everything that a browser might try. */
const sent = {
  accept: 'application/json',
  'x-shop-color': 'blue',
  'x-tenant': 't',
  'x-id-token': 'mine',
  'x-real-ip': '1.2.3.4',
  'x-forwarded-for': '1.2.3.4',
  forwarded: 'for=1.2.3.4',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  authorization: undefined,
};

describe.each(people)('for %s', (_name, claims) => {
  let browser: Browser;
  beforeAll(async () => {
    if (claims === undefined) browser = world.browser();
    else {
      const { acr, auth_time: authTime, ...others } = claims as { acr?: string; auth_time?: number };
      world.provider.nextLogin({
        sub: 'somebody',
        claims: others,
        ...(acr === undefined ? {} : { acr }),
        ...(authTime === undefined ? {} : { authTime }),
      });
      browser = world.browser();
      await browser.login('/');
    }
  });

  it.each(targets)('explain says what happens to %s', async (target) => {
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE', 'OPTIONS']) {
      world.fresh();
      const question: Question = {
        method,
        target,
        ...(claims === undefined
          ? {}
          : { claims: { auth_time: Math.floor(Date.now() / 1000), ...claims, sub: 'somebody' } }),
      };
      const { isAllowed, text } = explainCall(config, question);
      const answer = await browser.fetch(target, {
        method,
        headers: { 'x-csrf': '1', ...sent },
        ...(method === 'POST' ? { body: { x: 1 } } : {}),
      });
      // A browser has no token of its own to bring.
      if (target.startsWith('/api/machines') && claims !== undefined) continue;

      const told = /^(\S+) (\S+): (allowed|refused, (\d+) (BFF_\w+))/.exec(text) ?? expect.fail(text);
      const code = /details="(BFF_\w+)"/.exec(answer.header('proxy-status') ?? '')?.[1];
      expect([told[1], told[2]]).toEqual([method, target]);
      expect({ isAllowed, code: told[5], status: Number(told[4] ?? 200) }, `${method} ${target}\n${text}`).toEqual({
        isAllowed: answer.status === 200,
        code,
        status: answer.status,
      });
      const [arrived] = world.upstream.requests;
      if (arrived === undefined) continue;

      const line = (label: string) => new RegExp(`^${label} +(.*)$`, 'm').exec(text)?.[1] ?? '';
      expect(line('upstream')).toBe(`${world.upstream.url}, ${method} ${arrived.target}`);
      const added = [...text.matchAll(/^(?:added)? +([a-z-]+): (.*)$/gm)].map(([, name]) => name);
      for (const name of added) expect(arrived.header(name ?? ''), name).toBeDefined();
      for (const name of ['authorization', 'x-id-token'])
        expect(arrived.header(name) !== undefined, name).toBe(added.includes(name));
      for (const name of line('removed')
        .split(', ')
        .filter((name) => !added.includes(name)))
        expect(arrived.header(name), name).toBeUndefined();
      for (const name of ['accept', 'traceparent', 'user-agent']) expect(line('passed').split(', ')).toContain(name);
      expect(line('passed').includes('x-shop-*, x-tenant')).toBe(arrived.header('x-shop-color') === 'blue');
      expect(text).not.toContain('details');
    }
  });
});

describe('what it says', () => {
  const explain = (question: Partial<Question> & { target: string }) =>
    explainCall(config, { method: 'GET', ...question }).text;

  it('names each requirement, what was found, and the login that would bring it', () => {
    const text = explain({ method: 'POST', target: '/api/orders/7/refunds', claims: { sub: 'a', roles: ['support'] } });
    expect(text).toContain('refused, 401 BFF_STEP_UP_REQUIRED (a login with acr_values=urn:gold brings it)');
    expect(text).toMatch(/policy +role support: met\n +acr urn:gold: missing, has none/);
    expect(explain({ target: '/api/orders/admin', claims: { sub: 'a', realm: { level: '3' } } })).toMatch(
      /policy +claim realm\.level 3: missing, has "3"\n +claim vip true: missing, has none/,
    );
    expect(explain({ target: '/api/orders/scoped', claims: { sub: 'a', scope: 'orders:writer' } })).toContain(
      'scope orders:write: missing, has "orders:writer"',
    );
    expect(explain({ target: '/api/orders/scoped', claims: { sub: 'a', scope: 'x orders:write' } })).toContain(
      'allowed',
    );
    expect(explain({ target: '/api/orders/recent', claims: { sub: 'a' } })).toContain('missing, has no auth_time');
  });

  it('names the CSRF proof as it really is', () => {
    const csrf = (method: string, target: string) => /CSRF +(.*)/.exec(explain({ method, target }))?.[1];
    expect(csrf('GET', '/api/orders/1')).toBe('a page of this site, or the header "x-csrf: 1"');
    expect(csrf('POST', '/api/orders/1')).toBe('a page of this site, and the header "x-csrf: 1"');
    expect(csrf('POST', '/api/forms/1')).toBe('a page of this site');
    expect(csrf('POST', '/api/open/1')).toBe('nothing: no cookie opens it');
  });

  it('says whose token it is and what it is asked for', () => {
    const claims = { sub: 'a' };
    expect(explain({ target: '/api/orders/1', claims })).toContain(
      'the user’s, of the login, for scope=openid profile',
    );
    expect(explain({ target: '/api/catalog/1' })).toContain('the application’s own (client credentials)');
    expect(explain({ target: '/api/own/1', claims })).toContain('the application’s own (client credentials)');
    expect(explain({ target: '/api/forms/1', claims })).toContain(
      'for scope=openid profile; the ID token in x-id-token',
    );
    expect(explain({ target: '/api/open/1', claims })).toMatch(/token +none/);
    expect(explain({ target: '/api/machines/1', claims })).toContain('the one that was brought');
    expect(explain({ target: '/api/machines/1' })).toContain('refused, 401 BFF_BEARER_REQUIRED');
  });
});
