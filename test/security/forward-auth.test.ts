import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { assertNoSecrets } from '../support/canary.ts';
import { startFrontends } from '../support/frontends.ts';
import { startCloakroom, writeConfig } from '../support/process.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { type RawResult, rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';

// GHSA-7x63-xv5r-3p2x, GHSA-7rh7-c77v-6434, GHSA-pxq7-h93f-9jrg (oauth2-proxy), T68, T77 to T82: who may ask about
// another request, and what is believed about it. The trusted proxy is 127.0.0.2; browsers are 127.0.0.1.

const key = randomBytes(32).toString('base64url');
const withKey = `X-Forward-Auth-Key: ${key}`;
const nginx = (uri: string, method = 'GET') => [`X-Original-Method: ${method}`, `X-Original-URI: ${uri}`];
const traefik = (uri: string, method = 'GET') => [`X-Forwarded-Method: ${method}`, `X-Forwarded-Uri: ${uri}`];

let world: ProxyWorld;
let files: string;

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  await writeFile(join(files, 'index.html'), 'the SPA');
  world = await startProxyWorld((data) => {
    data.trustedProxies = ['127.0.0.2/32', '::2'];
    data.forwardAuth = { key, hosts: ['cloakroom.internal:8080'] };
    const { upstream } = data.apis.orders;
    data.apis.forwarded = { path: '/api/forwarded' };
    data.files = files;
    data.apis.orders.routes = [{ path: '/admin', require: { roles: ['admin'] } }];
    data.apis.read = { path: '/api/read', upstream, methods: ['GET'], idTokenHeader: 'x-id-token' };
  });
});
beforeEach(() => world.fresh());
afterAll(async () => {
  assertNoSecrets({
    secrets: [key],
    haystacks: [
      { name: 'log', text: world.log.text() },
      { name: 'metrics', text: (await world.app.ops.inject('/metrics')).body },
    ],
  });
  await world.stop();
  await rm(files, { recursive: true });
});

interface Asked {
  /** `/bff/forward-auth`. */
  target?: string;
  method?: string;
  from?: string;
  host?: string;
}

/** The proxy asks with the headers of Alice's page and these. */
function ask(lines: string[], { target = '/bff/forward-auth', method = 'GET', from = '127.0.0.2', host }: Asked = {}) {
  const head = world.head(target, lines, method).replace(/Host: \S+/, (own) => (host ? `Host: ${host}` : own));
  return rawRequest(world.port, head, { localAddress: from });
}

const tokenOf = ({ headers }: RawResult) => headerValues(headers, 'authorization');
const codeOf = ({ body }: RawResult) => (JSON.parse(body) as { code: string }).code;

/** Refused, and nothing in the answer could be a token. */
function expectRefused(result: RawResult, status: number, code: string, what = '') {
  expect(result.status, `${what} ${result.text}`).toBe(status);
  expect(codeOf(result), what).toBe(code);
  expect(result.text, what).not.toMatch(/bearer|authorization/i);
}

