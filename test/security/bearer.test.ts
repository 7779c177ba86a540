import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';

// BV1, BV4, BV5, BV7, T64, T65, T67: who calls with which credential, and what of it goes upstream.

let world: BearerWorld;
let alice: Browser;
let cookie: string;

beforeAll(async () => {
  world = await startBearerWorld();
  alice = await world.loggedIn('alice');
  cookie = `Cookie: ${alice
    .cookies()
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')}`;
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const own = ['X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
const malformed = { status: 400, code: 'BFF_BEARER_MALFORMED' };
const required = { status: 401, code: 'BFF_BEARER_REQUIRED' };
const lines = (name: string) => world.log.lines.filter(({ audit, msg }) => audit === name || msg === name);

describe('a caller with a token of its own', () => {
  it('BV5 needs neither session nor CSRF header, gets no cookie, and the API gets the same token', async () => {
    for (const method of ['GET', 'POST', 'DELETE']) {
      world.fresh();
      const token = world.mobile.accessToken();
      const called = await world.send('/api/both/1', [`Authorization: Bearer ${token}`, 'Content-Length: 0'], method);
      expect(called).toMatchObject({ status: 200 });
      expect(called.header('set-cookie')).toBeUndefined();
      expect(called.header('access-control-allow-origin')).toBeUndefined();
      expect(world.arrived()).toEqual([`Bearer ${token}`]);
    }
  });

  it('BV5 is answered the same whatever site its page is of: no cookie is in play, and no CORS opened', async () => {
    const called = await world.call(world.mobile.accessToken(), '/api/both/1', [
      'Origin: https://evil.example',
      'Sec-Fetch-Site: cross-site',
    ]);
    expect(called.status).toBe(200);
    expect(called.header('access-control-allow-origin')).toBeUndefined();
    const preflight = await world.send('/api/both/1', ['Origin: https://evil.example'], 'OPTIONS');
    expect(preflight.status).toBe(405);
  });

  it('BV1 may call an API that accepts nothing but tokens, and a session may not', async () => {
    expect((await world.call(world.mobile.accessToken(), '/api/programs/1')).status).toBe(200);
    const called = await world.send('/api/programs/1', [cookie, ...own]);
    expect(called).toMatchObject(required);
    expect(called.header('www-authenticate')).toBe('Bearer realm="cloakroom"');
    expect(JSON.parse(called.body)).not.toHaveProperty('loginUrl');
    expect(world.arrived().length).toBe(1);
  });

  it('BV5 leaves the same API to sessions, with their CSRF rules', async () => {
    expect((await world.send('/api/both/1', [cookie, ...own])).status).toBe(200);
    expect(world.arrived()[0]).toMatch(/^Bearer /);
    expect(await world.send('/api/both/1', [cookie], 'POST')).toMatchObject({ status: 403, code: 'BFF_CSRF_REJECTED' });
    const anonymous = await world.send('/api/both/1', own);
    expect(anonymous).toMatchObject({ status: 401, code: 'BFF_SESSION_REQUIRED' });
  });

  it('BV1 is checked, but its token goes nowhere, where the API gets no token', async () => {
    expect((await world.call(world.mobile.accessToken(), '/api/checked/1')).status).toBe(200);
    expect(world.arrived()).toEqual([undefined]);
    expect(await world.call('made-up', '/api/checked/1')).toMatchObject({ status: 401, code: 'BFF_BEARER_INVALID' });
    expect((await world.send('/api/checked/1', own)).status).toBe(401);
    expect(world.upstream.requests.length).toBe(1);
  });

  it('BV7 is in the log by its kind and a hash, and in no store', async () => {
    const { issuer } = world.mobile;
    world.log.clear();
    await world.call(world.mobile.accessToken({ sub: 'user-4711' }));
    await world.call(world.mobile.accessToken({ sub: 'user-4711' }));
    await world.call(world.mobile.accessToken({ sub: 'user-4712' }));
    await world.call(world.provider.accessToken({ sub: 'user-4711' }));
    await world.call(world.mobile.accessToken({ sub: null, clientId: 'user-4711' }));
    await world.call(world.mobile.accessToken({ sub: 'user-4711', clientId: 'user-4711' }));
    const logged = lines('request').map(({ caller, issuer: name, subject }) => ({ caller, name, subject }));
    expect(logged.map(({ caller, name }) => `${caller} ${name}`)).toEqual([
      'bearer mobile',
      'bearer mobile',
      'bearer mobile',
      'bearer own',
      'bearer-client mobile',
      'bearer-client mobile',
    ]);
    const [first, again, other, elsewhere, client, sameClient] = logged.map(({ subject }) => subject);
    expect(first).toMatch(/^[\w-]{12}$/);
    expect(again).toBe(first);
    expect(sameClient).toBe(client);
    expect(new Set([first, other, elsewhere, client]).size).toBe(4);
    expect(world.log.text()).not.toMatch(/user-471|mobile-app/);
    expect(world.log.text()).not.toContain(issuer);
  });

  it('is counted by issuer and outcome', async () => {
    await world.call(world.mobile.accessToken());
    await world.call(world.mobile.accessToken({ claims: { exp: 1 } }));
    await world.call('made-up');
    const { body } = await world.app.ops.inject('/metrics');
    for (const [issuer, outcome] of [
      ['mobile', 'valid'],
      ['mobile', 'invalid'],
      ['opaque', 'invalid'],
    ])
      expect(body).toMatch(
        new RegExp(
          `cloakroom_bearer_tokens_total\\{frontend="default",issuer="${issuer}",outcome="${outcome}"\\} [1-9]`,
        ),
      );
  });
});

describe('one place for one credential', () => {
  it('BV4 refuses a session cookie beside an Authorization header, whichever is good', async () => {
    const ambiguous = { status: 400, code: 'BFF_CREDENTIALS_AMBIGUOUS' };
    const token = world.mobile.accessToken();
    for (const target of ['/api/both/1', '/api/programs/1']) {
      expect(await world.call(token, target, [cookie, ...own]), target).toMatchObject(ambiguous);
      expect(await world.call(token, target, ['Cookie: cloakroom=forged', ...own])).toMatchObject(ambiguous);
      expect(await world.call('made-up', target, [cookie, ...own])).toMatchObject(ambiguous);
      const basic = ['Authorization: Basic YTpi', cookie, ...own];
      expect(await world.send(target, basic)).toMatchObject(ambiguous);
    }
    expect(world.upstream.requests).toEqual([]);
    // Cookies of others are no credential here.
    expect((await world.call(token, '/api/both/1', ['Cookie: theme=dark; __Host-cloakroom=x'])).status).toBe(200);
  });

  it('BV4 refuses two Authorization lines, also two equal ones', async () => {
    const token = world.mobile.accessToken();
    for (const second of [token, 'other', ''])
      expect(await world.call(token, '/api/both/1', [`authorization: Bearer ${second}`])).toMatchObject(malformed);
    expect(await world.call(token, '/api/both/1', ['AUTHORIZATION: Basic YTpi'])).toMatchObject(malformed);
    expect(world.upstream.requests).toEqual([]);
  });

  it('BV4 refuses a token in the query string, however it is spelled', async () => {
    const token = world.mobile.accessToken();
    for (const query of [`access_token=${token}`, 'a=1&access_token=', 'access%5Ftoken=x', 'x=1&%61ccess_token=y&z']) {
      expect(await world.send(`/api/both/1?${query}`), query).toMatchObject(malformed);
      expect(await world.call(token, `/api/programs/1?${query}`), query).toMatchObject(malformed);
      expect(await world.send(`/api/both/1?${query}`, [cookie, ...own]), query).toMatchObject(malformed);
    }
    expect(world.upstream.requests).toEqual([]);
    expect((await world.call(token, '/api/both/1?my_access_token=1&b=access_token')).status).toBe(200);
  });

  const schemes: [line: string, expected: object][] = [
    ['bearer TOKEN', { status: 200 }],
    ['BEARER TOKEN', { status: 200 }],
    ['Bearer  TOKEN', { status: 200 }], // 1*SP (RFC 6750 §2.1)
    ['Bearer', malformed],
    ['Bearer TOKEN,', malformed],
    ['Bearer TOKEN, Bearer TOKEN', malformed],
    ['Bearer TOKEN TOKEN', malformed],
    ['Bearer "TOKEN"', malformed],
    ['Bearer token=TOKEN', malformed],
    ['Bearer TOKEN; x=1', malformed],
    ['Bearer TOKEN%20', malformed],
    ['Bearer TOKEN\u00e9', malformed],
    ['Bearer\tTOKEN', required],
    ['BearerTOKEN', required],
    ['TOKEN', required],
    ['Basic TOKEN', required],
    ['DPoP TOKEN', required],
    ['Digest username="x"', required],
    ['', required],
  ];
  for (const [line, expected] of schemes) {
    it(`BV4 answers "Authorization: ${line}" with ${Object.values(expected).join(' ')}`, async () => {
      const token = world.mobile.accessToken();
      const called = await world.send('/api/both/1', [`Authorization: ${line.replaceAll('TOKEN', token)}`]);
      expect(called).toMatchObject(expected);
      expect(world.arrived()).toEqual(called.status === 200 ? [`Bearer ${token}`] : []);
      if (called.status !== 200) expect(called.header('www-authenticate')).toMatch(/^Bearer realm="cloakroom"/);
      expect(called.body).not.toContain('loginUrl');
    });
  }
});

describe('everywhere else', () => {
  it('T64 the session’s token replaces one that is sent along, where only sessions are accepted', async () => {
    const token = world.mobile.accessToken();
    expect((await world.call(token, '/api/orders/1', [cookie, ...own])).status).toBe(200);
    expect(await world.call(token, '/api/orders/1', own)).toMatchObject({ status: 401, code: 'BFF_SESSION_REQUIRED' });
    expect(world.arrived()).toEqual([expect.stringMatching(/^Bearer /)]);
    expect(world.arrived()).not.toEqual([`Bearer ${token}`]);
  });

  it('T65 no token is forwarded on a public route', async () => {
    expect((await world.call(world.mobile.accessToken(), '/api/public/1')).status).toBe(200);
    expect((await world.call('attacker', '/api/public/1?access_token=x', [cookie])).status).toBe(200);
    expect(world.arrived()).toEqual([undefined, undefined]);
  });

  it('T67 names that only look like Authorization are none, and never arrive', async () => {
    const token = world.mobile.accessToken();
    for (const name of ['AUTHORIZATION_', 'X-Authorization', 'Proxy-Authorization', 'HTTP_AUTHORIZATION'])
      expect(await world.send('/api/programs/1', [`${name}: Bearer ${token}`]), name).toMatchObject(required);
    for (const broken of ['Authorization :', 'authorization\t:'])
      expect((await world.send('/api/programs/1', [`${broken} Bearer ${token}`])).status, broken).toBe(400);
    await world.call(token, '/api/both/1', [`Authorization_: Bearer other`, `X-Forwarded-Authorization: other`]);
    expect(world.upstream.requests.length).toBe(1);
    expect(world.arrived()).toEqual([`Bearer ${token}`]);
    const [request] = world.upstream.requests;
    expect(request?.headers.filter(([name]) => /authorization/i.test(name)).length).toBe(1);
  });
});

describe('what the API says to the token', () => {
  it('T85 passes through: there is no other token, and nobody is asked for one', async () => {
    world.upstream.respond = reply({
      status: 401,
      headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']],
      body: 'no',
    });
    const called = await world.call(world.mobile.accessToken());
    expect(called).toMatchObject({ status: 401, body: 'no' });
    expect(called.header('www-authenticate')).toBe('Bearer error="invalid_token"');
    expect(world.upstream.requests.length).toBe(1);
    expect([...world.provider.tokenRequests(), ...world.mobile.tokenRequests()]).toEqual([]);
  });

  it('PO8 insufficient_scope and insufficient_user_authentication pass through too', async () => {
    for (const [status, error] of [
      [403, 'insufficient_scope'],
      [401, 'insufficient_user_authentication'],
    ] as const) {
      world.upstream.respond = reply({
        status,
        headers: [['WWW-Authenticate', `Bearer error="${error}", acr_values="gold"`]],
        body: 'no',
      });
      const called = await world.call(world.mobile.accessToken());
      expect(called).toMatchObject({ status, body: 'no' });
      expect(called.header('www-authenticate')).toContain(error);
    }
  });
});

describe('policy', () => {
  it('judges the token’s claims as it judges a session’s', async () => {
    const denied = { status: 403, code: 'BFF_POLICY_DENIED' };
    const withRoles = (roles: unknown) => world.mobile.accessToken({ claims: { roles } });
    expect((await world.call(withRoles(['user', 'admin']), '/api/admin/1')).status).toBe(200);
    for (const roles of ['admin', 'admin,user', ['Admin'], { admin: true }, undefined])
      expect(await world.call(withRoles(roles), '/api/admin/1')).toMatchObject(denied);
    expect(world.upstream.requests.length).toBe(1);
    expect(lines('policy_denied').at(-1)).toMatchObject({ api: 'admin', reason: 'roles', caller: 'bearer' });
  });

  it('says insufficient_scope when scopes are missing', async () => {
    const good = [
      { scope: 'openid orders:write' },
      { claims: { scp: 'orders:write orders:read' } }, // Microsoft
      { claims: { scp: ['orders:read', 'orders:write'] } }, // Okta
    ];
    for (const options of good)
      expect((await world.call(world.mobile.accessToken(options), '/api/scoped/1')).status).toBe(200);
    const bad = [
      {},
      { scope: 'orders:writer' },
      { scope: 'orders:read', claims: { scp: ['orders:write'] } },
      { claims: { scp: ['x orders:write'] } },
      { claims: { scope: { 'orders:write': true } } },
    ];
    for (const options of bad) {
      const called = await world.call(world.mobile.accessToken(options), '/api/scoped/1');
      expect(called, JSON.stringify(options)).toMatchObject({ status: 403, code: 'BFF_POLICY_DENIED' });
      expect(called.header('www-authenticate')).toBe('Bearer realm="cloakroom", error="insufficient_scope"');
      expect(called.body).not.toContain('loginUrl');
    }
  });
});
