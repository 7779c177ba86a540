import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deliver, isLoggedIn, pendingLogin } from '../support/login-steps.ts';
import { rawRequest } from '../support/raw-client.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ store: 'memory' });
});
afterAll(() => world.stop());

/** Where a login with this query ends. The query is sent as it stands. */
async function landing(query: string): Promise<{ status: number; location: string | undefined; setCookies: string[] }> {
  const browser = world.browser();
  const started = await browser.navigate(`/bff/login?${query}`, { from: world.origin, followRedirects: false });
  expect(started.status, query).toBe(303);
  const answer = await fetch(started.header('location') ?? '', { redirect: 'manual' });
  const page = await deliver(browser, answer.headers.get('location') ?? '');
  expect(await isLoggedIn(browser), query).toBe(true);
  await browser.close();
  return { status: page.status, location: page.header('location'), setCookies: page.setCookies };
}

const escapes: Record<string, string[]> = {
  T1: ['//evil.example', '///evil.example', '/\\evil.example', '\\/evil.example', '/%09/evil', '/\t/evil', '/\n/evil'],
  'T1 again': ['/\r\n/evil', '\t//evil', ' //evil', '/.//evil', '/..//evil', '/x/..//evil', '/%2f/evil', '/%5cevil'],
  T2: [
    'https:evil',
    'https:/evil',
    'https://evil',
    'http:evil',
    'javascript:alert(1)',
    'data:text/html,x',
    '//user@evil',
  ],
  'T2 again': [
    'https://app.example.com@evil',
    'https://localhost.evil',
    'https://evil/localhost',
    '／／evil',
    '/／evil/..//x',
  ],
};

describe.each(Object.entries(escapes))('%s', (id, values) => {
  it.each(values)(`${id.slice(0, 2)} does not send the browser to %j after the login`, async (value) => {
    const { location = '' } = await landing(`return_to=${encodeURIComponent(value)}`);
    expect(new URL(location, world.origin).origin).toBe(world.origin);
    expect(location).toBe('/');
  });
});

it('T2 keeps even a full URL of our own origin out: only paths are taken', async () => {
  expect((await landing(`return_to=${encodeURIComponent(`${world.origin}/shop`)}`)).location).toBe('/');
});

describe('T3 header injection', () => {
  it.each(['/a%0d%0aSet-Cookie:x=1', '/a%0D%0A%0D%0A<script>', '/a%250d%250aSet-Cookie:x=1', '/a%00b', '/a%7f'])(
    'T3 splits no header with %s',
    async (value) => {
      const { location, setCookies } = await landing(`return_to=${value}`);
      expect(location).toBe('/');
      expect(setCookies.filter((header) => header.startsWith('x='))).toEqual([]);
    },
  );

  it('T3 encodes characters that old servers cut down to CR and LF', async () => {
    const { location } = await landing('return_to=/a%E5%98%8D%E5%98%8ASet-Cookie:x=1');
    expect(location).toBe('/a%E5%98%8D%E5%98%8ASet-Cookie:x=1');
  });

  it.each([
    '\r\nSet-Cookie: x=1',
    '\rSet-Cookie: x=1',
    '\nSet-Cookie: x=1',
    '\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: x=1',
  ])('T3 brings nothing of a request target with raw line ends into the answer (%j)', async (ends) => {
    const request = `GET /bff/login?return_to=/a${ends} HTTP/1.1\r\nHost: localhost:${world.port}\r\nAccept: text/html\r\n\r\n`;
    const { text, status } = await rawRequest(world.port, request);
    expect(status).toBeGreaterThanOrEqual(300);
    expect(text).not.toContain('x=1');
  });
});

describe('T5 odd parameters', () => {
  const odd = {
    'given twice': 'return_to=/a&return_to=/b',
    'an array': 'return_to[]=/a&return_to[0]=/b',
    'an object': 'return_to[x]=/a',
    '10 kB long': `return_to=/${'a'.repeat(10_000)}`,
    'growing by encoding': `return_to=/${'ö'.repeat(1500).replaceAll('ö', '%C3%B6')}`,
    'invalid UTF-8': 'return_to=%c3%28',
    'a lone escape': 'return_to=%',
    empty: 'return_to=',
    'without a value': 'return_to',
    absent: 'x=1',
  };
  it.each(Object.entries(odd))('T5 lands on / when return_to is %s', async (_name, query) => {
    expect((await landing(query)).location).toBe('/');
  });
});

describe('T6 our own endpoints', () => {
  const own = ['/bff/logout', '/bff/login', '/bff/login?return_to=/bff/login', '/bff/callback?code=x', '/bff', '/bff/'];
  const disguised = [
    '/%62ff/login',
    '/bff/%6cogin',
    '/x/../bff/logout',
    '/./bff/login',
    '/%2e/bff/login',
    '/bff%2flogin',
  ];
  it.each([...own, ...disguised])('T6 does not land on %s', async (value) => {
    expect((await landing(`return_to=${encodeURIComponent(value)}`)).location).toBe('/');
  });

  it('T6 takes a path that only looks like one of them', async () => {
    expect((await landing('return_to=/bffs/login')).location).toBe('/bffs/login');
  });
});

it('keeps path, query and fragment of our own pages as they are', async () => {
  const { status, location } = await landing(`return_to=${encodeURIComponent('/shop/7?a=1&b=%2F#part')}`);
  expect(status).toBe(303);
  expect(location).toBe('/shop/7?a=1&b=%2F#part');
});

it('does not let the callback choose another return_to', async () => {
  const browser = world.browser();
  const { callbackUrl } = await pendingLogin(browser, '/shop');
  const page = await deliver(browser, `${callbackUrl}&return_to=//evil.example`);
  expect(page.header('location')).toBe('/shop');
});