describe('who may ask', () => {
  it('T68 gives the token for the original request to a trusted proxy with the key', async () => {
    for (const lines of [nginx('/api/orders/7?x=1'), traefik('/api/orders/7?x=1')]) {
      const result = await ask([withKey, ...lines]);
      expect(result.status, result.text).toBe(200);
      expect(tokenOf(result)).toEqual([`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`]);
      expect(headerValues(result.headers, 'cache-control')).toEqual(['no-store']);
      expect(result.body).toBe('');
    }
    expect(world.upstream.requests).toEqual([]);
  });

  it('T68 tells a peer that is not trusted nothing, whatever it says and even with the key', async () => {
    for (const lines of [
      [],
      [withKey, ...nginx('/api/orders/7')],
      [withKey, ...traefik('/api/orders/7')],
      [
        withKey,
        ...nginx('/api/orders/7'),
        'X-Forwarded-For: 127.0.0.2',
        'X-Real-IP: 127.0.0.2',
        'Forwarded: for=127.0.0.2',
      ],
    ])
      expectRefused(await ask(lines, { from: '127.0.0.1' }), 404, 'BFF_ROUTE_UNKNOWN', lines.join());
    expectRefused(
      await ask(nginx('/api/orders/7'), { from: '127.0.0.1', target: `/bff/forward-auth?key=${key}` }),
      404,
      'BFF_ROUTE_UNKNOWN',
    );
  });

  it('T68 tells a browser behind the trusted proxy nothing, because it has no key', async () => {
    const wrong = randomBytes(32).toString('base64url');
    const guesses = [
      [], ['X-Forward-Auth-Key:'], ['X-Forward-Auth-Key: undefined'], [`X-Forward-Auth-Key: ${wrong}`],
      [`X-Forward-Auth-Key: ${key.slice(0, -4)}`], [`X-Forward-Auth-Key: ${key}${key}`], [`X-Forward_Auth_Key: ${key}`],
      [`Authorization: Bearer ${key}`],
      // One of them would be the proxy's own, the other the browser's: neither is believed.
      [withKey, `X-Forward-Auth-Key: ${wrong}`], [withKey, withKey],
    ]; // biome-ignore format: a corpus reads better in rows
    for (const lines of guesses)
      for (const asked of [nginx('/api/orders/7'), traefik('/api/orders/7'), []])
        expectRefused(await ask([...lines, ...asked]), 404, 'BFF_ROUTE_UNKNOWN', lines.join());
    for (const query of [`?key=${wrong}`, `?key=${key}&key=${wrong}`, `?key=`, `?Key=${key}`, `?x=${key}`])
      expectRefused(
        await ask(nginx('/api/orders/7'), { target: `/bff/forward-auth${query}` }),
        404,
        'BFF_ROUTE_UNKNOWN',
        query,
      );
  });

  it('T68 takes the key from its own query, for proxies that add no header', async () => {
    const asked = { target: `/bff/forward-auth?key=${key}` };
    expect((await ask(traefik('/api/orders/7'), asked)).status).toBe(200);
    expectRefused(await ask([withKey, ...traefik('/api/orders/7')], asked), 404, 'BFF_ROUTE_UNKNOWN', 'both');
  });

  it('OP12 writes an audit line for each refusal, with the reason and without the key', async () => {
    world.log.clear();
    await ask([withKey], { from: '127.0.0.1' });
    await ask(['X-Forward-Auth-Key: nonsense']);
    const lines = world.log.lines.filter(({ audit }) => audit === 'forward_auth_refused');
    expect(lines).toMatchObject([
      { level: 'warn', reason: 'address', address: '127.0.0.1', frontend: 'default' },
      { level: 'warn', reason: 'key', address: '127.0.0.2', frontend: 'default' },
    ]);
    expect(world.log.text()).not.toMatch(/nonsense/);
  });

  it('reads no session for who may not ask', async () => {
    const before = await lookups();
    await ask(nginx('/api/orders/7'));
    await ask([withKey, ...nginx('/api/orders/7')], { from: '127.0.0.1' });
    expect(await lookups()).toBe(before);
    await ask([withKey, ...nginx('/api/orders/7')]);
    expect(await lookups()).not.toBe(before);
  });

  it('is not there at all without the setting', async () => {
    const other = await startProxyWorld((data) => {
      data.trustedProxies = ['127.0.0.1'];
    });
    const head = other.head('/bff/forward-auth', [withKey, ...nginx('/api/orders/7')]);
    expectRefused(await rawRequest(other.port, head), 404, 'BFF_ROUTE_UNKNOWN');
    await other.stop();
  });

  it('W16 does not start with a server key as its key', async () => {
    const config = await writeConfig({
      publicUrl: 'http://localhost:1',
      authorizationServer: { issuer: 'http://localhost:2', clientId: 'app', clientSecret: 'k3Jx-9aLq_0pZr' },
      session: { keys: [key] },
      trustedProxies: ['127.0.0.1'],
      forwardAuth: { key },
    });
    const started = startCloakroom('start', '--config', config.file);
    expect(await started.ended).toBe(1);
    expect(started.stderr()).toContain('forwardAuth.key: is session.keys.0 too: use a secret of its own');
    expect(started.stderr() + started.stdout()).not.toContain(key);
    await config.remove();
  });

  it('serves forwardAuth.hosts for this path alone', async () => {
    const internal = { host: 'Cloakroom.internal:8080' };
    expect((await ask([withKey, ...traefik('/api/orders/7')], internal)).status).toBe(200);
    for (const target of ['/bff/session', '/api/orders/7', '/', '/bff/forward-authx', '/bff/forward-auth/../session'])
      expect((await ask([withKey], { ...internal, target })).status, target).not.toBe(200);
    expectRefused(await ask([withKey, ...traefik('/api/orders/7')], { host: 'evil.example' }), 421, 'BFF_HOST_UNKNOWN');
  });
});

