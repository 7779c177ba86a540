import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Browser, type BrowserOptions, createBrowser } from '../../support/browser.ts';
import { createClock } from '../../support/clock.ts';
import { reply, serverSentEvents } from '../../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts';
import { type EvilProvider, startEvilProvider } from '../../support/evil-provider.ts';

let app: EchoUpstream;
let provider: EvilProvider;
let origin: string;
const browsers: Browser[] = [];
beforeAll(async () => {
  app = await startEchoUpstream();
  provider = await startEvilProvider({ requirePkce: false });
  origin = `http://localhost:${app.port}`;
});
afterEach(async () => {
  app.reset();
  provider.reset();
  for (const browser of browsers.splice(0)) await browser.close();
});
afterAll(() => Promise.all([app.stop(), provider.stop()]));

function open(options: Partial<BrowserOptions> = {}): Browser {
  const browser = createBrowser({ origin, ...options });
  browsers.push(browser);
  return browser;
}

/** The app answers `/set` with these cookies, `/login` with a redirect to the provider, the rest as an echo. */
function serve(setCookies: string[], responseMode = 'query') {
  const echo = app.respond;
  const query = `response_type=code&client_id=cloakroom&state=s&response_mode=${responseMode}&redirect_uri=`;
  app.respond = (request, socket) => {
    const headers = setCookies.map((value): [string, string] => ['Set-Cookie', value]);
    if (request.target.startsWith('/set')) return reply({ headers })(request, socket);
    if (request.target.startsWith('/bff/login')) {
      const location = `${provider.issuer}/authorize?${query}${encodeURIComponent(`${origin}/callback`)}`;
      return reply({ status: 303, headers: [...headers, ['Location', location]] })(request, socket);
    }
    if (request.target === '/evil')
      return reply({ status: 302, headers: [['Location', '//evil.example/x']] })(request, socket);
    return echo(request, socket);
  };
}

test('sends fetch metadata and origin as a browser does', async () => {
  const browser = open({ fetchHeaders: { 'x-csrf': '1' } });
  const page = await browser.navigate('/page');
  expect(page.hops[0]?.requestHeaders).toMatchObject({
    'sec-fetch-site': 'none',
    'sec-fetch-mode': 'navigate',
    'sec-fetch-dest': 'document',
  });
  expect(app.requests[0]?.header('host')).toBe(`localhost:${app.port}`);
  const post = await browser.fetch('/api', { method: 'POST', body: { a: 1 } });
  expect(post.json()).toMatchObject({ bodyLength: 7 });
  expect(post.hops[0]?.requestHeaders).toMatchObject({
    'sec-fetch-site': 'same-origin',
    'sec-fetch-mode': 'cors',
    origin,
    'x-csrf': '1',
    'content-type': 'application/json',
  });
  const evil = await browser.crossSite('/api', { from: 'https://evil.example', kind: 'form', body: 'a=1' });
  expect(evil.hops[0]?.requestHeaders).toMatchObject({
    'sec-fetch-site': 'cross-site',
    origin: 'https://evil.example',
  });
  expect(evil.hops[0]?.requestHeaders).not.toHaveProperty('x-csrf');
});

test('follows the login through the provider and applies SameSite on the way back', async () => {
  serve(['strict=1; SameSite=Strict; Path=/', 'lax=1; SameSite=Lax; Path=/', 'none=1; SameSite=None; Secure; Path=/']);
  const browser = open();
  const page = await browser.login('/x');
  expect(page.url).toMatch(/\/callback\?code=.*&state=s&iss=/);
  expect(page.hops).toHaveLength(3);
  expect(page.hops[2]?.requestHeaders).toMatchObject({ 'sec-fetch-site': 'cross-site', cookie: 'lax=1; none=1' });
  expect((await browser.fetch('/api')).hops[0]?.requestHeaders.cookie).toBe('strict=1; lax=1; none=1');
});

