import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';

// What a browser says a request is for, and what is made of it. A service worker that passes a navigation on with
// `fetch(event.request)` loses the destination (W35): navigate and empty is what Chromium, Firefox and Safari send then.

let folder: string;
let world: World;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  await writeFile(join(folder, 'index.html'), 'the SPA');
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      data.files = folder;
    },
  });
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});
beforeEach(() => world.provider.reset());

const ask = (target: string, headers: Record<string, string | undefined>) =>
  world.browser().navigate(target, { headers, followRedirects: false });
const metadata = (mode: string, dest: string, site = 'same-origin') => ({
  'sec-fetch-site': site,
  'sec-fetch-mode': mode,
  'sec-fetch-dest': dest,
  'sec-fetch-user': undefined,
});

describe.each(['document', 'empty'])('W35 a navigation with sec-fetch-dest: %s', (dest) => {
  it.each(['same-origin', 'none'])('W35 begins a login (%s)', async (site) => {
    expect((await ask('/bff/login?return_to=/x', metadata('navigate', dest, site))).status).toBe(303);
  });

  it('W35 of another site begins none, and gets the page', async () => {
    for (const site of ['cross-site', 'same-site']) {
      const page = await ask('/bff/login?return_to=/x', metadata('navigate', dest, site));
      expect([page.status, page.setCookies]).toEqual([403, []]);
      expect(page.text).toContain('<a href="/bff/login?return_to=%2Fx">Start again</a>');
    }
  });

  it('W35 ahead of time begins none', async () => {
    const page = await ask('/bff/login', { ...metadata('navigate', dest), 'sec-purpose': 'prefetch;prerender' });
    expect([page.status, page.setCookies]).toEqual([403, []]);
  });

  it('W35 to a place inside of the SPA gets index.html, from any site', async () => {
    for (const site of ['same-origin', 'none', 'cross-site'])
      expect((await ask('/shop/coats/7', metadata('navigate', dest, site))).text).toBe('the SPA');
  });

  it('W35 that fails gets a page', async () => {
    const page = await ask('/bff/callback?state=x&code=y', metadata('navigate', dest, 'cross-site'));
    expect([page.status, page.header('content-type')]).toEqual([400, 'text/html; charset=utf-8']);
  });
});

const elsewhere: [mode: string, dest: string][] = [
  ['navigate', 'iframe'],
  ['navigate', 'frame'],
  ['navigate', 'fencedframe'],
  ['navigate', 'embed'],
  ['navigate', 'object'],
  ['navigate', 'image'],
  ['no-cors', 'image'],
  ['no-cors', 'script'],
  ['no-cors', 'empty'],
  ['no-cors', 'document'],
  ['cors', 'empty'],
  ['same-origin', 'empty'],
  ['websocket', 'empty'],
];
it.each(elsewhere)('W35 %s for %s is no navigation: no login, no index.html, no page', async (mode, dest) => {
  const login = await ask('/bff/login', metadata(mode, dest));
  expect([login.status, login.setCookies]).toEqual([400, []]);
  expect(login.header('content-type')).toContain('application/problem+json');
  expect((await ask('/shop/coats/7', metadata(mode, dest))).status).toBe(404);
});
