import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CrossSiteKind } from '../support/browser/request-options.ts';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

let world: ProxyWorld;
let browser: Browser;
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.apis.forms = { path: '/api/forms', upstream: data.apis.orders.upstream, csrf: 'origin' };
  });
  browser = world.alice;
  // The attacks are about requests that carry the cookie; what SameSite would hold back is sent all the same.
  browser.setCookie(`cloakroom=${browser.cookie('cloakroom')?.value}; Path=/; SameSite=None; Secure`, { force: true });
});
afterAll(() => world.stop());
beforeEach(() => world.fresh());

const evil = 'https://evil.example';
const arrived = () => world.upstream.requests.length;
const unsafe = ['POST', 'PUT', 'PATCH', 'DELETE'];

async function expectRefused(request: Promise<{ status: number; text: string }>): Promise<void> {
  const { status, text } = await request;
  expect(status, text).toBe(403);
  expect(text).toContain('BFF_CSRF_REJECTED');
  expect(arrived()).toBe(0);
}

describe('T56 without the custom header', () => {
  it.each(unsafe)('T56 refuses %s of our own page and does not call the API', (method) =>
    expectRefused(browser.fetch('/api/orders/1', { method })),
  );

  it.each(['0', '', 'true', '1, 1', '2'])('T56 refuses the header with the value "%s"', (value) =>
    expectRefused(browser.fetch('/api/orders/1', { method: 'POST', headers: { 'x-csrf': value } })),
  );

  it.each(['/bff/logout', '/bff/refresh'])('T56 refuses POST %s', async (path) => {
    await expectRefused(browser.fetch(path, { method: 'POST' }));
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(0);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it.each(unsafe)('lets %s of our own page through with the header', async (method) => {
    const page = await browser.fetch('/api/orders/1', { method, headers: { 'x-csrf': '1' } });
    expect(page.status).toBe(200);
    expect(arrived()).toBe(1);
  });
});

describe('T57 what a form or a simple request can send', () => {
  const types = [
    'text/plain',
    'text/plain;charset=UTF-8',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/json',
    undefined,
  ];
  it.each(types)('T57 refuses a POST with the content type %s', async (type) => {
    const request = { method: 'POST', body: Buffer.from('{"amount":1}') };
    await expectRefused(browser.fetch('/api/orders/1', { ...request, headers: { 'content-type': type } }));
    await expectRefused(
      browser.crossSite('/api/orders/1', { from: evil, kind: 'form', headers: { 'content-type': type }, ...request }),
    );
  });

  it('T57 refuses an empty POST', () => expectRefused(browser.fetch('/api/orders/1', { method: 'POST', body: '' })));

  it.each(['link', 'image', 'iframe', 'script', 'prefetch', 'fetch'] as CrossSiteKind[])(
    'T57 refuses a GET that another site causes by a %s',
    (kind) => expectRefused(browser.crossSite('/api/orders/delete?id=1', { from: evil, kind })),
  );

  it('T57 refuses a GET of a client without metadata and without the header', () =>
    expectRefused(
      browser.fetch('/api/orders/1', {
        headers: { 'sec-fetch-site': undefined, 'sec-fetch-mode': undefined, 'sec-fetch-dest': undefined },
      }),
    ));

  it('lets a download of our own page through', async () => {
    expect((await browser.fetch('/api/orders/file', { mode: 'no-cors', destination: 'image' })).status).toBe(200);
  });
});

describe('T58 the custom header from elsewhere', () => {
  const elsewhere: Record<string, Record<string, string | undefined>> = {
    'Sec-Fetch-Site: cross-site': { 'sec-fetch-site': 'cross-site' },
    'Sec-Fetch-Site: same-site': { 'sec-fetch-site': 'same-site' },
    'Sec-Fetch-Site: none': { 'sec-fetch-site': 'none' },
    'Sec-Fetch-Site: SAME-ORIGIN': { 'sec-fetch-site': 'SAME-ORIGIN' },
    'two Sec-Fetch-Site': { 'sec-fetch-site': 'same-origin, cross-site' },
    'an evil Origin': { origin: evil },
    'an evil Origin and no metadata': { origin: evil, 'sec-fetch-site': undefined },
    'Origin: null': { origin: 'null' },
    'Origin: null and no metadata': { origin: 'null', 'sec-fetch-site': undefined },
    'an empty Origin and no metadata': { origin: '', 'sec-fetch-site': undefined },
    'neither Origin nor metadata': { origin: undefined, 'sec-fetch-site': undefined },
    'the right Referer only': { origin: undefined, 'sec-fetch-site': undefined, referer: 'http://localhost/shop' },
  };
  it.each(Object.entries(elsewhere))('T58 refuses a POST with %s', (_name, headers) =>
    expectRefused(browser.fetch('/api/orders/1', { method: 'POST', headers: { 'x-csrf': '1', ...headers } })),
  );

  it('T58 refuses origins that only look like ours', async () => {
    const { origin, port } = world;
    const lookalikes = [`${origin}.evil.example`, `http://localhost`, `https://localhost:${port}`, `${origin}/`];
    for (const lookalike of [...lookalikes, `http://evil.localhost:${port}`, `http://LOCALHOST:${port}`]) {
      const headers = { 'x-csrf': '1', origin: lookalike, 'sec-fetch-site': undefined };
      await expectRefused(browser.fetch('/api/orders/1', { method: 'POST', headers }));
    }
  });

  it('accepts an old browser’s POST by its Origin', async () => {
    const headers = { 'x-csrf': '1', 'sec-fetch-site': undefined };
    expect((await browser.fetch('/api/orders/1', { method: 'POST', headers })).status).toBe(200);
  });

  it('lets HTML forms of our own page through where the API says so, and no others', async () => {
    const body = new URLSearchParams({ amount: '1' });
    expect((await browser.fetch('/api/forms/1', { method: 'POST', body })).status).toBe(200);
    world.upstream.requests.length = 0;
    await expectRefused(browser.crossSite('/api/forms/1', { from: evil, kind: 'form', body }));
    await expectRefused(browser.fetch('/api/forms/1', { method: 'POST', body, headers: { 'sec-fetch-site': 'none' } }));
  });
});

describe('T59 the API under another spelling', () => {
  const spellings = ['/%61pi/orders/x', '/api/%6frders/x', '/api/./orders/x', '//api/orders/x', '/api//orders/x'];
  const more = [
    '/api/orders%2fx',
    '/x/../api/orders/x',
    '/api/orders;x',
    '/API/orders/x',
    '/api/orders/',
    '/api/orders',
  ];
  const cookie = () => `cloakroom=${browser.cookie('cloakroom')?.value}`;
  const post = (target: string, host: string) =>
    rawRequest(
      world.port,
      `POST ${target} HTTP/1.1\r\nHost: ${host}\r\nCookie: ${cookie()}\r\nContent-Length: 0\r\n\r\n`,
    );
  it.each([...spellings, ...more])('T59 does not reach the API by POST %s without the header', async (target) => {
    expect([400, 403, 404]).toContain((await post(target, `localhost:${world.port}`)).status);
    expect(arrived()).toBe(0);
  });

  it('T59 does not reach it by an absolute target or another spelling of the host', async () => {
    const { port } = world;
    expect((await post(`http://localhost:${port}/api/orders/x`, `localhost:${port}`)).status).toBe(403);
    expect((await post('http://evil.example/api/orders/x', `localhost:${port}`)).status).toBe(421);
    for (const host of ['localhost.', `localhost.:${port}`, `LOCALHOST.:${port}`, '[::1]']) {
      expect((await post('/api/orders/x', host)).status).toBe(421);
    }
    expect((await post('/api/orders/x', `LocalHost:${port}`)).status).toBe(403);
    expect(arrived()).toBe(0);
  });
});
