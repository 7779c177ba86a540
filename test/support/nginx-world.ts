import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Browser, createBrowser } from './browser.ts';
import { assertNoSecrets } from './canary.ts';
import { type Certificates, createCertificates } from './certificates.ts';
import { reply } from './echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { freePort } from './redis.ts';
import { startTimedWorld } from './timed-world.ts';
import type { ConfigData, World } from './world.ts';

const examples = resolve(import.meta.dirname, '../../deploy/nginx');

export interface NginxWorld {
  world: World;
  nginx: Nginx;
  port: number;
  origin: string;
  key: string;
  certificates: Certificates;
  /** What nginx forwards to by itself, for `/api/orders` and `/api/chat`. */
  orders: EchoUpstream;
  chat: EchoUpstream;
  browser(): Browser;
  loggedIn(sub?: string, claims?: Record<string, unknown>): Promise<Browser>;
  /** Forgets what the upstreams saw, and lets them answer `{"ok":true}`. */
  fresh(): void;
  stop(): Promise<void>;
}

export interface NginxWorldOptions {
  config?: (data: ConfigData) => void;
  /** What nginx proves itself with, instead of the right key. */
  key?: string;
  /** Changes the example before nginx reads it. */
  site?: (text: string) => string;
}

/** A browser → nginx with the files of deploy/nginx → Cloakroom, and upstreams that only nginx forwards to. */
export async function startNginxWorld(options: NginxWorldOptions = {}): Promise<NginxWorld> {
  const certificates = await createCertificates();
  const port = await freePort();
  const origin = `https://localhost:${port}`;
  const key = randomBytes(32).toString('base64url');
  const [orders, chat] = [await startEchoUpstream(), await startEchoUpstream()];
  const world = await startTimedWorld({
    config(data) {
      data.publicUrl = origin;
      data.trustedProxies = ['127.0.0.2'];
      data.forwardAuth = { key };
      data.apis = {
        orders: { path: '/api/orders', resource: 'https://orders.example' },
        chat: { path: '/api/chat', resource: 'https://chat.example' },
      };
      options.config?.(data);
    },
  });
  const read = (name: string) => readFile(join(examples, name), 'utf8');
  const site = (await read('cloakroom.conf'))
    .replace('server cloakroom:8080;', `server 127.0.0.1:${world.port};`)
    .replace('server orders:8080;', `server 127.0.0.1:${orders.port};`)
    .replace('server chat:8080;', `server 127.0.0.1:${chat.port};`)
    .replace('listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`)
    .replaceAll('app.example.com', 'localhost');
  const nginx = await startNginx({
    port,
    // The address that trustedProxies names; the browser's is another.
    http: `proxy_bind 127.0.0.2;\n${options.site?.(site) ?? site}`,
    files: {
      'cloakroom-auth.conf': await read('cloakroom-auth.conf'),
      'cloakroom-key.conf': (await read('cloakroom-key.conf.example')).replace('put-the-key-here', options.key ?? key),
      'localhost.crt': certificates.good.cert,
      'localhost.key': certificates.good.key,
    },
  });

  const browsers: Browser[] = [];
  const browser = () => {
    const created = createBrowser({ origin, ca: certificates.ca });
    browsers.push(created);
    return created;
  };
  const fresh = () => {
    for (const upstream of [orders, chat]) {
      upstream.reset();
      upstream.respond = reply({ body: { ok: true } });
    }
  };
  fresh();
  return {
    world,
    nginx,
    port,
    origin,
    key,
    certificates,
    orders,
    chat,
    browser,
    async loggedIn(sub = 'alice', claims = {}) {
      world.provider.nextLogin({ sub, claims });
      const created = browser();
      const page = await created.login('/');
      const session = (await created.fetch('/bff/session')).json<{ authenticated: boolean }>();
      if (!session.authenticated) throw new Error(`login failed: ${page.status} ${page.text}`);
      return created;
    },
    fresh,
    async stop() {
      for (const { history } of browsers)
        for (const hop of history.filter(({ url }) => new URL(url).origin === origin))
          world.alsoSearch(`answer of ${hop.url}`, `${JSON.stringify(hop.headers)}\n${hop.body?.toString('latin1')}`);
      const metrics = await world.app.ops.inject('/metrics');
      const errors = await nginx.errors();
      await Promise.all([...browsers.map((one) => one.close()), orders.stop(), chat.stop(), nginx.stop()]);
      assertNoSecrets({
        secrets: [key, ...world.provider.issuedSecrets('access_token')],
        haystacks: [
          { name: 'log', text: world.log.text() },
          { name: 'metrics', text: metrics.body },
          { name: 'error log of nginx', text: errors },
        ],
      });
      await world.stop();
    },
  };
}
