import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startLogin } from '../support/login-steps.ts';
import { rawRequest } from '../support/raw-client.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({
    config: (data) => {
      data.trustedProxies = ['127.0.0.1'];
      data.authorizationServer.loginParameters = {
        prompt: ['login', 'consent'],
        login_hint: ['*'],
        ui_locales: ['de'],
      };
      data.authorizationServer.extraParameters = { audience: 'https://api.example.com' };
    },
  });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const loginCookies = (setCookies: string[]) => setCookies.filter((header) => header.includes('login'));

describe('T7 a login that the user did not start', () => {
  it.each(['link', 'image', 'iframe', 'script', 'prefetch', 'fetch'] as const)(
    'T7 starts no login for a %s of another site',
    async (kind) => {
      const browser = world.browser();
      const page = await browser.crossSite('/bff/login', { from: 'https://evil.example', kind });
      expect(page.status).toBeGreaterThanOrEqual(400);
      expect(page.header('location')).toBeUndefined();
      expect(page.setCookies).toEqual([]);
    },
  );

  it('T7 starts no login for a sibling host', async () => {
    const page = await world.browser().crossSite('/bff/login', { from: 'http://evil.localhost', kind: 'link' });
    expect(page.status).toBe(403);
    expect(page.setCookies).toEqual([]);
  });

  const prefetches = [{ 'sec-purpose': 'prefetch' }, { 'sec-purpose': 'prefetch;prerender' }, { purpose: 'prefetch' }];
  it.each(prefetches)('T7 starts no login ahead of time, for %j of our own page', async (headers) => {
    const page = await world
      .browser()
      .navigate('/bff/login', { from: world.origin, headers: { ...headers }, followRedirects: false });
    expect(page.status).toBe(403);
    expect(page.setCookies).toEqual([]);
  });

  it.each(['image', 'iframe', 'frame', 'object', 'embed'])('T7 starts no login for our own page’s %s', async (dest) => {
    const headers = { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': dest };
    const page = await world.browser().navigate('/bff/login', { headers, followRedirects: false });
    expect(page.status).toBe(400);
    expect(page.setCookies).toEqual([]);
  });

  it('starts a login from the address bar', async () => {
    const page = await world.browser().navigate('/bff/login', { from: 'user', followRedirects: false });
    expect(page.status).toBe(303);
    expect(loginCookies(page.setCookies)).toHaveLength(1);
  });
});

it('refuses a login by fetch with an answer that says what to do', async () => {
  const page = await world.browser().fetch('/bff/login', { headers: { 'x-csrf': '1' } });
  expect(page.status).toBe(400);
  expect(page.json()).toMatchObject({ code: 'BFF_LOGIN_NOT_NAVIGATION', loginUrl: '/bff/login' });
  expect(page.json<{ title: string }>().title).toContain('location.href');
  expect(page.setCookies).toEqual([]);
});

it('answers a login start with 303, uncached and without a referrer', async () => {
  const page = await world.browser().navigate('/bff/login', { from: world.origin, followRedirects: false });
  expect(page.status).toBe(303);
  expect(page.header('cache-control')).toBe('no-store');
  expect(page.header('referrer-policy')).toBe('no-referrer');
});

describe('T8 parameters of the login query', () => {
  const fixed = {
    scope: 'admin',
    client_id: 'evil',
    redirect_uri: '//evil.example',
    response_mode: 'fragment',
    response_type: 'token',
    code_challenge: 'x',
    code_challenge_method: 'plain',
    state: 'mine',
    nonce: 'mine',
    audience: 'evil',
    resource: 'https://evil.example',
    request: 'eyJ',
    request_uri: 'https://evil.example/r',
    claims: '{}',
    acr_values: '0',
    max_age: '999999',
  };
  it.each(Object.entries(fixed))('T8 ignores %s', async (name, value) => {
    const regular = await startLogin(world.browser());
    const url = await startLogin(world.browser(), '/', `/bff/login?${new URLSearchParams({ [name]: value })}&x`);
    expect(url.searchParams.getAll(name)).not.toContain(value);
    expect([...url.searchParams.keys()].sort()).toEqual([...regular.searchParams.keys()].sort());
    expect(url.searchParams.get('redirect_uri')).toBe(`${world.origin}/bff/callback`);
    expect(url.searchParams.get('client_id')).toBe('cloakroom');
    expect(url.searchParams.get('scope')).toBe('openid profile');
    expect(url.searchParams.get('code_challenge_method')).toBe('S256');
    expect(url.searchParams.get('audience')).toBe('https://api.example.com');
  });

  it('T8 sends every parameter once', async () => {
    const query = new URLSearchParams({ ...fixed, prompt: 'login', login_hint: 'alice' });
    const url = await startLogin(world.browser(), '/', `/bff/login?${query}&x`);
    const names = [...url.searchParams.keys()];
    expect(new Set(names).size).toBe(names.length);
  });

  const cases: [query: string, name: string, expected: string | null][] = [
    ['prompt=login', 'prompt', 'login'],
    ['prompt=none', 'prompt', null],
    ['prompt=login%20none', 'prompt', null],
    ['prompt=login&prompt=none', 'prompt', null],
    ['prompt[]=login', 'prompt', null],
    ['login_hint=alice%40example.com', 'login_hint', 'alice@example.com'],
    ['login_hint=a%0d%0ab', 'login_hint', null],
    [`login_hint=${'a'.repeat(257)}`, 'login_hint', null],
    ['ui_locales=de', 'ui_locales', 'de'],
    ['ui_locales=fr', 'ui_locales', null],
    ['__proto__=x&constructor=y', 'constructor', null],
  ];
  it.each(cases)('T8 turns %s into %s=%s', async (query, name, expected) => {
    const url = await startLogin(world.browser(), '/', `/bff/login?${query}&x`);
    expect(url.searchParams.get(name)).toBe(expected);
  });
});

it('asks with fresh state, nonce and PKCE S256 each time', async () => {
  const browser = world.browser();
  const seen = new Set<string>();
  for (let count = 0; count < 20; count++) {
    const { searchParams } = await startLogin(browser);
    for (const name of ['state', 'nonce', 'code_challenge']) {
      const value = searchParams.get(name) ?? '';
      expect(value).toMatch(/^[\w-]{43,64}$/);
      seen.add(value);
    }
  }
  expect(seen.size).toBe(60);
});

describe('T9 a foreign name for us', () => {
  const named = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', 'x-forwarded-port': '444' };
  const spoofs = { ...named, forwarded: 'host=evil.example;proto=https', 'x-original-host': 'evil.example' };
  it.each(Object.entries({ ...spoofs, 'x-host': 'evil.example', 'x-forwarded-prefix': '/evil' }))(
    'T9 makes no redirect_uri out of %s, even from a trusted proxy',
    async (name, value) => {
      const browser = world.browser();
      const page = await browser.navigate('/bff/login', {
        from: world.origin,
        headers: { [name]: value },
        followRedirects: false,
      });
      const { searchParams } = new URL(page.header('location') ?? '');
      expect(searchParams.get('redirect_uri')).toBe(`${world.origin}/bff/callback`);
    },
  );

  const get = (target: string, host: string) =>
    rawRequest(world.port, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nAccept: text/html\r\n\r\n`);
  it.each(['evil.example', 'localhost', 'localhost:1', 'app.localhost', 'localhost.:80', '127.0.0.1'])(
    'T9 serves nothing for the unknown host %s',
    async (host) => {
      const { status, headers } = await get('/bff/login', host);
      expect(status).toBe(421);
      expect(headers.map(([name]) => name.toLowerCase())).not.toContain('location');
    },
  );

  it('T9 lets the authority of an absolute target replace the Host, and refuses a foreign one', async () => {
    expect((await get('http://evil.example/bff/login', `localhost:${world.port}`)).status).toBe(421);
    const { status, headers } = await get(`http://localhost:${world.port}/bff/login`, 'evil.example');
    expect(status).toBe(303);
    const location = new URL(headers.find(([name]) => name.toLowerCase() === 'location')?.[1] ?? '');
    expect(location.searchParams.get('redirect_uri')).toBe(`${world.origin}/bff/callback`);
  });
});

