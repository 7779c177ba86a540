import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import type { Browser } from '../support/browser.ts';
import { createCacheableApi } from '../support/cacheable-api.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import type { HeaderLine } from '../support/raw-response.ts';

// W3, W4: what caches are told about an answer, by who called; and when a browser is told to empty its own.

let world: BearerWorld;

beforeAll(async () => {
  world = await startBearerWorld({
    config(data) {
      const { upstream } = data.apis.orders;
      Object.assign(data.apis, {
        cached: { path: '/api/cached', upstream, cache: true },
        guests: { path: '/api/guests', upstream, cache: true, token: 'user-or-client' },
        news: { path: '/api/news', upstream, cache: true, token: 'none' },
      });
      Object.assign(data.apis.both, { cache: true });
      Object.assign(data.apis.programs, { cache: true });
    },
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const csrf = { headers: { 'x-csrf': '1' } };

describe('what caches are told', () => {
  const lines: HeaderLine[] = [
    ['Cache-Control', 'public'],
    ['Cache-Control', 'S-MAXAGE=60, max-age=60'],
    ['Vary', 'Accept'],
  ];
  const answer = async (path: string, who: 'session' | 'bearer' | 'nobody', sent = lines, status = 200) => {
    world.upstream.respond = reply({ status, headers: sent, body: 'x' });
    if (who === 'bearer') {
      const { header } = await world.call(world.mobile.accessToken(), path);
      return [header('cache-control'), header('vary')];
    }
    const browser = who === 'session' ? await world.loggedIn('alice') : world.browser();
    const page = await browser.fetch(path, status === 304 ? { headers: { 'if-none-match': '"1"' } } : {});
    expect(page.all('cache-control').length).toBeLessThan(2);
    expect(page.all('vary').length).toBeLessThan(2);
    return [page.header('cache-control'), page.header('vary')];
  };

  const cases: [path: string, who: 'session' | 'bearer' | 'nobody', expected: [string?, string?]][] = [
    ['/api/cached/1', 'session', ['private, max-age=60', 'Accept, Cookie']],
    ['/api/guests/1', 'session', ['private, max-age=60', 'Accept, Cookie']],
    ['/api/guests/1', 'nobody', ['private, max-age=60', 'Accept, Cookie']],
    ['/api/both/1', 'session', ['private, max-age=60', 'Accept, Cookie, Authorization']],
    ['/api/both/1', 'bearer', ['private, max-age=60', 'Accept, Cookie, Authorization']],
    ['/api/programs/1', 'bearer', ['private, max-age=60', 'Accept, Authorization']],
    ['/api/news/1', 'session', ['public, S-MAXAGE=60, max-age=60', 'Accept']],
    ['/api/news/1', 'nobody', ['public, S-MAXAGE=60, max-age=60', 'Accept']],
    ['/api/orders/1', 'session', ['no-store', 'Accept']],
  ];
  for (const [path, who, expected] of cases) {
    it(`W3 W4 about ${path} for ${who}: ${expected.join('; ')}`, async () => {
      expect(await answer(path, who)).toEqual(expected);
    });
  }

  it('W3 W4 when the API says nothing, and with a 304, a 404 and a redirect', async () => {
    for (const status of [200, 304, 404, 301])
      expect(await answer('/api/cached/1', 'session', [], status)).toEqual(['private', 'Cookie']);
  });

  it('W3 our own answers are no-store', async () => {
    for (const path of ['/api/cached/1', '/bff/session', '/bff/nothing', '/api/cached//1'])
      expect((await world.browser().fetch(path)).all('cache-control')).toEqual(['no-store']);
  });
});

describe('entity tags', () => {
  it('W4 are good for their owner, through another login too, and for nobody else', async () => {
    const api = createCacheableApi();
    world.upstream.respond = api.respond;
    api.lines.set('/1', [
      ['ETag', 'W/"1"'],
      ['Last-Modified', 'Mon, 01 Jan 2024 00:00:00 GMT'],
    ]);
    const [alice, bob] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
    const etag = (await alice.fetch('/api/cached/1')).header('etag') ?? '';
    expect(etag).toMatch(/^W\/"[\w-]{16}\.1"$/);
    const again = (browser: Browser) =>
      browser.fetch('/api/cached/1', {
        headers: { 'if-none-match': etag, 'if-modified-since': 'Mon, 01 Jan 2024 00:00:00 GMT' },
      });
    expect((await again(alice)).status).toBe(304);
    expect((await again(await world.loggedIn('alice'))).status).toBe(304);
    expect((await again(bob)).text).toBe('for bob');
    const arrived = world.upstream.requests.map((request) => [
      request.header('if-none-match'),
      request.header('if-modified-since') !== undefined,
    ]);
    expect(arrived).toEqual([[undefined, false], ['W/"1"', true], ['W/"1"', true], [undefined, false]]); // biome-ignore format: rows
    // Another API's, which nobody keeps, are as they came.
    world.upstream.respond = reply({ headers: [['ETag', '"1"']] });
    for (const path of ['/api/orders/1', '/api/news/1']) expect((await alice.fetch(path)).header('etag')).toBe('"1"');
  });

  it('W4 stay preconditions of a write', async () => {
    const alice = await world.loggedIn('alice');
    world.upstream.respond = reply({ headers: [['ETag', '"1"']] });
    const etag = (await alice.fetch('/api/cached/1')).header('etag') ?? '';
    await alice.fetch('/api/cached/1', { method: 'PUT', headers: { 'x-csrf': '1', 'if-match': etag } });
    expect(world.upstream.requests.at(-1)?.header('if-match')).toBe('"1"');
  });
});

describe('Clear-Site-Data', () => {
  const cleared = '"cache"';
  const ends: Record<string, (browser: Browser) => ReturnType<Browser['fetch']>> = {
    'POST /bff/logout': (browser) => browser.fetch('/bff/logout', { method: 'POST', ...csrf }),
    'GET /bff/logout?sid=…': async (browser) => {
      const { logoutUrl } = (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>();
      return browser.navigate(logoutUrl, { from: world.origin, followRedirects: false });
    },
    'DELETE /bff/sessions': (browser) => browser.fetch('/bff/sessions', { method: 'DELETE', ...csrf }),
    'DELETE of the current session': async (browser) => {
      const { sessions } = (await browser.fetch('/bff/sessions')).json<{
        sessions: { id: string; current: boolean }[];
      }>();
      const id = sessions.find(({ current }) => current)?.id;
      return browser.fetch(`/bff/sessions/${id}`, { method: 'DELETE', ...csrf });
    },
  };
  for (const [name, end] of Object.entries(ends)) {
    it(`W4 empties the cache after ${name}`, async () => {
      const page = await end(await world.loggedIn('alice'));
      expect([200, 303]).toContain(page.status);
      expect(page.all('clear-site-data')).toEqual([cleared]);
    });
  }

  it('W4 is never said to who proved nothing, or ended nothing of this browser', async () => {
    await world.loggedIn('alice');
    const alice = await world.loggedIn('alice');
    const here = (await alice.fetch('/bff/sessions')).json<{ sessions: { id: string; current: boolean }[] }>();
    const elsewhere = here.sessions.find(({ current }) => !current);
    const gone = alice.clone();
    const foreign = { from: 'https://evil.example', followRedirects: false };
    const pages = [
      await world.browser().fetch('/bff/logout', { method: 'POST', ...csrf }),
      await world.browser().navigate('/bff/logout?sid=x', { followRedirects: false }),
      await alice.navigate('/bff/logout?sid=x', foreign),
      await alice.fetch('/bff/logout', { method: 'POST' }),
      await alice.fetch(`/bff/sessions/${elsewhere?.id}`, { method: 'DELETE', ...csrf }),
      await world.browser().fetch('/bff/sessions', { method: 'DELETE', ...csrf }),
      await world.browser().fetch('/api/cached/1'),
      await alice.navigate(`/bff/frontchannel-logout?iss=${world.provider.issuer}&sid=x`, foreign),
    ];
    for (const page of pages) expect(page.header('clear-site-data')).toBeUndefined();
    await alice.fetch('/bff/logout', { method: 'POST', ...csrf });
    // The session of these cookies has ended already.
    expect((await gone.fetch('/bff/logout', { method: 'POST', ...csrf })).header('clear-site-data')).toBeUndefined();
  });
});
