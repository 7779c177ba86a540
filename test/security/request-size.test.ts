import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { startFrontends } from '../support/frontends.ts';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { startWorld, type World } from '../support/world.ts';

// W5: any site can send a browser here with a long URL, and a neighbour under the same registrable domain can stuff it
// with cookies. Neither may log anybody out.

const KiB = 1024;
let world: World;
let alice: Browser;
beforeAll(async () => {
  world = await startWorld({
    store: 'memory',
    config(data) {
      data.apis.chat = { path: '/api/chat', upstream: data.apis.orders.upstream, websocket: {} };
    },
  });
});
afterAll(() => world.stop());
beforeEach(async () => {
  world.upstream.respond = reply({ body: { ok: true } });
  alice = await world.loggedIn('alice');
});
afterEach(() => world.upstream.reset());

const navigation = ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', 'Sec-Fetch-Site: cross-site'];
const ticketLine = () => `Cookie: cloakroom=${alice.cookie('cloakroom')?.value}`;
const send = (target: string, lines: string[] = [], method = 'GET') =>
  rawRequest(
    world.port,
    [`${method} ${target} HTTP/1.1`, `Host: localhost:${world.port}`, ...lines, '', ''].join('\r\n'),
  );
const long = (bytes: number) => 'x'.repeat(bytes);
/** So many bytes of cookies, none of them ours. */
const crowd = (bytes: number) =>
  Array.from({ length: Math.ceil(bytes / 100) }, (_, index) => `c${index}=${long(96 - `${index}`.length)}`).join('; ');

