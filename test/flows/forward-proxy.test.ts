import * as tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Browser, createBrowser } from '../support/browser.ts';
import { type Certificates, createCertificates, writeCaFile } from '../support/certificates.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstreamOptions, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ForwardProxy, type ForwardProxyOptions, startForwardProxy } from '../support/forward-proxy.ts';
import { attemptLogin } from '../support/login-attempt.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { until } from '../support/wait.ts';
import { openWebSocket } from '../support/websocket/page.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { type ConfigData, startWorld, type World, type WorldOptions } from '../support/world.ts';

// W33: only a forward proxy leads out of the network. It sees where a connection goes, and nothing of what is said there.

let certificates: Certificates;
let files: Awaited<ReturnType<typeof writeCaFile>>;
beforeAll(async () => {
  certificates = await createCertificates();
  files = await writeCaFile(certificates);
});
afterAll(() => files.remove());

const proxies: ForwardProxy[] = [];
let world: World | undefined;
afterEach(async () => {
  await world?.stop();
  world = undefined;
  for (const proxy of proxies.splice(0)) await proxy.stop();
});

async function startProxy(options?: ForwardProxyOptions): Promise<ForwardProxy> {
  const proxy = await startForwardProxy(options);
  proxies.push(proxy);
  return proxy;
}

/** A provider with TLS under a name that nobody but the proxy can resolve. */
async function startBehind(env: Record<string, string>, options: WorldOptions = {}): Promise<World> {
  world = await startWorld({
    store: 'memory',
    env,
    ...options,
    provider: { tls: certificates.good, host: 'id.behind.example', ...options.provider },
    config(data) {
      Object.assign(data.authorizationServer, { caFile: files.caFile, timeout: '1s' });
      options.config?.(data);
    },
  });
  return world;
}

/** A browser needs no proxy. */
function browserOf({ origin, provider }: World): Browser {
  const { host } = new URL(provider.issuer);
  const browser = createBrowser({ origin, ca: certificates.ca, resolve: { [host]: `127.0.0.1:${provider.port}` } });
  onTestFinished(() => browser.close());
  return browser;
}

const csrf = { 'x-csrf': '1' };

