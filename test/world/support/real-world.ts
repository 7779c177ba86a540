import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject } from 'vitest';
import { findForm, type Page } from '../../support/browser/page.ts';
import type { FetchOptions } from '../../support/browser/request-options.ts';
import { type Browser, createBrowser } from '../../support/browser.ts';
import { assertNoSecrets } from '../../support/canary.ts';
import type { ConfigData } from '../../support/config-data.ts';
import { reply } from '../../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts';
import { type Started, startProcess, untilAnswers, writeConfig } from '../../support/process.ts';
import { freePort, uniqueKeyPrefix } from '../../support/redis.ts';
import { submit } from './form.ts';
import type { Client, Credentials, RealServer } from './real-server.ts';

/** A Cloakroom in a process of its own, with its API behind it. */
export interface App extends Client {
  origin: string;
  /** Answers `{"ok":true}` to everything. */
  api: EchoUpstream;
  /** What it logged so far. */
  log(): string;
}

/** An authorization server that we did not write, the shop that logs in there, and other applications of the same users. */
export interface RealWorld<Server extends RealServer = RealServer> {
  server: Server;
  shop: App;
  /** A browser; every application keeps its cookies in it. */
  browser(): Browser;
  /** A browser in which this user has logged in at the shop. */
  loggedIn(user: Credentials): Promise<Browser>;
  /** Starts another application, registered with the server. `change` completes its configuration. */
  addApp(options?: AppOptions): Promise<App>;
  /** Stops everything, then: no error in a log; no token, key, code or ticket in a log or in answers to browsers. */
  stop(): Promise<void>;
}

export interface AppOptions {
  scopes?: string[];
  isFrontChannel?: boolean;
  change?: (data: ConfigData) => void;
}

export interface RealWorldOptions<Server extends RealServer> {
  server: Server;
  origin: string;
  client: Client;
  /** The shop's configuration; what belongs to this machine is added. */
  config(apiUrl: string, files: string): ConfigData;
}

export async function openRealWorld<Server extends RealServer>(
  options: RealWorldOptions<Server>,
): Promise<RealWorld<Server>> {
  const { server } = options;
  const files = await mkdtemp(join(tmpdir(), 'cloakroom-shop-'));
  await writeFile(join(files, 'index.html'), '<!doctype html><title>Shop</title>');
  const browsers: Browser[] = [];
  const running: Running[] = [];

  const start = async (origin: string, client: Client, config: (apiUrl: string) => ConfigData) => {
    const started = await startApp(origin, client, config);
    running.push(started);
    return started.app;
  };
  const shop = await start(options.origin, options.client, (apiUrl) => options.config(apiUrl, files));

  const browser = () => {
    const created = createBrowser({ origin: shop.origin, fetchHeaders: { 'x-csrf': '1' } });
    browsers.push(created);
    return created;
  };

  return {
    server,
    shop,
    browser,
    async loggedIn(user) {
      const created = browser();
      await logIn(created, shop, user);
      return created;
    },
    async addApp({ scopes = ['openid', 'profile'], isFrontChannel = false, change } = {}) {
      const origin = `http://localhost:${await freePort()}`;
      const client = await server.addApp(origin, { isFrontChannel });
      return start(origin, client, (apiUrl) => {
        const data: ConfigData = {
          publicUrl: origin,
          files,
          authorizationServer: { issuer: server.issuer, ...client, scopes },
          apis: { orders: { path: '/api/orders', upstream: apiUrl } },
        };
        const { revocationEndpoint } = server;
        if (revocationEndpoint !== undefined) data.authorizationServer.revocationEndpoint = revocationEndpoint;
        change?.(data);
        return data;
      });
    },
    async stop() {
      await Promise.all(running.map((each) => each.end()));
      await Promise.all([...browsers.map((each) => each.close()), server.stop()]);
      await rm(files, { recursive: true });
      for (const { app, key } of running) search(app, key, server, browsers);
    },
  };
}

interface Running {
  app: App;
  key: string;
  end(): Promise<void>;
}

