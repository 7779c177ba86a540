import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { isLoggedIn, startLogin } from '../support/login-steps.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';

let world: ProxyWorld;
let browser: Browser;
beforeAll(async () => {
  world = await startProxyWorld();
  browser = world.alice;
});
afterAll(() => world.stop());
beforeEach(() => world.fresh());

const evil = 'https://evil.example';
const corsHeaders = (page: { headers: [string, string][] }) =>
  page.headers.filter(([name]) => name.toLowerCase().startsWith('access-control-'));

describe('T60 preflight', () => {
  const origins = [evil, 'https://localhost.evil.example', 'null', 'http://evil.localhost'];
  const paths = ['/api/orders/1', '/api/public/1', '/bff/session', '/bff/logout', '/bff/refresh', '/bff/login', '/x'];
  it.each(origins)('T60 grants nothing to %s and asks no API', async (origin) => {
    for (const path of paths) {
      const page = await browser.fetch(path, {
        method: 'OPTIONS',
        from: evil,
        credentials: false,
        headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-csrf' },
      });
      expect(page.status, path).toBeGreaterThanOrEqual(400);
      expect(corsHeaders(page), path).toEqual([]);
    }
    expect(world.upstream.requests).toHaveLength(0);
  });

  it('T60 does not pass OPTIONS on, nor attach a token to it, whoever sends it', async () => {
    for (const origin of [world.origin, 'null', undefined]) {
      const page = await browser.fetch('/api/orders/1', { method: 'OPTIONS', headers: { 'x-csrf': '1', origin } });
      expect(page.status).toBe(405);
      expect(corsHeaders(page)).toEqual([]);
    }
    expect(world.upstream.requests).toHaveLength(0);
  });

  it('T60 gives another site’s fetch no leave to read, with or without cookies', async () => {
    for (const path of ['/bff/session', '/api/public/1', '/api/orders/1']) {
      const page = await browser.crossSite(path, { from: evil, kind: 'fetch' });
      expect(corsHeaders(page), path).toEqual([]);
    }
  });
});

describe('T61 what an API says about CORS', () => {
  const headers: [string, string][] = [
    ['Access-Control-Allow-Origin', '*'],
    ['access-control-allow-origin', evil],
    ['Access-Control-Allow-Credentials', 'true'],
    ['Access-Control-Allow-Headers', 'x-csrf'],
    ['Access-Control-Expose-Headers', 'etag'],
    ['Access-Control-Allow-Private-Network', 'true'],
    ['Timing-Allow-Origin', '*'],
    ['Cross-Origin-Resource-Policy', 'cross-origin'],
  ];
  it.each(headers)('T61 does not pass %s: %s back', async (name, value) => {
    world.upstream.respond = reply({ headers: [[name, value]], body: { ok: true } });
    const page = await browser.fetch('/api/orders/1');
    expect(page.status).toBe(200);
    expect(page.all(name)).not.toContain(value);
    expect(corsHeaders(page)).toEqual([]);
  });
});

describe('T62 logout from another site', () => {
  it.each(['image', 'link', 'iframe', 'script', 'prefetch', 'fetch', 'form'] as const)(
    'T62 stays logged in when another site causes a GET or a form of the logout by %s',
    async (kind) => {
      const page = await browser.crossSite('/bff/logout', { from: evil, kind });
      expect(page.setCookies).toEqual([]);
      expect(await isLoggedIn(browser)).toBe(true);
    },
  );

  it.each(['image', 'link', 'iframe', 'form'] as const)(
    'T62 stays logged in when the cookie travels along with a %s',
    async (kind) => {
      const lax = browser.clone();
      lax.setCookie(`cloakroom=${browser.cookie('cloakroom')?.value}; Path=/; SameSite=None; Secure`, { force: true });
      for (const path of ['/bff/logout', '/bff/logout?sid=', '/bff/logout?sid=wrong', '/bff/logout?sid=a&sid=b']) {
        expect((await lax.crossSite(path, { from: evil, kind })).status, path).toBe(403);
      }
      expect(await isLoggedIn(lax)).toBe(true);
    },
  );

  it('T62 refuses a POST of our own page without the header', async () => {
    expect((await browser.fetch('/bff/logout', { method: 'POST' })).status).toBe(403);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it.each([{ 'sec-purpose': 'prefetch' }, { 'sec-purpose': 'prefetch;prerender' }, { purpose: 'prefetch' }])(
    'T62 stays logged in when the browser loads the logout link ahead of time (%j)',
    async (headers) => {
      const { logoutUrl } = (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>();
      const page = await browser.navigate(logoutUrl, {
        from: world.origin,
        headers: { ...headers },
        followRedirects: false,
      });
      expect(page.status).toBe(403);
      expect(page.setCookies).toEqual([]);
      expect(await isLoggedIn(browser)).toBe(true);
    },
  );

  it('T62 keeps a pending login when another site calls the callback', async () => {
    const fresh = world.browser();
    await startLogin(fresh);
    const before = fresh.allCookies();
    await fresh.crossSite('/bff/callback?code=x&state=y', { from: evil, kind: 'link' });
    expect(fresh.allCookies()).toEqual(before);
  });
});

describe('T63 another method in disguise', () => {
  const names = [
    'x-http-method-override',
    'x-http-method',
    'x-method-override',
    'x_http_method_override',
    'x-original-method',
  ];
  it.each(names)('T63 does not pass %s on', async (name) => {
    const page = await browser.fetch('/api/orders/1', { headers: { [name]: 'DELETE' } });
    expect(page.status).toBe(200);
    const [request] = world.upstream.requests;
    expect(request?.method).toBe('GET');
    expect(request?.header(name)).toBeUndefined();
  });

  it('T63 logs nobody out by GET with an override', async () => {
    await browser.fetch('/bff/logout', { headers: { 'x-http-method-override': 'POST', 'x-csrf': '1' } });
    expect(await isLoggedIn(browser)).toBe(true);
  });
});
