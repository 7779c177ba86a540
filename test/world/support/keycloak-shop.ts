import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { inject } from 'vitest';
import { parse } from 'yaml';
import { findForm, type Page } from '../../support/browser/page.ts';
import { type Browser, createBrowser } from '../../support/browser.ts';
import { assertNoSecrets } from '../../support/canary.ts';
import { reply } from '../../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts';
import { startProcess, untilAnswers, writeConfig } from '../../support/process.ts';
import { freePort, uniqueKeyPrefix } from '../../support/redis.ts';
import type { ConfigData } from '../../support/world.ts';
import { type Keycloak, startKeycloak } from './keycloak.ts';

const root = resolve(import.meta.dirname, '../../..');

/** The shop of `config/keycloak.yaml` and `deploy/keycloak/realm.json`: both files as they are, but for addresses. */
export interface KeycloakShop {
  keycloak: Keycloak;
  origin: string;
  /** The APIs. Both answer `{"ok":true}`. */
  orders: EchoUpstream;
  catalog: EchoUpstream;
  browser(): Browser;
  /** A browser in which this user has logged in at Keycloak's form. */
  loggedIn(username: string, password: string): Promise<Browser>;
  /** Stops everything, then: no error in the log; no token, key, code or ticket in the log or in answers to the browser. */
  stop(): Promise<void>;
}

export async function startKeycloakShop(): Promise<KeycloakShop> {
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const readHere = async (file: string, addresses: Record<string, string>) =>
    Object.entries(addresses).reduce(
      (text, [there, here]) => text.replaceAll(there, here),
      await readFile(join(root, file), 'utf8'),
    );

  const realm = await readHere('deploy/keycloak/realm.json', { 'https://shop.example.com': origin });
  const keycloak = await startKeycloak(realm);
  const [client] = await keycloak.admin<{ id: string; secret: string }[]>('GET', '/shop/clients?clientId=cloakroom');
  const clientSecret = client?.secret as string;

  const [orders, catalog] = await Promise.all([startEchoUpstream(), startEchoUpstream()]);
  for (const api of [orders, catalog]) api.respond = reply({ body: { ok: true } });
  const files = await mkdtemp(join(tmpdir(), 'cloakroom-shop-'));
  await writeFile(join(files, 'index.html'), '<!doctype html><title>Shop</title>');
  const text = await readHere('config/keycloak.yaml', {
    'https://shop.example.com': origin,
    'https://id.example.com': keycloak.url,
    'http://orders:8080': orders.url,
    'http://catalog:8080': catalog.url,
    '/srv/app': files,
  });
  const data = parse(text) as ConfigData;
  data.listen = { host: '127.0.0.1', port };
  data.ops = { host: '127.0.0.1', port: 0 };
  data.session.redis.keyPrefix = uniqueKeyPrefix();
  const config = await writeConfig(data);
  const key = randomBytes(32).toString('base64url');
  const cloakroom = startProcess(process.execPath, ['scripts/cloakroom.cjs', 'start', '--config', config.file], {
    REDIS_URL: inject('redisUrl'),
    CLOAKROOM_KEY: key,
    CLIENT_SECRET: clientSecret,
  });
  await untilAnswers(`${origin}/`, 200, cloakroom);

  const browsers: Browser[] = [];
  const browser = () => {
    const created = createBrowser({ origin, fetchHeaders: { 'x-csrf': '1' } });
    browsers.push(created);
    return created;
  };

  return {
    keycloak,
    origin,
    orders,
    catalog,
    browser,
    async loggedIn(username, password) {
      const created = browser();
      const form = await created.login('/');
      const page = await submit(created, form, { username, password });
      if (page.url !== `${origin}/`) throw new Error(`login ended at ${page.url}: ${page.status} ${page.text}`);
      return created;
    },
    async stop() {
      cloakroom.terminate();
      await cloakroom.ended;
      await Promise.all([...browsers.map((one) => one.close()), orders.stop(), catalog.stop(), keycloak.stop()]);
      await Promise.all([config.remove(), rm(files, { recursive: true })]);
      const hops = browsers.flatMap((one) => one.history).filter((hop) => new URL(hop.url).origin === origin);
      const tokens = [...orders.requests, ...catalog.requests].map((request) => bearerOf(request));
      const codes = hops.flatMap((hop) => new URL(hop.url).searchParams.get('code') ?? []);
      const tickets = browsers.flatMap((one) => one.cookies().map(({ value }) => value));
      const log = { name: 'log', text: cloakroom.stdout() + cloakroom.stderr() };
      const answers = hops.map((hop) => ({
        name: `answer of ${new URL(hop.url).pathname}`,
        text: `${JSON.stringify(hop.headers)}\n${hop.body ?? ''}`,
      }));
      assertNoSecrets({ secrets: [...tokens, clientSecret, key], haystacks: [log, ...answers] });
      assertNoSecrets({ secrets: [...codes, ...tickets.filter((value) => value.length > 40)], haystacks: [log] });
      const errors = log.text.match(/^\{"level":"(error|fatal)".*$/gm) ?? [];
      if (errors.length > 0) throw new Error(`errors in the log:\n${errors.join('\n')}`);
    },
  };
}

/** The user fills in the form of this page and sends it. */
export function submit(browser: Browser, page: Page, fields: Record<string, string> = {}): Promise<Page> {
  const form = findForm(page.text, page.url);
  if (form === undefined) throw new Error(`no form at ${page.url}: ${page.status} ${page.text}`);
  const body = new URLSearchParams(form.body);
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  return browser.navigate(form.action, { from: new URL(page.url).origin, method: form.method, body });
}

/** The token that a call arrived with. */
export function bearerOf(request: { header(name: string): string | undefined } | undefined): string {
  const [scheme, token] = request?.header('authorization')?.split(' ') ?? [];
  if (scheme !== 'Bearer' || token === undefined) throw new Error('the call arrived without a bearer token');
  return token;
}

/** What an access token of Keycloak says. */
export interface AccessTokenClaims {
  iss: string;
  sub: string;
  aud: string | string[];
  azp: string;
  /** Keycloak's session, of a user's token. */
  sid?: string;
  jti: string;
  iat: number;
  exp: number;
}

/** Unverified. */
export function claimsOf(jwt: string): AccessTokenClaims {
  return JSON.parse(Buffer.from(jwt.split('.')[1] as string, 'base64url').toString()) as AccessTokenClaims;
}