async function startApp(origin: string, client: Client, config: (apiUrl: string) => ConfigData): Promise<Running> {
  const api = await startEchoUpstream();
  api.respond = reply({ body: { ok: true } });
  const data = config(api.url);
  data.listen = { host: '127.0.0.1', port: Number(new URL(origin).port) };
  data.ops = { host: '127.0.0.1', port: 0 };
  data.session ??= { redis: { url: '${env:REDIS_URL}' }, keys: ['${env:CLOAKROOM_KEY}'] };
  data.session.redis.keyPrefix = uniqueKeyPrefix();
  const file = await writeConfig(data);
  const key = randomBytes(32).toString('base64url');
  const environment = { REDIS_URL: inject('redisUrl'), CLOAKROOM_KEY: key, CLIENT_SECRET: client.clientSecret };
  const command = ['scripts/cloakroom.cjs', 'start', '--config', file.file];
  const cloakroom: Started = startProcess(process.execPath, command, environment);
  await untilAnswers(`${origin}/`, 200, cloakroom, 60_000);
  const log = () => cloakroom.stdout() + cloakroom.stderr();
  return {
    app: { ...client, origin, api, log },
    key,
    async end() {
      cloakroom.terminate();
      await cloakroom.ended;
      await Promise.all([api.stop(), file.remove()]);
    },
  };
}

/** What must be nowhere, once all is over. */
function search(app: App, key: string, server: RealServer, browsers: Browser[]): void {
  const hops = browsers.flatMap((each) => each.history).filter((hop) => new URL(hop.url).origin === app.origin);
  const answers = hops.map((hop) => ({
    name: `answer of ${new URL(hop.url).pathname}`,
    text: `${JSON.stringify(hop.headers)}\n${hop.body ?? ''}`,
  }));
  const log = { name: 'log', text: app.log() };
  const issued = server.relay.overheard.flatMap(({ answer }) => tokensIn(answer));
  const brought = app.api.requests.flatMap((request) => request.header('authorization')?.split(' ')[1] ?? []);
  const codes = hops.flatMap((hop) => new URL(hop.url).searchParams.get('code') ?? []);
  const tickets = browsers.flatMap((each) => each.cookies(app.origin).map(({ value }) => value));
  assertNoSecrets({ secrets: [...issued, ...brought, app.clientSecret, key], haystacks: [log, ...answers] });
  assertNoSecrets({ secrets: [...codes, ...tickets.filter((value) => value.length > 40)], haystacks: [log] });
  const errors = app.log().match(/^\{"level":"(error|fatal)".*$/gm) ?? [];
  if (errors.length > 0) throw new Error(`errors in the log:\n${errors.join('\n')}`);
}

/** Access and refresh tokens of a token response. The ID token may be in a browser's hands: as the hint of a logout. */
function tokensIn(answer: string): string[] {
  if (!answer.startsWith('{')) return [];
  const { access_token: access, refresh_token: refresh } = JSON.parse(answer) as Record<string, unknown>;
  return [access, refresh].filter((token) => typeof token === 'string');
}

/** The user logs in at this application; the server's form is filled in where it asks. */
export async function logIn(browser: Browser, app: App, user: Credentials): Promise<void> {
  const first = await browser.navigate(`${app.origin}/bff/login?return_to=/`, { from: app.origin });
  const page = findForm(first.text, first.url) === undefined ? first : await submit(browser, first, credentials(user));
  if (page.url !== `${app.origin}/`) throw new Error(`login ended at ${page.url}: ${page.status} ${page.text}`);
}

export const credentials = ({ username, password }: Credentials) => ({ username, password });

/** The page of this application calls. */
export function call(browser: Browser, app: App, path: string, options: FetchOptions = {}): Promise<Page> {
  return browser.fetch(`${app.origin}${path}`, { from: app.origin, ...options });
}

export const refresh = (browser: Browser, app: App) => call(browser, app, '/bff/refresh', { method: 'POST' });

export async function isLoggedIn(browser: Browser, app: App): Promise<boolean> {
  return (await call(browser, app, '/bff/session')).json<{ authenticated: boolean }>().authenticated;
}