/** What the metrics count about sessions that were looked up for a token. */
async function lookups(): Promise<string> {
  const { body } = await world.app.ops.inject('/metrics');
  return (body.match(/^cloakroom_access_tokens_total\{.*$/gm) ?? []).join();
}

describe('what is believed about the original request', () => {
  it('refuses two ways, half a way, doubled and unknown ones: nothing is guessed', async () => {
    const orders = '/api/orders/7';
    const publicly = '/api/public/7';
    const bad = [
      [], [...nginx(orders), ...traefik(orders)], [...nginx(publicly), ...traefik(orders)], [...nginx(orders), 'X-Forwarded-Uri: /'],
      [...traefik(orders), 'X-Original-Method: GET'], [nginx(orders)[0] as string], [nginx(orders)[1] as string],
      [traefik(orders)[0] as string], [traefik(orders)[1] as string], [...nginx(orders), ...nginx(orders)],
      [...nginx(orders), `X-Original-URI: ${publicly}`], [...nginx(orders), 'X-Original-Method: POST'],
      [...traefik(orders), `X-Forwarded-Uri: ${publicly}`], nginx(orders, 'get'), nginx(orders, 'GET, POST'), nginx(orders, 'TRACE'),
      nginx(orders, 'CONNECT'), nginx(orders, 'BREW'), nginx(orders, ''), nginx(orders, '*'), nginx(orders, 'constructor'),
      ['X-Original-Method: GET', 'X_Original_URI: /api/orders/7'], ['X-Original-Method: GET', 'X-Original-URL: /api/orders/7'],
      ['X-Original-Method: GET', 'X-Rewrite-URL: /api/orders/7'],
    ]; // biome-ignore format: a corpus reads better in rows
    for (const lines of bad)
      expectRefused(await ask([withKey, ...lines]), 400, 'BFF_FORWARD_AUTH_INVALID', lines.join());
  });

  const ambiguous = [
    '', '/api/orders/../admin', '/api/orders/..;/admin', '/api/orders/%2e%2e/admin', '/api/orders//admin', '//api/orders/7', '/api/orders/a%2fb',
    '/api/orders/a%5cb', '/api/orders\\admin', '/api/orders/%252e', '/api/orders/%00', '/api/orders/#/public', '/api/orders/%zz', '/api/public/..%2forders', '/api/orders/..%3F', '/api/orders/.%23x', '/api/orders/%2e.%3f/x?y',
    'api/orders/7', '*', 'http://evil.example/api/orders/7', 'http://localhost/api/orders/7', 'https:/api/orders/7', '/api/orders/7 HTTP/1.1',
    '/%61pi/orders/7', '/api%2Forders/7',
  ]; // biome-ignore format: a corpus reads better in rows
  for (const uri of ambiguous) {
    it(`T78, T80 refuses ${JSON.stringify(uri)}`, async () => {
      for (const lines of [nginx(uri), traefik(uri)])
        expectRefused(await ask([withKey, ...lines]), 400, 'BFF_PATH_NOT_CANONICAL', uri);
    });
  }

  it('T81, PO1 denies what belongs to no API or to another method of it', async () => {
    for (const uri of [
      '/',
      '/API/orders/7',
      '/api/ordersx',
      '/api/orders.',
      '/api/orders@evil',
      '/api',
      '/api?/api/orders/7',
      '/bff/session',
    ])
      expectRefused(await ask([withKey, ...nginx(uri)]), 403, 'BFF_FORWARD_AUTH_DENIED', uri);
    for (const method of ['POST', 'HEAD', 'OPTIONS', 'PROPFIND'])
      expectRefused(await ask([withKey, ...nginx('/api/read/7', method)]), 403, 'BFF_FORWARD_AUTH_DENIED', method);
    expectRefused(await ask([withKey, ...nginx('/api/orders/7', 'OPTIONS')]), 403, 'BFF_FORWARD_AUTH_DENIED');
  });

  it('T79, PO2 takes the policy of the path, whatever is in the query', async () => {
    expect((await ask([withKey, ...nginx('/api/orders?/admin')])).status).toBe(200);
    for (const uri of [
      '/api/orders/admin',
      '/api/orders/admin?x=/public',
      '/api/orders/%61dmin',
      '/api/orders/admin;v=1',
      '/api/orders/admin/users',
    ])
      expectRefused(await ask([withKey, ...nginx(uri)]), 403, 'BFF_POLICY_DENIED', uri);
  });

  it('T82 lets no header of the browser change the decision', async () => {
    const spoofed = [
      'X-HTTP-Method-Override: GET', 'X-Original-URL: /api/public', 'X-Rewrite-URL: /api/public', 'X-Forwarded-Prefix: /api/public',
      'X-Original-Host: evil.example', 'User-Agent: GoogleHC/1.0', 'X_Original_URI: /api/public/1', 'Forwarded: host=evil.example',
    ]; // biome-ignore format: a corpus reads better in rows
    expectRefused(await ask([withKey, ...nginx('/api/orders/admin'), ...spoofed]), 403, 'BFF_POLICY_DENIED');
  });

  it('decides about an API without upstream, and forwards no call to it', async () => {
    expect(tokenOf(await ask([withKey, ...nginx('/api/forwarded/7')]))).toHaveLength(1);
    const page = ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document'];
    for (const target of ['/api/forwarded', '/api/forwarded/7'])
      for (const method of ['GET', 'POST', 'OPTIONS'])
        for (const lines of [[], page])
          expectRefused(await ask(lines, { target, method, from: '127.0.0.1' }), 404, 'BFF_ROUTE_UNKNOWN', target);
    expect((await ask(page, { target: '/other', from: '127.0.0.1' })).body).toBe('the SPA');
  });

  it('T9 refuses an original host that is not the frontend’s', async () => {
    const own = `X-Forwarded-Host: localhost:${world.port}`;
    expect((await ask([withKey, ...traefik('/api/orders/7'), own])).status).toBe(200);
    for (const host of [
      'evil.example',
      'localhost',
      `localhost:${world.port}, evil.example`,
      `localhost:${world.port}.evil.example`,
      '',
    ])
      for (const lines of [[`X-Forwarded-Host: ${host}`], [own, `X-Forwarded-Host: ${host}`]])
        expectRefused(await ask([withKey, ...traefik('/api/orders/7'), ...lines]), 421, 'BFF_HOST_UNKNOWN', host);
  });

  it('decides by the original method about CSRF', async () => {
    const forged = (await ask([
      withKey,
      ...nginx('/api/orders/7', 'POST'),
      'Origin: https://evil.example',
    ])) as RawResult;
    expectRefused(forged, 403, 'BFF_CSRF_REJECTED');
    expect((await ask([withKey, ...nginx('/api/orders/7', 'POST')])).status).toBe(200);
    const bare = `GET /bff/forward-auth HTTP/1.1\r\nHost: localhost:${world.port}\r\n${world.cookieLine}\r\nSec-Fetch-Site: same-origin\r\n${withKey}\r\n`;
    const post = await rawRequest(world.port, `${bare}${nginx('/api/orders/7', 'POST').join('\r\n')}\r\n\r\n`, {
      localAddress: '127.0.0.2',
    });
    expectRefused(post, 403, 'BFF_CSRF_REJECTED');
  });

  it('answers 401 with the login address to who has no session, and attaches nothing to a public call', async () => {
    const bare = (uri: string) =>
      rawRequest(
        world.port,
        [`GET /bff/forward-auth HTTP/1.1`, `Host: localhost:${world.port}`, withKey, ...nginx(uri), 'Accept: text/html', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', '', ''].join('\r\n'),
        { localAddress: '127.0.0.2' },
      ); // biome-ignore format: one request
    const result = await bare('/api/orders/7');
    expectRefused(result, 401, 'BFF_SESSION_REQUIRED');
    expect(JSON.parse(result.body)).toMatchObject({ loginUrl: '/bff/login' });
    expect(headerValues(result.headers, 'location')).toEqual([]);
    const open = await bare('/api/public/7');
    expect(open.status).toBe(200);
    expect(tokenOf(open)).toEqual([]);
  });

  it('sends the ID token only where the API names a header for it', async () => {
    const read = await ask([withKey, ...nginx('/api/read/7')]);
    expect(headerValues(read.headers, 'x-id-token')).toEqual([world.provider.issuedSecrets('id_token').at(-1)]);
    const orders = await ask([withKey, ...nginx('/api/orders/7')]);
    expect(orders.text).not.toContain(world.provider.issuedSecrets('id_token').at(-1));
  });
});

describe('Envoy: the original method and the path behind ours', () => {
  const below = (path: string, method = 'GET', lines: string[] = [withKey]) =>
    ask(lines, { target: `/bff/forward-auth${path}`, method });

  it('decides by both', async () => {
    const removed = ({ headers }: RawResult) => headerValues(headers, 'x-envoy-auth-headers-to-remove');
    const admitted = await below('/api/orders/7?key=theirs');
    expect(tokenOf(admitted)).toHaveLength(1);
    expect(removed(admitted)).toEqual(['cookie']);
    const open = await below('/api/public/7');
    expect([open.status, tokenOf(open), removed(open)]).toEqual([200, [], ['cookie, authorization']]);
    expect(removed(await ask([withKey, ...nginx('/api/public/7')]))).toEqual([]);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD'])
      expect((await below('/api/orders/7', method)).status, method).toBe(200);
    expectRefused(await below('/api/read/7', 'POST'), 403, 'BFF_FORWARD_AUTH_DENIED');
    expectRefused(await below('/api/orders/admin'), 403, 'BFF_POLICY_DENIED');
    expectRefused(await below('/api/unknown', 'OPTIONS'), 403, 'BFF_FORWARD_AUTH_DENIED');
    expectRefused(await below('/'), 403, 'BFF_FORWARD_AUTH_DENIED');
  });

  it('takes a body that comes along, and does not read it', async () => {
    const lines = [withKey, 'Content-Type: application/json', 'Content-Length: 8'];
    const head = world.head('/bff/forward-auth/api/orders/7', lines, 'POST');
    const result = await rawRequest(world.port, `${head}{"a": 1}`, { localAddress: '127.0.0.2' });
    expect(result.status, result.text).toBe(200);
    expect(result.responses).toHaveLength(1);
  });

  it('T68 takes the key from the header alone: the query is the browser’s', async () => {
    expectRefused(await below(`/api/orders/7?key=${key}`, 'GET', []), 404, 'BFF_ROUTE_UNKNOWN');
  });

  it('T59, T78 refuses ambiguous paths and a second way to say it', async () => {
    for (const path of ['//api/orders/7', '/api/orders/../admin', '/api/orders/%2e%2e/admin', '/api/orders;/../admin'])
      expectRefused(await below(path), 400, 'BFF_PATH_NOT_CANONICAL', path);
    expectRefused(await ask([withKey], { target: '/bff/forward%2Dauth/api/orders/7' }), 400, 'BFF_PATH_NOT_CANONICAL');
    for (const lines of [nginx('/api/public/7'), traefik('/api/public/7'), ['X-Forwarded-Uri: /api/public/7']])
      expectRefused(await below('/api/orders/7', 'GET', [withKey, ...lines]), 400, 'BFF_FORWARD_AUTH_INVALID');
  });
});

describe('two frontends', () => {
  it('each have a key, and answer about their own APIs and sessions only', async () => {
    const keys = { shop: key, office: randomBytes(32).toString('base64url') };
    const all = await startFrontends(
      'path',
      (frontends) => {
        for (const name of ['shop', 'office'] as const) frontends[name].forwardAuth = { key: keys[name] };
      },
      { trustedProxies: ['127.0.0.2'] },
    );
    const alice = all.browser(all.shop, { loginPath: '/shop/bff/login' });
    await alice.login('/shop/');
    const cookies = alice
      .allCookies()
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
    const about = (frontend: string, uri: string, sent: string) =>
      rawRequest(
        all.world.port,
        [`GET /${frontend}/bff/forward-auth HTTP/1.1`, `Host: localhost:${all.world.port}`, `Cookie: ${cookies}`, 'X-CSRF: 1', `X-Forward-Auth-Key: ${sent}`, ...nginx(uri), '', ''].join('\r\n'),
        { localAddress: '127.0.0.2' },
      ); // biome-ignore format: one request
    expect(tokenOf(await about('shop', '/shop/api/orders/7', keys.shop))).toHaveLength(1);
    expectRefused(await about('shop', '/api/orders/7', keys.shop), 403, 'BFF_FORWARD_AUTH_DENIED');
    expectRefused(await about('shop', '/office/api/staff/7', keys.shop), 403, 'BFF_FORWARD_AUTH_DENIED');
    expectRefused(await about('office', '/office/api/staff/7', keys.shop), 404, 'BFF_ROUTE_UNKNOWN');
    expectRefused(await about('office', '/office/api/staff/7', keys.office), 401, 'BFF_SESSION_REQUIRED');
    await all.stop();
  });
});
