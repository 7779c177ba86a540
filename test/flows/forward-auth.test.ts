import { decodeJwt } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { EchoUpstream } from '../support/echo-upstream.ts';
import { type NginxWorld, startNginxWorld } from '../support/nginx-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// A browser → a real nginx with the very files of deploy/nginx → Cloakroom, which decides, and upstreams that nginx
// forwards to by itself. T56, T58, T64, T68, T77 to T82, T99 to T101.

const csrf = { headers: { 'x-csrf': '1' } };

/** Other ways to write a location, which send what nginx decoded. The last one not even encoded again. */
const decoding = {
  slash: 'proxy_pass http://orders/;',
  rewrite: 'rewrite ^/api/rewrite(/.*)$ $1 break; proxy_pass http://orders;',
  uri: 'rewrite ^/api/uri(/.*)$ $1 break; proxy_pass http://orders$uri;',
};
const locations = Object.entries({ ...decoding, open: 'proxy_pass http://orders;' })
  .map(([name, lines]) => `location /api/${name}/ { include /etc/nginx/cloakroom-auth.conf; ${lines} }`)
  .join('\n');

let all: NginxWorld;
beforeAll(async () => {
  all = await startNginxWorld({
    site: (text) => text.replace('location = /_cloakroom', (own) => `${locations}\n${own}`),
    config(data) {
      for (const name of Object.keys(decoding))
        data.apis[name] = { path: `/api/${name}`, routes: [{ path: '/admin', require: { roles: ['admin'] } }] };
      data.apis.open = { path: '/api/open', token: 'none' };
      const { issuer } = data.authorizationServer;
      data.bearerIssuers = { own: { issuer, audiences: ['https://orders.example'] } };
      data.apis.orders.accept = ['session', 'bearer'];
      data.apis.orders.methods = ['GET', 'HEAD', 'POST', 'PUT'];
      data.apis.orders.routes = [
        { path: '/admin', require: { roles: ['admin'] } },
        { path: '/refunds', require: { acr: ['urn:gold'] } },
      ];
      data.apis.chat.routes = [{ path: '/admin', require: { roles: ['admin'] } }];
    },
  });
});
beforeEach(() => all.fresh());
afterAll(() => all.stop());

const last = ({ requests }: EchoUpstream) => requests.at(-1) ?? expect.fail('nothing arrived');
const bearerOf = (upstream: EchoUpstream) =>
  decodeJwt(last(upstream).header('authorization')?.slice('Bearer '.length) ?? '');
const cookieLine = (browser: { cookies(): { name: string; value: string }[] }) =>
  `Cookie: ${browser
    .cookies()
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')}`;

/** The bytes of a request to nginx; Host is the frontend’s. */
function raw(target: string, lines: string[], method = 'GET') {
  const head = [`${method} ${target} HTTP/1.1`, `Host: localhost:${all.port}`, ...lines, '', ''].join('\r\n');
  return rawRequest(all.port, head, { tls: { ca: all.certificates.ca } });
}

const nothingArrived = () =>
  expect([...all.orders.requests, ...all.chat.requests].map(({ requestLine }) => requestLine)).toEqual([]);

