import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parse, stringify } from 'yaml';
import { type ApiName, type RunningApi, startApi } from '../../demo/api.ts';
import { demoClient } from '../../demo/provider/clients.ts';
import { type ProviderOptions, type RunningProvider, startProvider } from '../../demo/provider.ts';
import { createApp } from '../../src/app.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { type Browser, createBrowser } from './browser.ts';
import { createLogSink, type LogSink } from './log-sink.ts';
import { freePort } from './redis.ts';
import type { ConfigData } from './world.ts';

export interface DemoOptions {
  /** Changes `config/demo.yaml` before it is checked. */
  config?: (data: ConfigData) => void;
  /** Other clients, resources, token lifetimes, … */
  provider?: ProviderOptions;
  /** Changes the registration of the demo's own client. */
  client?: Partial<ReturnType<typeof demoClient>>;
  /** Registered at the provider besides the demo's own. */
  otherClients?: ProviderOptions['clients'];
}

/** The whole demo as `npm run demo` starts it, on ports of its own and in this process. */
export interface Demo {
  /** Cloakroom, on the host name localhost. */
  origin: string;
  /** The OpenID provider, on 127.0.0.1: another site to the browser, as in production. */
  issuer: string;
  provider: RunningProvider;
  /** The two APIs, which check tokens for themselves. */
  apis: Record<ApiName, RunningApi>;
  log: LogSink;
  /** Every access, refresh and ID token that the provider handed to Cloakroom so far. */
  tokens: string[];
  /** The ID tokens among them. */
  idTokens: string[];
  /** Bearer tokens as they arrived at the two APIs. */
  bearers: string[];
  stop(): Promise<void>;
}

/** Starts provider, APIs and Cloakroom with `config/demo.yaml`, in which nothing but the ports differs. */
export async function startDemo(options: DemoOptions = {}): Promise<Demo> {
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const clients = [{ ...demoClient(origin), ...options.client }, ...(options.otherClients ?? [])];
  const provider = await startProvider({ port: 0, publicUrl: origin, clients, ...options.provider });
  const tokens: string[] = [];
  const idTokens: string[] = [];
  provider.oidc.on('grant.success', ({ body }) => {
    for (const [name, value] of Object.entries(body as Record<string, unknown>)) {
      if (/_token$/.test(name) && typeof value === 'string') tokens.push(value);
      if (name === 'id_token' && typeof value === 'string') idTokens.push(value);
    }
  });

  const bearers: string[] = [];
  const { issuer } = provider;
  const onRequest = ({ headers }: { headers: { authorization?: string | undefined } }) => {
    const [, bearer] = /^Bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
    if (bearer !== undefined) bearers.push(bearer);
  };
  const [orders, catalog] = await Promise.all([
    startApi({ name: 'orders', issuer, onRequest }),
    startApi({ name: 'catalog', issuer, onRequest }),
  ]);

  const log = createLogSink();
  const data: ConfigData = parse(
    readFileSync('config/demo.yaml', 'utf8')
      .replaceAll('localhost:8080', `localhost:${port}`)
      .replaceAll('port: 8080', `port: ${port}`)
      .replaceAll('127.0.0.1:9000', `127.0.0.1:${provider.port}`)
      .replaceAll('127.0.0.1:9001', `127.0.0.1:${orders.port}`)
      .replaceAll('127.0.0.1:9002', `127.0.0.1:${catalog.port}`),
  );
  options.config?.(data);
  const env = { DEMO_LISTEN_HOST: '127.0.0.1', DEMO_KEY: randomBytes(32).toString('base64url') };
  const parsed = parseConfig('config/demo.yaml', stringify(data), env);
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
  const app = await createApp(parsed.config, { logStream: log.stream });
  await app.listen();

  return {
    origin,
    issuer,
    provider,
    apis: { orders, catalog },
    log,
    tokens,
    idTokens,
    bearers,
    async stop() {
      await app.close();
      await Promise.all([orders.close(), catalog.close(), provider.close()]);
    },
  };
}

/** A browser without a window, logged in at the demo's provider with its form; the password is the name. */
export async function loggedInAt(demo: Demo, username: string): Promise<Browser> {
  const browser = createBrowser({ origin: demo.origin, fetchHeaders: { 'x-csrf': '1' } });
  const form = await browser.login('/');
  await browser.navigate(form.url, {
    method: 'POST',
    from: demo.issuer,
    body: new URLSearchParams({ username, password: username }),
  });
  const session = (await browser.fetch('/bff/session')).json<{ authenticated: boolean }>();
  if (!session.authenticated) throw new Error(`${username} could not log in: ${form.status} ${form.url}`);
  return browser;
}
