import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { rawRequest } from '../support/raw-client.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { startWorld, type World } from '../support/world.ts';

// Issue 14, part 7: `devServer`, Cloakroom in front of a bundler's development server. The first one here is a real Vite.

describe('Vite behind Cloakroom', () => {
  let folder: string;
  let vite: ViteDevServer;
  let world: World;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cloakroom-vite-'));
    await writeFile(join(folder, 'index.html'), '<h1>page</h1><script type="module" src="/main.ts"></script>');
    await writeFile(join(folder, 'main.ts'), "import { name } from '/api.ts';\nconsole.log(name as string);\n");
    await writeFile(join(folder, 'api.ts'), "export const name: string = 'first';\nimport.meta.hot?.accept();\n");
    const port = await freePort();
    vite = await createServer({
      configFile: false,
      root: folder,
      cacheDir: join(folder, 'cache'),
      logLevel: 'silent',
      server: { port, strictPort: true, watch: { usePolling: true, interval: 50 } },
    });
    await vite.listen();
    world = await startWorld({
      store: 'memory',
      config: (data) => {
        data.devServer = `http://localhost:${port}`;
      },
    });
  });
  afterAll(async () => {
    await world.stop();
    await vite.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('serves pages, deep links and modules; /bff and the APIs stay ours', async () => {
    const alice = await world.loggedIn('alice');
    const page = await alice.navigate('/');
    expect([page.status, page.text]).toEqual([200, expect.stringContaining('/@vite/client')]);
    expect((await alice.navigate('/orders/7?tab=1')).text).toContain('<h1>page</h1>');
    const module = await alice.fetch('/main.ts');
    expect(module.header('content-type')).toMatch(/javascript/);
    expect(module.text).toMatch(/sourceMappingURL=/);
    expect((await alice.fetch('/api.ts')).text).toContain("'first'".replaceAll("'", '"'));
    expect((await alice.fetch('/@vite/client')).status).toBe(200);
    expect((await alice.fetch('/api/orders/7')).json()).toEqual({ ok: true });
    expect((await alice.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
    for (const path of ['/bff/nothing', '/bff']) expect((await alice.fetch(path)).status).toBe(404);
  });

  it('sends what changed over the WebSocket', async () => {
    const alice = await world.loggedIn('alice');
    const client = (await alice.fetch('/@vite/client')).text;
    const token = /wsToken = "([^"]+)"/.exec(client)?.[1] ?? '';
    await alice.fetch('/main.ts');
    await alice.fetch('/api.ts');
    const open = (origin: string) => {
      const socket = new WebSocket(`ws://localhost:${world.port}/?token=${token}`, 'vite-hmr', { headers: { origin } });
      onTestFinished(() => socket.terminate());
      const heard: string[] = [];
      socket.on('message', (data) => void heard.push(String(data)));
      socket.on('error', (error) => void heard.push(error.message));
      return { socket, heard };
    };
    const { socket, heard } = open(world.origin);
    await until(() => heard.length > 0);
    expect(socket.protocol).toBe('vite-hmr');
    expect(JSON.parse(heard[0] ?? '')).toMatchObject({ type: 'connected' });
    await writeFile(join(folder, 'api.ts'), "export const name: string = 'second';\nimport.meta.hot?.accept();\n");
    await until(() => heard.some((text) => text.includes('"update"') && text.includes('/api.ts')));
    expect((await alice.fetch('/api.ts')).text).toContain('"second"');
    const foreign = open('https://evil.example');
    await until(() => foreign.heard.length > 0);
    expect(foreign.heard).toEqual(['Unexpected server response: 403']);
  });
});