describe('calls that nginx forwards', () => {
  it('arrive with a token of the API’s own audience and of the right user, and without the cookie', async () => {
    const [alice, bob] = [await all.loggedIn('alice'), await all.loggedIn('bob')];
    for (const [browser, sub] of [
      [alice, 'alice'],
      [bob, 'bob'],
    ] as const) {
      expect((await browser.fetch('/api/orders/7?x=1', csrf)).json()).toEqual({ ok: true });
      expect(last(all.orders).requestLine).toBe('GET /7?x=1 HTTP/1.1');
      expect(bearerOf(all.orders)).toMatchObject({ sub, aud: 'https://orders.example' });
      expect((await browser.fetch('/api/chat/1', csrf)).status).toBe(200);
      expect(last(all.chat).requestLine).toBe('GET /api/chat/1 HTTP/1.1');
      expect(bearerOf(all.chat)).toMatchObject({ sub, aud: 'https://chat.example' });
    }
    for (const request of [...all.orders.requests, ...all.chat.requests]) {
      expect(request.all('authorization')).toHaveLength(1);
      expect(request.headerLines.join('\n')).not.toMatch(/cookie|x-csrf|forward-auth|x-original/i);
    }
    expect(all.world.upstream.requests).toEqual([]);
  });

  it('keep their body and method', async () => {
    const alice = await all.loggedIn('alice');
    const answer = await alice.fetch('/api/orders', { method: 'POST', body: { quantity: 2 }, ...csrf });
    expect(answer.status).toBe(200);
    expect(last(all.orders)).toMatchObject({ requestLine: 'POST / HTTP/1.1', body: Buffer.from('{"quantity":2}') });
  });

  it('T64, T65 lose the Authorization that a browser sends, also where no token is attached', async () => {
    const alice = await all.loggedIn('alice');
    const headers = { 'x-csrf': '1', authorization: 'Bearer attacker' };
    await alice.fetch('/api/chat/7', { headers });
    expect(last(all.chat).all('authorization')).toHaveLength(1);
    expect(bearerOf(all.chat)).toMatchObject({ sub: 'alice' });
    expect((await all.browser().fetch('/api/open/7', { headers })).status).toBe(200);
    expect(last(all.orders).header('authorization')).toBeUndefined();
  });

  it('arrive with the caller’s own token where the API accepts one, once it is verified', async () => {
    const alice = await all.loggedIn('alice');
    await alice.fetch('/api/orders/7', csrf);
    const token = last(all.orders).header('authorization') as string;
    const answer = await raw('/api/orders/8', [`Authorization: ${token}`]);
    expect(answer.status, answer.text).toBe(200);
    expect(last(all.orders).all('authorization')).toEqual([token]);
    const forged = await raw('/api/orders/8', [`Authorization: ${token.slice(0, -8)}AAAAAAAA`]);
    expect([forged.status, JSON.parse(forged.body)]).toMatchObject([401, { code: 'BFF_BEARER_INVALID' }]);
    expect(forged.body).not.toContain('loginUrl');
    expect((await raw('/api/orders/8', [`Authorization: ${token}`, cookieLine(alice)])).status).toBe(400);
    expect((await raw('/api/orders/8?access_token=x', [cookieLine(alice), 'X-CSRF: 1'])).status).toBe(400);
    expect(all.orders.requests).toHaveLength(2);
  });
});