async function expectLoggedIn(): Promise<void> {
  expect((await alice.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
  expect((await alice.fetch('/api/orders/1')).status).toBe(200);
}

describe('a URL', () => {
  it.each([
    ['an endpoint', '/bff/login?return_to=/'],
    ['nothing', '/spa/'],
    ['an API', '/api/orders/'],
  ])('W5 of 17 kB to %s is 414, and nobody is logged out', async (_what, path) => {
    const answer = await send(`${path}${long(17_000)}`, [ticketLine(), ...navigation]);
    expect(answer.status).toBe(414);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    expect(answer.text).toContain('BFF_URI_TOO_LONG');
    expect(world.upstream.requests).toEqual([]);
    await expectLoggedIn();
  });

  it('W5 that is too long is a page for a navigation and a problem for a fetch', async () => {
    const page = await send(`/${long(17_000)}`, navigation);
    expect(headerValues(page.headers, 'content-type')).toEqual(['text/html; charset=utf-8']);
    const fetched = await send(`/${long(17_000)}`);
    expect(headerValues(fetched.headers, 'content-type')).toEqual(['application/problem+json; charset=utf-8']);
    expect(JSON.parse(fetched.body)).toMatchObject({ code: 'BFF_URI_TOO_LONG', status: 414 });
    expect(JSON.parse(fetched.body).requestId).toBeTruthy();
  });

  it('W5 of 15 kB goes on to its API', async () => {
    const target = `/api/orders/1?q=${long(15_000)}`;
    expect((await send(target, [ticketLine(), 'X-CSRF: 1'])).status).toBe(200);
    expect(world.upstream.requests.at(-1)?.target).toContain(long(15_000));
  });

  it('W5 beyond what Node reads is a bare 431 that clears nothing', async () => {
    const answer = await send(`/${long(200 * KiB)}`, [ticketLine(), ...navigation]);
    expect(answer.status).toBe(431);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    await expectLoggedIn();
  });

  it('W5 of a WebSocket handshake is measured too', async () => {
    const handshake = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
    const answer = await send(`/api/chat/${long(17_000)}`, [
      ticketLine(),
      ...handshake,
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      `Origin: ${world.origin}`,
    ]);
    expect(answer.status).toBe(414);
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('cookies', () => {
  it('W5 that are too many are 431; of them only login attempts are expired', async () => {
    const cookies = `${crowd(17_000)}; cloakroom.login.abc=1; cloakroom.login.def=2; other.login.abc=3`;
    const answer = await send('/api/orders/1', [ticketLine(), `Cookie: ${cookies}`, 'X-CSRF: 1']);
    expect(answer.status).toBe(431);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'BFF_HEADERS_TOO_LARGE', status: 431 });
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    const expired = headerValues(answer.headers, 'set-cookie');
    expect(expired.map((line) => line.split('=', 1)[0])).toEqual(['cloakroom.login.abc', 'cloakroom.login.def']);
    for (const line of expired) expect(line).toMatch(/Max-Age=0; Path=\//);
    expect(world.upstream.requests).toEqual([]);
    await expectLoggedIn();
  });

  it('W5 that nearly fill their limit leave room for a URL and headers of their own', async () => {
    const headers = [ticketLine(), `Cookie: ${crowd(15_000)}`, 'X-CSRF: 1', `X-Filler: ${long(15_000)}`];
    expect((await send(`/api/orders/1?q=${long(15_000)}`, headers)).status).toBe(200);
  });

  it('W5 that are too many give a navigation a page with a button that clears them', async () => {
    const answer = await send('/', [ticketLine(), `Cookie: ${crowd(17_000)}`, ...navigation]);
    expect(answer.status).toBe(431);
    expect(answer.body).toContain('<form method="post" action="/bff/clear-cookies">');
    // With no-referrer a form's Origin would be null.
    expect(headerValues(answer.headers, 'referrer-policy')).toEqual(['same-origin']);
    expect((await send(`/${long(17_000)}`, navigation)).body).not.toContain('<form');
  });

  const clear = (lines: string[]) =>
    send('/bff/clear-cookies', [...lines, 'Content-Length: 0', 'Sec-Fetch-Mode: navigate'], 'POST');

  it.each([
    ['Sec-Fetch-Site', () => ['Sec-Fetch-Site: same-origin', 'Origin: null']],
    ['Origin', () => [`Origin: ${world.origin}`]],
  ])('W5 are cleared by the button, by the proof of %s, however many they are', async (_name, proof) => {
    const tokens = world.provider.tokenRequests().length;
    const answer = await clear([ticketLine(), `Cookie: ${crowd(40_000)}; cloakroom.login.abc=1`, ...proof()]);
    expect(answer.status).toBe(303);
    expect(headerValues(answer.headers, 'location')).toEqual(['/']);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual(['"cookies"']);
    const names = headerValues(answer.headers, 'set-cookie').map((line) => line.split('=', 1)[0]);
    expect(names).toEqual(expect.arrayContaining(['cloakroom', 'cloakroom.login.abc', 'c0']));
    expect(new Set(names).size).toBe(names.length);
    for (const line of headerValues(answer.headers, 'set-cookie')) expect(line).toMatch(/^[^=;]+=; Max-Age=0; Path=\//);
    expect(world.provider.tokenRequests().length).toBe(tokens);
  });

  it('W5 of a few bytes each do not make an answer longer than the request; ours go first', async () => {
    const names = Array.from({ length: 9000 }, (_, index) => `${index.toString(36)}=`).join(';');
    const cookies = `Cookie: ${names}; cloakroom.login.abc=1`;
    const cleared = await clear([cookies, ticketLine(), 'Sec-Fetch-Site: same-origin']);
    expect(cleared.status).toBe(303);
    expect(headerValues(cleared.headers, 'clear-site-data')).toEqual(['"cookies"']);
    const lines = headerValues(cleared.headers, 'set-cookie');
    expect(lines).toHaveLength(100);
    const own = lines.slice(0, 2).map((line) => line.split('=', 1)[0]);
    expect(own.toSorted()).toEqual(['cloakroom', 'cloakroom.login.abc']);
    expect(cleared.text.length).toBeLessThan(cookies.length);

    const attempts = Array.from({ length: 2000 }, (_, index) => `cloakroom.login.${index}=`).join(';');
    const refused = await send('/', [`Cookie: ${attempts}`, ...navigation]);
    expect(refused.status).toBe(431);
    expect(headerValues(refused.headers, 'set-cookie')).toHaveLength(100);
  });

  it('W5 beyond what Node reads are a 431 that clears nothing and says what helps', async () => {
    const answer = await send('/', [ticketLine(), `Cookie: ${crowd(80_000)}`, ...navigation]);
    expect(answer.status).toBe(431);
    expect(headerValues(answer.headers, 'content-type')).toEqual(['application/problem+json']);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    expect(JSON.parse(answer.body).title).toMatch(/delete this site’s cookies in the browser’s settings/);
    await expectLoggedIn();
  });

  it.each([
    ['another site', ['Sec-Fetch-Site: cross-site']],
    ['a neighbour', ['Sec-Fetch-Site: same-site', 'Origin: http://neighbour.localhost']],
    ['a foreign origin', ['Origin: https://evil.example']],
    ['nobody knows whom', []],
  ])('W5 are not cleared for %s', async (_name, proof) => {
    const answer = await clear([ticketLine(), `Cookie: ${crowd(17_000)}`, ...proof]);
    expect(answer.status).toBe(403);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    await expectLoggedIn();
  });
});

describe('other headers', () => {
  it('W5 that are too large are 431 and expire nothing', async () => {
    const attempt = 'Cookie: cloakroom.login.abc=1';
    const answer = await send('/api/orders/1', [ticketLine(), attempt, 'X-CSRF: 1', `X-Big: ${long(17_000)}`]);
    expect(answer.status).toBe(431);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    await expectLoggedIn();
  });
});

describe('two frontends on one host', () => {
  it('W5 expires the login attempts of both, and each has a button of its own', async () => {
    const { world: two, stop } = await startFrontends('path', (frontends) => {
      frontends.shop.cookie = { name: 'shop' };
      frontends.office.cookie = { name: 'office' };
    });
    try {
      const cookies = `${crowd(17_000)}; shop.login.1=a; office.login.2=b; shop=c; lunch.login.3=d`;
      const answer = await rawRequest(
        two.port,
        `GET /office/x HTTP/1.1\r\nHost: localhost:${two.port}\r\nCookie: ${cookies}\r\n${navigation.join('\r\n')}\r\n\r\n`,
      );
      expect(answer.status).toBe(431);
      expect(answer.body).toContain('action="/office/bff/clear-cookies"');
      const names = headerValues(answer.headers, 'set-cookie').map((line) => line.split('=', 1)[0]);
      expect(names).toEqual(['shop.login.1', 'office.login.2']);
    } finally {
      await stop();
    }
  });
});

describe('on https', () => {
  it('W5 what is expired is Secure, as browsers ask of __Host- cookies', async () => {
    const secure = await startWorld({
      store: 'memory',
      config: (data) => Object.assign(data, { publicUrl: 'https://app.example.com' }),
    });
    try {
      const head = (line: string, cookies: string) =>
        `${line} HTTP/1.1\r\nHost: app.example.com\r\nSec-Fetch-Site: same-origin\r\nCookie: ${cookies}\r\n\r\n`;
      const cookies = `${crowd(17_000)}; __Host-cloakroom=1; __Host-cloakroom.login.1=a`;
      const refused = await rawRequest(secure.port, head('GET /', cookies));
      expect(headerValues(refused.headers, 'set-cookie')).toEqual([
        '__Host-cloakroom.login.1=; Max-Age=0; Path=/; HttpOnly; Secure',
      ]);
      const cleared = await rawRequest(secure.port, head('POST /bff/clear-cookies', cookies));
      expect(headerValues(cleared.headers, 'set-cookie')).toContain(
        '__Host-cloakroom=; Max-Age=0; Path=/; HttpOnly; Secure',
      );
    } finally {
      await secure.stop();
    }
  });
});
