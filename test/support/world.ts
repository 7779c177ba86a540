import { inject } from 'vitest';
import { stringify } from 'yaml';
import { type App, createApp } from '../../src/app.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { type Browser, createBrowser } from './browser.ts';
import { assertNoSecrets } from './canary.ts';
import { type Clock, createClock } from './clock.ts';
import { type ConfigData, configOf } from './config-data.ts';
import { reply } from './echo-upstream/answers.ts';
import { startEchoUpstream } from './echo-upstream.ts';
import { startEvilProvider } from './evil-provider.ts';
import './global-redis.ts';
import { createLogSink } from './log-sink.ts';
import { freePort, uniqueKeyPrefix } from './redis.ts';
import { dumpRedis } from './redis-dump.ts';

export type { ConfigData };

export interface WorldOptions {
  /** `redis` unless the test needs to move time, which only the memory store lets it do. */
  store?: 'memory' | 'redis';
  redisUrl?: string;
  /** Changes the configuration before it is checked. */
  config?: (data: ConfigData) => void;
  provider?: Parameters<typeof startEvilProvider>[0];
  /** Environment variables of Cloakroom; none. */
  env?: Record<string, string>;
  /** Cloakroom processes-in-one on the same store and keys. */
  replicas?: number;
  /** `false`: every call asks Redis. For tests that change what is in Redis behind our back, or take it away. */
  nearCache?: false;
  /** Paths of ours whose answers carry the ID token on purpose (`idTokenHint`). */
  idTokenAt?: string[];
  /** How far each replica's own clock is off, milliseconds; with Redis. */
  skews?: number[];
}

type Provider = Awaited<ReturnType<typeof startEvilProvider>>;
type Upstream = Awaited<ReturnType<typeof startEchoUpstream>>;

/** One Cloakroom (or several replicas) with real peers around it, all on loopback. */
export interface World {
  provider: Provider;
  upstream: Upstream;
  app: App;
  apps: App[];
  port: number;
  ports: number[];
  origin: string;
  clock: Clock;
  log: ReturnType<typeof createLogSink>;
  keyPrefix: string;
  redisUrl: string | undefined;
  /** A new browser; it finds the frontend on the given replica. */
  browser(replica?: number): Browser;
  /** A browser that is logged in as `sub`. */
  loggedIn(sub?: string, claims?: Record<string, unknown>): Promise<Browser>;
  /** Call when a test expects lines of level error. */
  allowErrors(): void;
  /** More texts in which no secret may be: answers that a test read itself. */
  alsoSearch(name: string, text: string): void;
  /** Stops everything, then: no unexpected error in the log, no secret anywhere, no Redis key without end. */
  stop(): Promise<void>;
}

