import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type ProxyOptions, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createBrowser } from '../support/browser.ts';
import { freePort } from '../support/redis.ts';
import { startWorld, type World } from '../support/world.ts';

// Issue 14, part 7: a real Vite in front, whose `server.proxy` passes /api and /bff on to Cloakroom.

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-vite-'));
  await writeFile(join(folder, 'index.html'), '<h1>page</h1>');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function startVite(port: number, target: string, options: string | ProxyOptions): Promise<ViteDevServer> {
  const vite = await createServer({
    configFile: false,
    root: folder,
    cacheDir: join(folder, 'cache'),
    logLevel: 'silent',
    server: {
      host: '127.0.0.1',
      port,
      strictPort: true,
      proxy: Object.fromEntries(
        ['/api', '/bff'].map((path) => [path, typeof options === 'string' ? target : { ...options, target }]),
      ),
    },
  });
  await vite.listen();
  onTestFinished(() => vite.close());
  return vite;
}

/** Vite on a port of its own in front of a Cloakroom that believes to be at `publicUrl`. */
async function start(options: string | ProxyOptions, publicUrl: (vite: string) => string | undefined) {
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const world: World = await startWorld({
    store: 'memory',
    config(data) {
      data.publicUrl = publicUrl(origin) ?? data.publicUrl;
      data.cookie = { name: 'cloakroom' };
    },
  });
  onTestFinished(() => world.stop());
  await startVite(port, `http://localhost:${world.port}`, options);
  const page = createBrowser({ origin });
  onTestFinished(() => page.close());
  return { world, page, origin };
}

describe('Vite in front', () => {
  it('works as docs/apis.md has it: publicUrl is Vite’s address, and Host stays', async () => {
    const { world, page, origin } = await start({ changeOrigin: false }, (vite) => vite);
    world.provider.nextLogin({ sub: 'alice' });
    const landed = await page.login('/');
    expect([landed.url, landed.text]).toEqual([`${origin}/`, expect.stringContaining('<h1>page</h1>')]);
    expect((await page.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
    const saved = await page.fetch('/api/orders', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(saved.json()).toEqual({ ok: true });
  });

  it('with changeOrigin: the Host that came is named, and what to change', async () => {
    // The short form means changeOrigin: true to Vite.
    for (const options of ['short', { changeOrigin: true }]) {
      const { world, page, origin } = await start(options, (vite) => vite);
      const refused = await page.fetch('/bff/session');
      expect([refused.status, refused.json()]).toEqual([
        421,
        expect.objectContaining({
          code: 'BFF_HOST_UNKNOWN',
          detail: expect.stringMatching(
            `^Host is "localhost:${world.port}", expected is "${new URL(origin).host}"\\. .*changeOrigin: false`,
          ),
        }),
      ]);
    }
  });

  it('with changeOrigin and Cloakroom’s own address as publicUrl: the Origin that came is named, and what to change', async () => {
    const { world, page, origin } = await start({ changeOrigin: true }, () => undefined);
    expect((await page.fetch('/bff/session')).status).toBe(200); // so that it seems to work
    const refused = await page.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect([refused.status, refused.json()]).toEqual([
      403,
      expect.objectContaining({
        code: 'BFF_CSRF_REJECTED',
        detail: expect.stringMatching(
          `^Origin is "${origin}", expected is "${world.origin}"\\. .*publicUrl is the address in the browser`,
        ),
      }),
    ]);
  });
});