describe('an authorization server behind it', () => {
  const password = 'p@ss/w:rd%25';
  const named = (url: string) =>
    url.replace('://', `://${encodeURIComponent('us er')}:${encodeURIComponent(password)}@`);

  it.each(['HTTPS_PROXY', 'https_proxy'])(
    'W33 %s leads there for metadata, keys, code, refresh and revocation; the proxy reads none of it',
    async (name) => {
      const proxy = await startProxy({ credentials: `us er:${password}` });
      const { provider, log } = await startBehind({ [name]: named(proxy.url) }, { provider: { par: true } });
      const browser = browserOf(world as World);
      await browser.login('/');
      expect(await isLoggedIn(browser)).toBe(true);
      expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
      expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
      await until(() => provider.revoked.length > 0);
      for (const endpoint of ['discovery', 'jwks', 'par', 'token', 'revocation'] as const)
        expect([endpoint, provider.requestsTo(endpoint).length > 0]).toEqual([endpoint, true]);
      expect(new Set(proxy.asked)).toEqual(new Set([`id.behind.example:${provider.port}`]));
      expect(proxy.sent()).not.toMatch(/HTTP\/1\.1|client_id|openid-configuration/);
      for (const part of [password, encodeURIComponent(password), 'us er', 'us%20er'])
        expect(log.text()).not.toContain(part);
    },
  );

  it('W33 a proxy that speaks TLS itself is verified, by the CAs of the system', async () => {
    const proxy = await startProxy({ tls: certificates.good });
    await startBehind({ HTTPS_PROXY: proxy.url });
    const refused = await browserOf(world as World).navigate('/bff/login', { from: (world as World).origin });
    expect(refused.status).toBe(503);
    expect(proxy.asked).toEqual([]);
    const system = tls.getCACertificates('default');
    tls.setDefaultCACertificates([...system, certificates.ca]);
    onTestFinished(() => tls.setDefaultCACertificates(system));
    const browser = browserOf(world as World);
    await until(async () => (await browser.login('/')).hops.length > 0 && isLoggedIn(browser), { timeoutMs: 10_000 });
    expect(proxy.asked.length).toBeGreaterThan(0);
  });

  it.each(['wrongName', 'selfSigned', 'expired'] as const)(
    'W33 the far end has to show who it is through the tunnel too: %s',
    async (kind) => {
      const proxy = await startProxy();
      const { provider, log } = await startBehind(
        { HTTPS_PROXY: proxy.url },
        { provider: { tls: certificates[kind], host: 'id.behind.example' } },
      );
      const page = await browserOf(world as World).navigate('/bff/login', { from: (world as World).origin });
      expect(page.status).toBe(503);
      expect(proxy.asked.length).toBeGreaterThan(0);
      expect(provider.requests).toEqual([]);
      expect(log.text()).toMatch(/authorization server: (ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE)/);
    },
  );

  it.each([
    ['refuses', (proxy: ForwardProxy) => Object.assign(proxy, { refuse: 403 }), /FORWARD_PROXY_403/],
    ['wants credentials', (proxy: ForwardProxy) => Object.assign(proxy, { refuse: 407 }), /FORWARD_PROXY_407/],
    ['never answers', (proxy: ForwardProxy) => Object.assign(proxy, { refuse: 'hang' }), /FORWARD_PROXY_|timeout/],
    ['is not there', (proxy: ForwardProxy) => proxy.stop(), /FORWARD_PROXY_ECONNREFUSED/],
  ])('W33 a proxy that %s is named in the log, and nothing goes past it', async (_what, fault, reason) => {
    const proxy = await startProxy();
    await fault(proxy);
    const { provider, log } = await startBehind({ HTTPS_PROXY: proxy.url });
    const page = await browserOf(world as World).navigate('/bff/login', { from: (world as World).origin });
    expect(page.status).toBe(503);
    expect(provider.requests).toEqual([]);
    const reasons = log.warnings().flatMap((line) => (typeof line.reason === 'string' ? [line.reason] : []));
    expect(reasons.length).toBeGreaterThan(0);
    for (const told of reasons) expect(told).toMatch(reason);
  });

  it('W33 a refresh that the proxy did not let out was not sent: the next one uses the same token', async () => {
    const proxy = await startProxy();
    const { provider, clock } = await startBehind({ HTTPS_PROXY: proxy.url });
    const browser = browserOf(world as World);
    await browser.login('/');
    const refresh = async () => (await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status;
    proxy.refuse = 403;
    // The tunnel that is there ends, and the next call needs a new one.
    await provider.down();
    await provider.up();
    expect(await refresh()).toBe(503);
    proxy.refuse = undefined;
    clock.advance(30_000); // past the pause after a failure
    expect(await refresh()).toBe(200);
    expect(provider.reuseDetected()).toBe(0);
    expect(provider.tokenRequests('refresh_token')).toHaveLength(1);
  });

  it('W33 NO_PROXY keeps to the direct way, and so does a proxy for another scheme', async () => {
    const proxy = await startProxy();
    for (const env of [
      { HTTPS_PROXY: proxy.url, NO_PROXY: 'elsewhere.example, localhost' },
      { HTTPS_PROXY: proxy.url, no_proxy: '*' },
      { HTTP_PROXY: proxy.url },
      { HTTPS_PROXY: '' },
    ]) {
      world = await startWorld({
        store: 'memory',
        env: env as Record<string, string>,
        provider: { tls: certificates.good },
        config: (data) => Object.assign(data.authorizationServer, { caFile: files.caFile }),
      });
      const browser = browserOf(world);
      await browser.login('/');
      expect(await isLoggedIn(browser)).toBe(true);
      await world.stop();
    }
    world = undefined;
    expect(proxy.asked).toEqual([]);
  });

  it('W33 HTTP_PROXY leads to a plain http one on loopback only when it is on loopback itself', async () => {
    const proxy = await startProxy();
    world = await startWorld({ store: 'memory', env: { HTTP_PROXY: proxy.url } });
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    expect(new Set(proxy.asked)).toEqual(new Set([`127.0.0.1:${world.provider.port}`]));
    await world.stop();
    // For a proxy elsewhere 127.0.0.1 is another machine, and it would read the secret.
    world = await startWorld({ store: 'memory', env: { HTTP_PROXY: 'http://192.0.2.1:3128' } });
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
  });

  it('W33 an issuer of bearer tokens is reached through it too', async () => {
    const proxy = await startProxy();
    const { provider } = await startBehind(
      { HTTPS_PROXY: proxy.url },
      {
        config(data) {
          const { issuer } = data.authorizationServer;
          data.bearerIssuers = {
            mobile: { issuer, caFile: files.caFile, audiences: ['api'], jwksUri: `${issuer}/jwks` },
          };
          data.apis.orders.accept = ['bearer'];
        },
      },
    );
    const headers = { authorization: `Bearer ${provider.accessToken()}` };
    expect((await browserOf(world as World).fetch('/api/orders/1', { headers })).status).toBe(200);
    expect(provider.requestsTo('jwks')).toHaveLength(1);
  });
});

describe('an API behind it', () => {
  async function startApi(env: Record<string, string>, api: ConfigData, tlsOptions?: EchoUpstreamOptions['tls']) {
    const upstream = await startEchoUpstream(tlsOptions === undefined ? {} : { tls: tlsOptions });
    onTestFinished(() => upstream.stop());
    upstream.respond = reply({ body: { ok: true } });
    world = await startWorld({
      store: 'memory',
      env,
      config(data) {
        const scheme = tlsOptions === undefined ? 'http' : 'https';
        const target = `${scheme}://orders.behind.example:${upstream.port}`;
        data.apis.orders = {
          path: '/api/orders',
          upstream: target,
          ...(tlsOptions ? { caFile: files.caFile } : {}),
          ...api,
        };
      },
    });
    return { upstream, browser: await world.loggedIn() };
  }

  it('W33 gets calls, streams and WebSockets with forwardProxy, its certificate verified; the proxy reads nothing', async () => {
    const proxy = await startProxy({ credentials: 'user:secret-of-the-proxy' });
    const url = proxy.url.replace('://', '://user:secret-of-the-proxy@');
    const { upstream, browser } = await startApi(
      { HTTPS_PROXY: url },
      { forwardProxy: true, websocket: {} },
      certificates.good,
    );
    expect((await browser.fetch('/api/orders/1', { headers: csrf })).json()).toEqual({ ok: true });
    expect(upstream.requests[0]?.header('authorization')).toMatch(/^Bearer /);
    expect(upstream.requests[0]?.header('proxy-authorization')).toBeUndefined();
    upstream.respond = createWebSocketApi(echo).respond;
    const page = await openWebSocket(world as World, browser);
    page.socket.send('through the tunnel');
    await until(() => page.messages.includes('through the tunnel'));
    page.socket.terminate();
    expect(new Set(proxy.asked)).toEqual(new Set([`orders.behind.example:${upstream.port}`]));
    expect(proxy.sent()).not.toMatch(/Bearer|HTTP\/1\.1/);
    expect((world as World).log.text()).not.toContain('secret-of-the-proxy');
  });

  it('W33 gets nothing through the tunnel when its certificate is not right', async () => {
    const proxy = await startProxy();
    const { upstream, browser } = await startApi(
      { HTTPS_PROXY: proxy.url },
      { forwardProxy: true },
      certificates.selfSigned,
    );
    expect((await browser.fetch('/api/orders/1', { headers: csrf })).status).toBe(502);
    expect(proxy.asked.length).toBeGreaterThan(0);
    expect(upstream.requests).toEqual([]);
  });

  it('W33 is asked for its health there too, and HTTP_PROXY is for plain http', async () => {
    const proxy = await startProxy();
    const { upstream } = await startApi(
      { HTTP_PROXY: proxy.url },
      { forwardProxy: true, health: { path: '/healthz' } },
    );
    await until(() => upstream.requests.some(({ target }) => target === '/healthz'));
    expect(proxy.asked).toContain(`orders.behind.example:${upstream.port}`);
  });

  it('W33 is not looked for there without forwardProxy', async () => {
    const proxy = await startProxy();
    const { browser } = await startApi(
      { HTTPS_PROXY: proxy.url, HTTP_PROXY: proxy.url, NO_PROXY: 'localhost,127.0.0.1' },
      {},
    );
    expect((await browser.fetch('/api/orders/1', { headers: csrf })).status).toBe(502);
    expect(proxy.asked).toEqual([]);
  });

  it.each([
    ['refuses', 403, 502, 'BFF_UPSTREAM_UNREACHABLE'],
    ['wants credentials', 407, 502, 'BFF_UPSTREAM_UNREACHABLE'],
    ['never answers', 'hang', 504, 'BFF_UPSTREAM_TIMEOUT'],
  ] as const)('W33 a proxy that %s: %s is %i', async (_what, refuse, status, code) => {
    const proxy = await startProxy();
    proxy.refuse = refuse;
    const { upstream, browser } = await startApi(
      { HTTPS_PROXY: proxy.url },
      { forwardProxy: true, timeouts: { connect: '200ms' } },
      certificates.good,
    );
    const answer = await browser.fetch('/api/orders/1', { headers: csrf });
    expect([answer.status, answer.json<{ code: string }>().code]).toEqual([status, code]);
    expect(upstream.requests).toEqual([]);
  });

  it('W54 in plain http loses no GET when the proxy closes a kept connection under it', async () => {
    const proxy = await startProxy({ credentials: 'user:secret-of-the-proxy' });
    const env = {
      HTTP_PROXY: proxy.url.replace('://', '://user:secret-of-the-proxy@'),
      NO_PROXY: '127.0.0.1',
    };
    const { upstream, browser } = await startApi(env, { forwardProxy: true });
    expect((await browser.fetch('/api/orders/1', { headers: csrf })).status).toBe(200);
    const kept = upstream.requests.length;
    // The proxy passes the end of its own connection on.
    upstream.respond = (request, socket) =>
      upstream.requests.length === kept + 1 ? void socket.destroy() : reply({ body: 'again' })(request, socket);
    expect((await browser.fetch('/api/orders/1', { headers: csrf })).text).toBe('again');
    expect(upstream.requests).toHaveLength(kept + 2);
    expect(upstream.requests.at(-1)?.header('proxy-authorization')).toBeUndefined();
  });

  it('W33 in plain http is asked of the proxy as such, with our credentials for it, which the API does not see', async () => {
    const proxy = await startProxy({ credentials: 'user:secret-of-the-proxy' });
    const url = proxy.url.replace('://', '://user:secret-of-the-proxy@');
    const env = { HTTP_PROXY: url, NO_PROXY: '127.0.0.1' };
    const { upstream, browser } = await startApi(env, { forwardProxy: true, websocket: {} });
    const sent = await browser.fetch('/api/orders/1?a=1', { method: 'POST', headers: csrf, body: 'x'.repeat(50_000) });
    expect(sent.json()).toEqual({ ok: true });
    const [request] = upstream.requests;
    expect([request?.target, request?.header('host'), request?.body.length]).toEqual([
      '/1?a=1',
      `orders.behind.example:${upstream.port}`,
      50_000,
    ]);
    expect(request?.header('authorization')).toMatch(/^Bearer /);
    expect(request?.header('proxy-authorization')).toBeUndefined();
    expect(proxy.sent()).toBe(''); // no tunnel
    upstream.respond = createWebSocketApi(echo).respond;
    const page = await openWebSocket(world as World, browser);
    page.socket.send('through a tunnel');
    await until(() => page.messages.includes('through a tunnel'));
    page.socket.terminate();
    expect(proxy.sent()).toMatch(/^GET \/ws /); // one that ws needs
    proxy.refuse = 407;
    const refused = await browser.fetch('/api/orders/1', { headers: csrf });
    expect([refused.status, refused.json<{ code: string }>().code]).toEqual([502, 'BFF_UPSTREAM_UNREACHABLE']);
    expect((world as World).log.text()).not.toContain('secret-of-the-proxy');
  });
});