/** Starts a world. Its upstream answers `{"ok":true}` and records what arrived; it does not echo the bearer token back. */
export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const provider = await startEvilProvider(options.provider);
  const upstream = await startEchoUpstream();
  const answer = reply({ body: { ok: true } });
  upstream.respond = answer;
  const clock = createClock();
  const log = createLogSink();
  const keyPrefix = uniqueKeyPrefix();
  const redisUrl = (options.store ?? 'redis') === 'redis' ? (options.redisUrl ?? inject('redisUrl')) : undefined;
  const ports: number[] = [];
  for (let index = 0; index < (options.replicas ?? 1); index++) ports.push(await freePort());
  const port = ports[0] as number;
  const origin = `http://localhost:${port}`;

  const data = configOf({ origin, port, opsPort: 0, provider, upstream });
  Object.assign(data.authorizationServer, { scopes: ['openid', 'profile'] });
  if (redisUrl !== undefined) data.session.redis = { url: redisUrl, keyPrefix };
  if (options.nearCache === false) data.session.nearCache = { enabled: false };
  Object.assign(data, { limits: { loginsPerMinute: 10_000 }, log: { level: 'trace' } });
  options.config?.(data);
  // A test that writes a `Cookie` header by hand knows its name. The default has the port in it.
  if (data.publicUrl === origin) data.cookie ??= { name: 'cloakroom' };
  const parsed = parseConfig('world.yaml', stringify(data), options.env ?? {});
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));

  const apps: App[] = [];
  for (const [index, listenPort] of ports.entries()) {
    const skew = options.skews?.[index] ?? 0;
    const app = await createApp(parsed.config, {
      logStream: log.stream,
      nowMs: redisUrl === undefined ? clock.now : () => Date.now() + skew,
    });
    await app.ops.listen({ host: '127.0.0.1', port: 0 });
    await app.server.listen({ host: '127.0.0.1', port: listenPort });
    apps.push(app);
  }

  const browsers: Browser[] = [];
  const searched: { name: string; text: string }[] = [];
  let errorsAllowed = false;
  const browser = (replica = 0) => {
    // All replicas answer to the public origin, as behind a load balancer.
    const created = createBrowser({
      origin,
      ...(replica === 0 ? {} : { connectTo: `http://127.0.0.1:${ports[replica]}` }),
    });
    browsers.push(created);
    return created;
  };

  return {
    provider,
    upstream,
    app: apps[0] as App,
    apps,
    port,
    ports,
    origin,
    clock,
    log,
    keyPrefix,
    redisUrl,
    browser,
    async loggedIn(sub = 'alice', claims = {}) {
      provider.nextLogin({ sub, claims });
      const created = browser();
      const page = await created.login('/');
      const session = (await created.fetch('/bff/session')).json<{ authenticated: boolean }>();
      if (!session.authenticated) throw new Error(`login failed: ${page.status} ${page.text}`);
      return created;
    },
    allowErrors() {
      errorsAllowed = true;
    },
    alsoSearch(name, text) {
      searched.push({ name, text });
    },
    async stop() {
      const metrics = await (apps[0] as App).ops.inject('/metrics');
      await Promise.all(apps.map((app) => app.close()));
      const cookies = browsers.flatMap((one) => one.allCookies().map(({ value }) => value));
      const answers = browsers.flatMap((one) =>
        one.history
          .filter((hop) => new URL(hop.url).origin === origin)
          .map((hop) => ({
            path: new URL(hop.url).pathname,
            name: `answer of ${hop.method} ${new URL(hop.url).pathname}`,
            text: `${JSON.stringify(hop.headers)}\n${(hop.body ?? '').toString('latin1')}`,
          })),
      );
      await Promise.all([...browsers.map((one) => one.close()), upstream.stop(), provider.stop()]);

      const idTokens = provider.issuedSecrets('id_token');
      const tokens = [
        ...provider.issuedSecrets('access_token', 'refresh_token', 'code_verifier', 'client_secret'),
        ...idTokens,
      ];
      const codes = provider.issuedSecrets('code');
      const keys = (data.session as { keys: string[] }).keys;
      const tickets = cookies.filter((value) => value.length > 40);
      const carriers = answers.filter(({ path }) => options.idTokenAt?.includes(path));
      const others = answers.filter((answer) => !carriers.includes(answer));
      assertNoSecrets({ secrets: [...tokens, ...keys], haystacks: [...others, ...searched] });
      const neverShown = [...tokens, ...keys].filter((secret) => !idTokens.includes(secret));
      assertNoSecrets({ secrets: neverShown, haystacks: carriers });
      assertNoSecrets({
        secrets: [...tokens, ...codes, ...keys, ...tickets],
        haystacks: [
          { name: 'log', text: log.text() },
          { name: 'metrics', text: metrics.body },
        ],
      });
      if (redisUrl !== undefined) {
        const dump = await dumpRedis(redisUrl, `${keyPrefix}*`);
        const endless = dump.filter(({ pttl }) => pttl === -1).map(({ key }) => key);
        if (endless.length > 0) throw new Error(`Redis keys without an end: ${endless.join(', ')}`);
        assertNoSecrets({
          secrets: [...tokens, ...codes, ...keys, ...tickets.map((ticket) => ticket.split('.')[0] ?? ticket)].filter(
            (text) => text.length >= 8,
          ),
          haystacks: dump.map(({ key, value }) => ({ name: `Redis ${key}`, text: `${key}\n${value}` })),
        });
      }
      const errors = log.errors();
      if (!errorsAllowed && errors.length > 0)
        throw new Error(`unexpected errors in the log: ${JSON.stringify(errors, null, 1)}`);
    },
  };
}
