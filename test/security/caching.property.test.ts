import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { createBrowser } from '../support/browser.ts';
import { type CacheableApi, cachingLines, createCacheableApi } from '../support/cacheable-api.ts';
import { type Nginx, startNginx } from '../support/nginx.ts';
import type { HeaderLine } from '../support/raw-response.ts';
import { freePort } from '../support/redis.ts';
import { startWorld, type World } from '../support/world.ts';

// W3: a shared cache in front of Cloakroom, as operators set it up, and an API with `cache: true`.

/** What a cache makes of `Vary`: nginx heeds it, most content delivery networks do not. */
const kinds = { 'that heeds Vary': '', 'that ignores Vary': 'proxy_ignore_headers Vary;' };

const cacheOf = (port: number, cloakroom: number, vary: string) => `
proxy_cache_path /etc/nginx/cache keys_zone=shared:1m inactive=1h;
server {
  listen 127.0.0.1:${port};
  location / {
    proxy_pass http://127.0.0.1:${cloakroom};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_cache shared;
    proxy_cache_key $scheme$proxy_host$request_uri;
    proxy_cache_valid 200 10m;
    proxy_cache_revalidate on;
    ${vary}
    proxy_cache_use_stale error timeout updating;
    add_header X-Cache-Status $upstream_cache_status always;
  }
}`;

describe.each(Object.entries(kinds))('a shared cache in front %s', (_, vary) => {
  let world: World;
  let nginx: Nginx;
  let connectTo: string;
  let api: CacheableApi;
  const browsers: Browser[] = [];

  beforeAll(async () => {
    world = await startWorld({
      store: 'memory',
      config(data) {
        const { upstream } = data.apis.orders;
        data.apis.cached = { path: '/api/cached', upstream, cache: true, returnHeaders: ['x-total-count'] };
        data.apis.guests = { path: '/api/guests', upstream, cache: true, token: 'user-or-client' };
        data.apis.public = { path: '/api/public', upstream, cache: true, token: 'none' };
      },
    });
    api = createCacheableApi();
    world.upstream.respond = api.respond;
    const port = await freePort();
    nginx = await startNginx({ port, http: cacheOf(port, world.port, vary), files: {} });
    connectTo = `http://127.0.0.1:${port}`;
  });
  afterAll(async () => {
    await Promise.all(browsers.map((one) => one.close()));
    await nginx.stop();
    await world.stop();
  });

  const browser = () => {
    const created = createBrowser({ origin: world.origin, connectTo });
    browsers.push(created);
    return created;
  };
  const loggedIn = async (sub: string) => {
    world.provider.nextLogin({ sub });
    const created = browser();
    await created.login('/');
    return created;
  };

  it('W3 stores what is public, and says so', async () => {
    api.lines.set('/1', [['Cache-Control', 'max-age=600']]);
    const nobody = browser();
    const statuses = [];
    for (let index = 0; index < 2; index++)
      statuses.push((await nobody.fetch('/api/public/1')).header('x-cache-status'));
    expect(statuses).toEqual(['MISS', 'HIT']);
  });

  it('W3 never gives what a session brought to anybody else, whatever the API says about caching', async () => {
    const [alice, bob, nobody] = [await loggedIn('alice'), await loggedIn('bob'), browser()];
    const asked: { path: string; lines: HeaderLine[] }[] = [];
    await fc.assert(
      fc.asyncProperty(cachingLines, fc.constantFrom('cached', 'guests'), async (lines, name) => {
        const below = `/${asked.length}`;
        const path = `/api/${name}${below}`;
        asked.push({ path, lines });
        api.lines.set(below, lines);
        expect((await alice.fetch(path)).text).toBe('for alice');
        const [his, anybodys] = await Promise.all([bob.fetch(path), nobody.fetch(path)]);
        expect(his.text).toBe('for bob');
        expect(anybodys.text).not.toMatch(/for (alice|bob)/);
        expect((await alice.fetch(path)).text).toBe('for alice');
      }),
      { numRuns: 70 },
    );
    await alice.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    const check = async ({ path, lines }: (typeof asked)[number]) => {
      const [hers, his, anybodys] = await Promise.all([alice, bob, nobody].map((one) => one.fetch(path)));
      const said = JSON.stringify(lines);
      expect(his?.text, said).toBe('for bob');
      for (const page of [hers, anybodys]) expect(page?.text, said).not.toMatch(/for (alice|bob)/);
    };
    await Promise.all(asked.map(check));
  });
});