describe('what crosses', () => {
  let devServer: EchoUpstream;
  let world: World;
  beforeAll(async () => {
    devServer = await startEchoUpstream();
    world = await startWorld({
      store: 'memory',
      config: (data) => {
        data.devServer = devServer.url;
        data.apis.orders.methods = ['GET'];
        data.trustedProxies = ['127.0.0.9'];
      },
    });
  });
  afterAll(async () => {
    await world.stop();
    await devServer.stop();
  });
  beforeEach(() => {
    devServer.reset();
    devServer.respond = reply({ body: 'dev' });
    world.upstream.reset();
  });
  const last = () => devServer.requests.at(-1);

  it('brings no cookie, no token, no Authorization to it, and no cookie of it to the browser', async () => {
    const alice = await world.loggedIn('alice');
    devServer.respond = reply({
      headers: [
        ['Set-Cookie', `cloakroom=planted; Path=/`],
        ['Clear-Site-Data', '"cookies"'],
        ['Content-Security-Policy', "default-src 'self' 'unsafe-inline'"],
        ['ETag', '"of-the-dev-server"'],
        ['Cache-Control', 'max-age=31536000,immutable'],
      ],
      body: 'dev',
    });
    const page = await alice.fetch('/node_modules/.vite/deps/react.js?v=1', {
      method: 'POST',
      headers: { authorization: 'Bearer abc', 'proxy-authorization': 'Basic abc', 'x-csrf': '1' },
      body: 'text',
    });
    expect([page.status, page.text]).toEqual([200, 'dev']);
    expect(last()?.target).toBe('/node_modules/.vite/deps/react.js?v=1');
    for (const name of ['cookie', 'authorization', 'proxy-authorization', 'x-csrf', 'referer'])
      expect([name, last()?.header(name)]).toEqual([name, undefined]);
    expect(last()?.header('host')).toBe(new URL(devServer.url).host);
    expect(page.header('set-cookie')).toBeUndefined();
    expect(page.header('clear-site-data')).toBeUndefined();
    expect(page.header('content-security-policy')).toBe("default-src 'self' 'unsafe-inline'");
    expect(page.header('etag')).toBe('"of-the-dev-server"');
    expect(page.header('cache-control')).toBe('max-age=31536000,immutable');
  });

  it('goes to it for whatever is neither an API’s nor ours, without a session', async () => {
    const visitor = world.browser();
    for (const path of ['/', '/x', '/api.html', '/api/other', '/@id/__x00__virtual', '/a%20b', '/caf%C3%A9'])
      expect([path, (await visitor.fetch(path)).text]).toEqual([path, 'dev']);
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
      expect([method, (await visitor.fetch('/x', { method })).status]).toEqual([method, 200]);
    const seen = devServer.requests.length;
    expect((await visitor.fetch('/api/orders', { method: 'POST', headers: { 'x-csrf': '1' } })).status).toBe(405);
    expect((await visitor.fetch('/api/orders/1')).status).toBe(401);
    expect((await visitor.fetch('/bff/nothing')).status).toBe(404);
    for (const target of ['/%61pi/orders/1', '/api%2forders', '/x/../api/orders', '/%62ff/session', '//evil'])
      await rawRequest(world.port, `GET ${target} HTTP/1.1\r\nHost: localhost:${world.port}\r\n\r\n`);
    expect(devServer.requests.slice(seen).map(({ target }) => target)).toEqual([]);
    expect(world.upstream.requests).toEqual([]);
  });

  it('follows its redirects on our own origin', async () => {
    devServer.respond = reply({ status: 302, headers: [['Location', `${devServer.url}/login?x=1`]] });
    const page = await world.browser().fetch('/old', { followRedirects: false });
    expect(page.header('location')).toBe('/login?x=1');
  });

  it('opens WebSockets as from a page of the dev server, which checks Host and Origin', async () => {
    devServer.respond = createWebSocketApi(echo).respond;
    const socket = new WebSocket(`ws://localhost:${world.port}/ws`, {
      headers: { origin: world.origin, cookie: 'a=b' },
    });
    onTestFinished(() => socket.terminate());
    const heard = new Promise((resolve) => socket.once('message', (data) => resolve(String(data))));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send('x'.repeat(3_000_000));
    expect(await heard).toHaveLength(3_000_000);
    expect([last()?.header('host'), last()?.header('origin'), last()?.header('cookie')]).toEqual([
      new URL(devServer.url).host,
      devServer.url,
      undefined,
    ]);
  });

  it('is for this machine alone, whatever Host is sent', async () => {
    const ask = (lines: string) =>
      rawRequest(world.port, `GET /x HTTP/1.1\r\nHost: localhost:${world.port}\r\n${lines}\r\n`, {
        localAddress: '127.0.0.9',
      });
    expect((await ask('')).status).toBe(200);
    const other = await ask('X-Forwarded-For: 192.0.2.7\r\n');
    expect([other.status, JSON.parse(other.body)]).toEqual([
      404,
      expect.objectContaining({ code: 'BFF_ROUTE_UNKNOWN', detail: expect.stringMatching(/for this machine alone/) }),
    ]);
  });

  it('is asked again as soon as it is back', async () => {
    devServer.respond = (_request, socket) => void socket.destroy();
    for (let round = 0; round < 12; round++) expect((await world.browser().fetch('/x')).status).toBe(502);
    devServer.respond = reply({ body: 'back' });
    expect((await world.browser().fetch('/x')).text).toBe('back');
  });
});

describe('a frontend with a path', () => {
  it('keeps it, as the base that bundlers know', async () => {
    const devServer = await startEchoUpstream();
    onTestFinished(() => devServer.stop());
    devServer.respond = reply({ body: 'dev' });
    const world = await startWorld({
      store: 'memory',
      config: (data) => {
        data.publicUrl = `${data.publicUrl}/shop`;
        data.devServer = devServer.url;
      },
    });
    onTestFinished(() => world.stop());
    for (const target of ['/shop', '/shop/', '/shop/src/main.ts?t=1']) {
      expect((await world.browser().fetch(target)).text).toBe('dev');
      expect(devServer.requests.at(-1)?.target).toBe(target);
    }
    expect((await world.browser().fetch('/other')).status).toBe(404);
  });
});
