import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Browser, createBrowser } from '../support/browser.ts';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { restart } from '../support/restart.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

const host = 'app.example.com';
let world: World;
let data: ConfigData;
const browsers: Browser[] = [];

beforeEach(async () => {
  world = await startWorld({
    config: (config) => {
      config.publicUrl = `https://${host}`;
      config.apis.orders.accept = ['session', 'bearer'];
      const { issuer } = config.authorizationServer;
      config.bearerIssuers = { partner: { issuer, audiences: ['https://orders.example'] } };
      data = config;
    },
  });
});
afterEach(async () => {
  await Promise.all(browsers.splice(0).map((browser) => browser.close()));
  await world.stop();
});

async function logIn(sub: string): Promise<Browser> {
  const browser = createBrowser({ origin: `https://${host}`, connectTo: `http://127.0.0.1:${world.port}` });
  browsers.push(browser);
  world.provider.nextLogin({ sub });
  await browser.login('/');
  return browser;
}

const ticketOf = (browser: Browser) => browser.cookie('__Host-cloakroom')?.value ?? '';

async function get(path: string, cookie: string, lines: string[] = []) {
  const head = [`GET ${path} HTTP/1.1`, `Host: ${host}`, 'x-csrf: 1', `Cookie: ${cookie}`, ...lines];
  const answer = await rawRequest(world.port, `${head.join('\r\n')}\r\n\r\n`);
  return { ...answer, setCookies: headerValues(answer.headers, 'set-cookie') };
}

/** What a sibling subdomain can set: no browser takes these for a name with a prefix. Bytes, as Node shows them. */
const lookAlikes = ['\xa0', '\xa0 ', '\t\xa0', '\xc2\xa0', '\xe3\x80\x80', '\xef\xbb\xbf', '\x85', '\xa0\xa0'].flatMap(
  (blank) => [`${blank}__Host-cloakroom`, `__Host-cloakroom${blank}`],
);

describe('W2 cookies that only look like ours', () => {
  it('W2 are never read as the session, whatever stands before or behind the name', async () => {
    const alice = ticketOf(await logIn('alice'));
    const mallory = ticketOf(await logIn('mallory'));
    for (const name of lookAlikes) {
      const shown = JSON.stringify(name);
      for (const planted of [mallory, 'rubbish']) {
        const alone = await get('/api/orders/1', `${name}=${planted}`);
        expect([alone.status, alone.setCookies], shown).toEqual([401, []]);
        const checked = await get('/bff/session', `a=1; ${name}=${planted}`);
        expect(JSON.parse(checked.body), shown).toMatchObject({ authenticated: false });
        expect(checked.setCookies, shown).toEqual([]);

        for (const both of [
          `${name}=${planted}; __Host-cloakroom=${alice}`,
          `__Host-cloakroom=${alice}; ${name}=${planted}`,
        ]) {
          const called = await get('/api/orders/1', both);
          expect([called.status, called.setCookies], shown).toEqual([200, []]);
          const session = await get('/bff/session', both);
          expect(JSON.parse(session.body), shown).toMatchObject({ user: { sub: 'alice' } });
          expect(session.setCookies, shown).toEqual([]);
        }
      }
    }
  });

  it('W2 are not set again as genuine while a key is rotated', async () => {
    const mallory = ticketOf(await logIn('mallory'));
    data.session.keys = [randomBytes(32).toString('base64url'), ...data.session.keys];
    await restart(world, data);
    for (const name of lookAlikes) {
      for (const path of ['/bff/session', '/api/orders/1'])
        expect((await get(path, `${name}=${mallory}`)).setCookies, JSON.stringify(name)).toEqual([]);
    }
    expect((await get('/bff/session', `__Host-cloakroom=${mallory}`)).setCookies).toHaveLength(1);
  });

  it('W2 are no session cookie beside a token', async () => {
    for (const name of lookAlikes) {
      const answer = await get('/api/orders/1', `${name}=x`, ['Authorization: Bearer made-up']);
      expect([answer.status, JSON.parse(answer.body).code], JSON.stringify(name)).toEqual([401, 'BFF_BEARER_INVALID']);
    }
    const answer = await get('/api/orders/1', '__Host-cloakroom=x', ['Authorization: Bearer made-up']);
    expect(JSON.parse(answer.body).code).toBe('BFF_CREDENTIALS_AMBIGUOUS');
  });

  it('W2 are no login that was begun here, and no restart', async () => {
    const attacker = createBrowser({ origin: `https://${host}`, connectTo: `http://127.0.0.1:${world.port}` });
    browsers.push(attacker);
    world.provider.nextLogin({ sub: 'mallory' });
    const begun = await attacker.navigate('/bff/login', { from: `https://${host}`, followRedirects: false });
    const state = new URL(begun.header('location') ?? '').searchParams.get('state');
    const [login] = attacker.cookies();
    const callback = (cookie: string) => get(`/bff/callback?state=${state}&error=access_denied`, cookie);
    for (const blank of ['\xa0', '\xc2\xa0', '\x85']) {
      for (const name of [`${blank}${login?.name}`, `${login?.name}${blank}`]) {
        const answer = await callback(`${name}=${login?.value}`);
        expect([answer.body.includes('BFF_LOGIN_TRANSACTION_MISSING'), answer.setCookies], name).toEqual([true, []]);
      }
      // The value too is what stands there, and nothing is decoded.
      const values = [`${blank}${login?.value}`, `${login?.value}${blank}`, `%${login?.value}`, `"${login?.value}"`];
      const [first = ''] = login?.value ?? '';
      values.push(`%${first.charCodeAt(0).toString(16)}${login?.value.slice(1)}`);
      for (const value of values)
        expect((await callback(`${login?.name}=${value}`)).body).toContain('BFF_LOGIN_TRANSACTION_MISSING');
    }
    expect((await callback(`${login?.name}=x; ${login?.name}=${login?.value}`)).body).toContain('TRANSACTION_MISSING');
    expect((await callback(`a; ${login?.name}=${login?.value}`)).body).toContain('BFF_LOGIN_RESPONSE_INVALID');
  });
});