it('T10 keeps at most five logins and 4 KiB of cookies, and no Redis key, after 1000 starts in one browser', async () => {
  const browser = world.browser();
  const before = (await dumpRedis(world.redisUrl ?? '', `${world.keyPrefix}*`)).length;
  for (let count = 0; count < 1000; count++) await startLogin(browser, `/page-${count}`);
  const cookies = browser.allCookies();
  expect(cookies).toHaveLength(5);
  const bytes = cookies.reduce((sum, { name, value }) => sum + name.length + value.length + 3, 0);
  expect(bytes).toBeLessThanOrEqual(4096);
  expect(await dumpRedis(world.redisUrl ?? '', `${world.keyPrefix}*`)).toHaveLength(before);
});

it('T10 stays within 4 KiB of cookies with the longest return_to there is', async () => {
  const browser = world.browser();
  for (let count = 0; count < 5; count++) {
    await startLogin(browser, `/${count}${'a'.repeat(2046)}`);
    const cookies = browser.allCookies();
    expect(cookies.length).toBeGreaterThan(0);
    expect(cookies.reduce((sum, { name, value }) => sum + name.length + value.length + 3, 0)).toBeLessThanOrEqual(4096);
  }
  expect(browser.rejectedCookies).toEqual([]);
});

it('T10 limits how often an address may start a login', async () => {
  const limited = await startWorld({
    store: 'memory',
    config: (data: ConfigData) => {
      data.limits.loginsPerMinute = 3;
    },
  });
  const browser = limited.browser();
  for (let count = 0; count < 3; count++) await startLogin(browser);
  const page = await browser.navigate('/bff/login', { from: limited.origin, followRedirects: false });
  expect(page.status).toBe(429);
  expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
  expect(page.setCookies).toEqual([]);
  await limited.stop();
});