describe('whoever is refused', () => {
  it('gets 401 with the login address as a fetch, and the login as a page', async () => {
    const answer = await all.browser().fetch('/api/orders/7', csrf);
    expect(answer.status).toBe(401);
    expect(answer.json()).toMatchObject({ code: 'BFF_SESSION_REQUIRED', status: 401, loginUrl: '/bff/login' });
    expect(answer.header('content-type')).toBe('application/problem+json');
    expect(answer.header('cache-control')).toBe('no-store');
    expect(answer.header('www-authenticate')).toBe('Session realm="cloakroom"');
    nothingArrived();

    const page = await all.browser().navigate('/api/orders/7', { followRedirects: false });
    expect([page.status, page.header('location')]).toEqual([303, `${all.origin}/bff/login`]);
    const browser = all.browser();
    all.world.provider.nextLogin({ sub: 'carol' });
    const landed = await browser.navigate('/api/orders/7');
    expect(landed.url).toBe(`${all.origin}/`);
    expect((await browser.fetch('/api/orders/7', csrf)).status).toBe(200);
    expect(bearerOf(all.orders)).toMatchObject({ sub: 'carol' });
  });

  it('gets 401 after the logout, at once', async () => {
    const alice = await all.loggedIn('alice');
    const thief = alice.clone();
    expect((await alice.fetch('/api/orders/7', csrf)).status).toBe(200);
    await logOut(alice);
    expect((await alice.fetch('/api/orders/7', csrf)).status).toBe(401);
    expect((await thief.fetch('/api/orders/7', csrf)).status).toBe(401);
    expect(all.orders.requests).toHaveLength(1);
    await thief.close();
  });

  it('gets 403 by policy, and passes with the role', async () => {
    const alice = await all.loggedIn('alice', { roles: ['buyer'] });
    const denied = await alice.fetch('/api/orders/admin/users', csrf);
    expect([denied.status, denied.json()]).toMatchObject([403, { code: 'BFF_POLICY_DENIED', status: 403 }]);
    nothingArrived();
    const root = await all.loggedIn('root', { roles: ['admin'] });
    expect((await root.fetch('/api/orders/admin/users', csrf)).status).toBe(200);
  });

  it('gets the step-up that a path needs, as a fetch and as a page', async () => {
    const alice = await all.loggedIn('alice');
    const answer = await alice.fetch('/api/orders/refunds/7', csrf);
    expect([answer.status, answer.json()]).toMatchObject([401, { code: 'BFF_STEP_UP_REQUIRED' }]);
    expect(answer.header('www-authenticate')).toContain('acr_values="urn:gold"');
    const { loginUrl } = answer.json<{ loginUrl: string }>();
    expect(loginUrl).toMatch(/^\/bff\/login\?step_up=/);
    const link = { from: all.origin, followRedirects: false };
    expect((await alice.navigate('/api/orders/refunds/7', link)).header('location')).toMatch(/\/bff\/login\?step_up=/);
    nothingArrived();
    all.world.provider.nextLogin({ sub: 'alice', claims: { acr: 'urn:gold' } });
    await alice.navigate(loginUrl, { from: all.origin });
    expect((await alice.fetch('/api/orders/refunds/7', csrf)).status).toBe(200);
  });

  it('T56, T58 gets 403 for a forged request, judged by its own method', async () => {
    const alice = await all.loggedIn('alice');
    const forged = [
      await alice.fetch('/api/orders/7', { method: 'POST', body: {} }),
      await alice.fetch('/api/orders/7', {
        method: 'POST',
        body: {},
        headers: { ...csrf.headers, 'sec-fetch-site': 'cross-site' },
      }),
      await alice.fetch('/api/orders/7', {
        method: 'POST',
        body: {},
        headers: { ...csrf.headers, origin: 'https://evil.example' },
      }),
      await alice.fetch('/api/orders/7', { headers: { 'sec-fetch-site': 'same-site' } }),
    ];
    for (const answer of forged)
      expect([answer.status, answer.json()]).toMatchObject([403, { code: 'BFF_CSRF_REJECTED' }]);
    const other = await alice.fetch('/api/orders/7', { method: 'DELETE', ...csrf });
    expect([other.status, other.json()]).toMatchObject([403, { code: 'BFF_FORWARD_AUTH_DENIED' }]);
    nothingArrived();
    expect((await alice.fetch('/api/orders/7', { method: 'POST', body: {}, ...csrf })).status).toBe(200);
  });

  it('keeps what the API itself answers: its 401, 403 and 500 pass', async () => {
    const alice = await all.loggedIn('alice');
    for (const status of [401, 403, 500]) {
      all.orders.respondWith({
        status,
        body: 'theirs',
        headers: [['Set-Cookie', '__Host-cloakroom=evil; Path=/; Secure']],
      });
      const answer = await alice.fetch('/api/orders/7', csrf);
      expect([answer.status, answer.text, answer.header('set-cookie')]).toEqual([status, 'theirs', undefined]);
    }
  });

  it('W3, W4 lets nobody keep what the API answers, and goes nowhere for it', async () => {
    const alice = await all.loggedIn('alice');
    all.orders.respondWith({
      headers: [
        ['Cache-Control', 'public, max-age=600'],
        ['Expires', 'Thu, 01 Jan 2099 00:00:00 GMT'],
        ['X-Accel-Redirect', '/_cloakroom'],
        ['X-Accel-Expires', '600'],
      ],
      body: 'of alice',
    });
    const answer = await alice.fetch('/api/orders/1', csrf);
    expect(answer.text).toBe('of alice');
    expect(answer.all('cache-control')).toEqual(['no-store']);
    expect(answer.headers.filter(([name]) => /^(expires|x-accel-|authorization)/i.test(name))).toEqual([]);
  });
});