test('submits form_post pages: a cross-site POST carries SameSite=None only', async () => {
  serve(['lax=1; SameSite=Lax; Path=/', 'none=1; SameSite=None; Secure; Path=/'], 'form_post');
  const page = await open().login();
  expect(page.hops.at(-1)).toMatchObject({
    method: 'POST',
    url: `${origin}/callback`,
    requestHeaders: { cookie: 'none=1' },
  });
  expect(page.hops.at(-1)?.requestHeaders).toMatchObject({ origin: provider.issuer, 'sec-fetch-site': 'cross-site' });
  expect(page.json().bodyLength).toBeGreaterThan(20);
});

test.each([
  ['link', 'lax=1; none=1'],
  ['form', 'none=1'],
  ['iframe', 'none=1'],
  ['image', 'none=1'],
  ['fetch', 'none=1'],
  ['preflight', undefined],
] as const)('a cross-site %s carries %s', async (kind, cookie) => {
  serve(['strict=1; SameSite=Strict', 'lax=1', 'none=1; SameSite=None; Secure']);
  const browser = open();
  await browser.navigate('/set');
  const page = await browser.crossSite('/a', { from: 'https://evil.example', kind, headers: { 'x-a': '1' } });
  expect(page.hops[0]?.requestHeaders.cookie).toBe(cookie);
});

test('refuses bad cookies with a reason', async () => {
  serve([
    '__Host-a=1; Secure; Path=/',
    '__Host-b=1; Path=/',
    '__Host-c=1; Secure',
    '__host-d=1; Secure; Path=/; Domain=localhost',
    'e=1; Domain=evil.example',
    'f=1; SameSite=None',
    `g=${'x'.repeat(4100)}`,
  ]);
  const browser = open();
  await browser.navigate('/set/x');
  expect(browser.cookies()).toMatchObject([{ name: '__Host-a', hostOnly: true, path: '/' }]);
  expect(browser.rejectedCookies).toHaveLength(6);
});

test('honours Max-Age, Path, deletion and Clear-Site-Data', async () => {
  const clock = createClock();
  serve(['a=1; Max-Age=10; Path=/', 'b=1; Path=/deep', 'c=1; Path=/']);
  const browser = open({ now: clock.now });
  await browser.navigate('/set');
  expect(browser.cookies(`${origin}/deep/x`).map(({ name }) => name)).toEqual(['b', 'a', 'c']);
  const thief = browser.clone();
  browsers.push(thief);
  clock.advance(10_001);
  serve(['c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/']);
  await browser.navigate('/set');
  expect(browser.allCookies().map(({ name }) => name)).toEqual(['b']);
  expect(thief.cookie('c')?.value).toBe('1');
  app.respondWith({ headers: [['Clear-Site-Data', '"cookies"']] });
  await browser.navigate('/');
  expect(browser.allCookies()).toEqual([]);
});

test('reaches frontends by host name and stops at foreign hosts', async () => {
  serve([]);
  const shop = open({ origin: `http://shop.localhost:${app.port}` });
  await shop.fetch('/a');
  expect(app.requests[0]?.header('host')).toBe(`shop.localhost:${app.port}`);
  const behindTls = open({ origin: 'https://app.example.com', connectTo: `http://127.0.0.1:${app.port}` });
  behindTls.setCookie('__Host-s=1; Secure; Path=/');
  expect((await behindTls.fetch('/b')).hops[0]?.requestHeaders.cookie).toBe('__Host-s=1');
  expect(app.requests[1]?.header('host')).toBe('app.example.com');
  expect(await shop.navigate('/evil')).toMatchObject({ status: 302, leftTo: 'http://evil.example/x' });
  await expect(shop.navigate('https://evil.example/')).rejects.toThrow('add it to resolve');
});

test('streams and aborts', async () => {
  const events = async function* () {
    yield 'one';
    await new Promise(() => {});
  };
  app.respond = serverSentEvents(events());
  const page = await open().open('/events', { destination: 'empty' });
  await page.readUntil((text) => text.includes('one'));
  page.abort();
  expect(await page.ended).toBe('aborted');
});