describe('a browser that talks to the proxy’s part', () => {
  const spoofed = (uri: string, method = 'GET') => [
    `X-Original-Method: ${method}`, `X-Original-URI: ${uri}`, `X-Forwarded-Method: ${method}`, `X-Forwarded-Uri: ${uri}`, 'X-Forwarded-Host: evil.example',
    `X-Original-URL: ${uri}`, `X-Rewrite-URL: ${uri}`, `X_Original_URI: ${uri}`, 'X-HTTP-Method-Override: GET', 'X-Forwarded-For: 127.0.0.2', 'Forwarded: for=127.0.0.2',
    'X-Forward-Auth-Key: guess',
  ]; // biome-ignore format: a corpus reads better in rows

  it('T68 gets nothing from /bff/forward-auth, with or without headers', async () => {
    const alice = await all.loggedIn('alice');
    const own = [cookieLine(alice), 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
    const targets = [
      '/bff/forward-auth', '/bff/forward-auth?key=guess', '/bff/forward-auth/api/orders/7', '/bff/forward%2Dauth', '/bff//forward-auth',
      '/bff/./forward-auth', '/%62ff/forward-auth', '/x/../bff/forward-auth', '/_cloakroom', '/%5fcloakroom', '/x/../_cloakroom', '/bff/forward-auth/', '/bff/forward-auth;x',
      `https://localhost:${all.port}/bff/forward-auth`,
    ]; // biome-ignore format: a corpus reads better in rows
    for (const target of targets) {
      for (const lines of [
        own,
        [...own, ...spoofed('/api/orders/7')],
        [...own, ...spoofed('/api/orders/7').slice(0, 2)],
        [...own, ...spoofed('/api/orders/7').slice(2, 4)],
      ]) {
        const result = await raw(target, lines);
        expect([400, 404], `${target} ${result.text}`).toContain(result.status);
        expect(result.text).not.toMatch(/bearer|authorization/i);
      }
    }
  });

  it('T68 gets nothing by talking to Cloakroom directly, not even with the key', async () => {
    const alice = await all.loggedIn('alice');
    const lines = [
      cookieLine(alice),
      'X-CSRF: 1',
      `X-Forward-Auth-Key: ${all.key}`,
      ...spoofed('/api/orders/7').slice(0, 2),
      'X-Forwarded-For: 127.0.0.2',
    ];
    const head = ['GET /bff/forward-auth HTTP/1.1', `Host: localhost:${all.port}`, ...lines, '', ''].join('\r\n');
    const result = await rawRequest(all.world.port, head);
    expect(result.status).toBe(404);
    expect(result.text).not.toMatch(/bearer|authorization/i);
  });

  it('T68 changes nothing by naming another request in headers', async () => {
    const alice = await all.loggedIn('alice', { roles: [] });
    const own = [cookieLine(alice), 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
    expect((await raw('/api/orders/admin', [...own, ...spoofed('/api/orders/7')])).status).toBe(403);
    expect((await raw('/api/orders/7', spoofed('/bff/session'))).status).toBe(401);
    expect(
      (
        await raw(
          '/api/orders/7',
          [cookieLine(alice), 'Sec-Fetch-Site: same-origin', ...spoofed('/api/orders/7')],
          'POST',
        )
      ).status,
    ).toBe(403);
    nothingArrived();
    expect((await raw('/api/orders/7', [...own, ...spoofed('/api/orders/admin', 'DELETE')])).status).toBe(200);
    expect(last(all.orders).headerLines.join('\n')).not.toMatch(
      /admin|DELETE|evil|forward-auth|127\.0\.0\.2|override/i,
    );
  });
});

describe('paths', () => {
  // What nginx matches is decoded and merged, what it sends may be either: whatever arrives was judged as that.
  const tricks = [
    '/%61dmin', '/ad%6din', '/admin;v=1', '/admin%3bv=1', '//admin', '/x//admin', '/./admin', '/x/../admin', '/x/..;/admin', '/%2e%2e/orders/admin', '/x/%2e%2e/admin',
    '/admin%2fx', '/x%2f..%2fadmin', '/admin%5cx', '/x\\..\\admin', '/%2561dmin', '/%25%36%31dmin', '/admin%3F', '/admin%3fx', '/admin%23x', '/admin#x', '/admin?x', '/admin/', '/admin/x',
    '/admin%00', '/admin%0a', '/admin%0d%0aX:y', '/admin%09', '/admin%c0%af', '/admin%20', '/admin%20HTTP/1.1', '/%C3%BC/../admin', '/admin/.', '/admin/..', '/;/admin', '/.;/admin',
  ]; // biome-ignore format: a corpus reads better in rows
  /** As the laxest upstream would read a path. */
  const laxly = (target: string) => {
    let path = target.split(/[?#]/)[0] ?? '';
    for (let round = 0; round < 3; round++)
      path = path.replace(/%[0-9a-f]{2}/gi, (octet) => String.fromCharCode(Number.parseInt(octet.slice(1), 16)));
    return path
      .replaceAll('\\', '/')
      .split('/')
      .map((segment) => segment.split(/[;?#\0\r\n\t]/)[0]);
  };

  for (const api of ['orders', 'chat', ...Object.keys(decoding)])
    it(`T77 to T79 reach no admin of ${api} without the role, however they are spelt`, async () => {
      const [alice, root] = [
        await all.loggedIn('alice', { roles: [] }),
        await all.loggedIn('root', { roles: ['admin'] }),
      ];
      const lines = (browser: typeof alice) => [cookieLine(browser), 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
      const arrived = () =>
        [...all.orders.requests, ...all.chat.requests].map(({ target }) => laxly(target).includes('admin'));
      for (const trick of tricks) {
        const { status, text } = await raw(`/api/${api}${trick}`, lines(alice));
        expect(status, `${trick} ${text}`).not.toBe(500);
        expect(arrived(), trick).not.toContain(true);
      }
      // The paths are those: with the role some do arrive.
      for (const trick of ['/admin', '/%61dmin', '/admin;v=1'])
        expect((await raw(`/api/${api}${trick}`, lines(root))).status, trick).toBe(200);
      expect(arrived()).toContain(true);
    });

  it('T81 reach an API under its own name only', async () => {
    const alice = await all.loggedIn('alice', { roles: ['admin'] });
    const own = [cookieLine(alice), 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
    for (const target of [
      '/%61pi/orders/7',
      '/api/%6frders/7',
      '/x/../api/orders/7',
      '//api/orders/7',
      '/api//orders/7',
      '/api/orders%2f7',
      '/api/ordersx/7',
      '/api/orders@evil/7',
      '/api/./orders/7',
      '/API/orders/7',
      '/bff/../api/orders/7',
      '/bff/..;/api/orders/7',
    ])
      expect((await raw(target, own)).status, target).not.toBe(200);
    nothingArrived();
  });

  it('T80 an absolute-form target is judged as its path', async () => {
    const alice = await all.loggedIn('alice', { roles: [] });
    const own = [cookieLine(alice), 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
    expect((await raw(`https://localhost:${all.port}/api/orders/admin`, own)).status).toBe(403);
    expect((await raw('http://169.254.169.254/api/orders/admin', own)).status).toBe(403);
    nothingArrived();
  });
});

describe('WebSockets through nginx', () => {
  const handshake = [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ];

  it('T100, T101 are asked about before they open: session and Origin', async () => {
    const alice = await all.loggedIn('alice');
    const own = [...handshake, cookieLine(alice)];
    expect((await raw('/api/chat/room', [...handshake, `Origin: ${all.origin}`])).status).toBe(401);
    for (const origin of ['https://evil.example', 'null', 'http://localhost', `${all.origin}.evil.example`])
      expect((await raw('/api/chat/room', [...own, `Origin: ${origin}`])).status, origin).toBe(403);
    expect((await raw('/api/chat/room', own)).status, 'no Origin').toBe(403);
    nothingArrived();

    all.chat.respondWith({
      status: 101,
      headers: [
        ['Connection', 'Upgrade'],
        ['Upgrade', 'websocket'],
      ],
    });
    expect((await raw('/api/chat/room', [...own, `Origin: ${all.origin}`])).status).toBe(101);
    expect(last(all.chat).header('upgrade')).toBe('websocket');
    expect(bearerOf(all.chat)).toMatchObject({ sub: 'alice', aud: 'https://chat.example' });
    expect(last(all.chat).header('cookie')).toBeUndefined();
  });
});

describe('trouble', () => {
  it('is 503 while the provider gives no token, and nobody is logged out', async () => {
    const alice = await all.loggedIn('alice');
    all.world.provider.faults.refreshResponse = { status: 503 };
    const answer = await alice.fetch('/api/orders/7', csrf);
    expect([answer.status, answer.json()]).toMatchObject([503, { code: 'BFF_TOKEN_UNAVAILABLE', status: 503 }]);
    expect(Number(answer.header('retry-after'))).toBeGreaterThan(0);
    nothingArrived();
    delete all.world.provider.faults.refreshResponse;
    all.world.clock.advance(60_000); // past what is waited after a failure
    expect((await alice.fetch('/api/orders/7', csrf)).status).toBe(200);
  });

  it('is 503, and nothing arrives, when nobody decides', async () => {
    const deaf = await startNginxWorld({
      site: (text) => text.replace(/upstream cloakroom \{\s+server [^;]+;/, 'upstream cloakroom { server 127.0.0.1:1;'),
    });
    const answer = await deaf.browser().fetch('/api/orders/7', csrf);
    expect([answer.status, answer.json()]).toMatchObject([503, { code: 'BFF_INTERNAL' }]);
    expect(deaf.orders.requests).toEqual([]);
    await deaf.stop();
  });

  it('of a wrong key is 503 for browsers and a line in the log for operators', async () => {
    const wrong = await startNginxWorld({ key: 'a-wrong-key' });
    const answer = await wrong.browser().fetch('/api/orders/7', csrf);
    expect([answer.status, wrong.orders.requests]).toEqual([503, []]);
    expect(wrong.world.log.lines.find(({ audit }) => audit === 'forward_auth_refused')).toMatchObject({
      reason: 'key',
    });
    await wrong.stop();
  });
});
