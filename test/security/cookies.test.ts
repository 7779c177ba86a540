import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { createBrowser } from '../support/browser.ts';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { countCommands } from '../support/redis-commands.ts';
import { restart } from '../support/restart.ts';
import { ticketOf } from '../support/ticket.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

let world: World;
let data: ConfigData;
let redis: RedisServer | undefined;
const start = async (options: Parameters<typeof startWorld>[0] = {}) => {
  world = await startWorld({
    ...options,
    config: (config) => {
      data = config;
      options.config?.(config);
    },
  });
};
afterEach(async () => {
  await world.stop();
  await redis?.stop();
  redis = undefined;
});

/** An API call and a session check with exactly this Cookie header (or several). */
async function present(...cookieHeaders: string[]) {
  const lines = cookieHeaders.map((value) => `Cookie: ${value}\r\n`).join('');
  const get = (path: string) =>
    rawRequest(world.port, `GET ${path} HTTP/1.1\r\nHost: localhost:${world.port}\r\nx-csrf: 1\r\n${lines}\r\n`);
  return { api: await get('/api/orders/1'), session: await get('/bff/session') };
}

async function expectAnonymous(...cookieHeaders: string[]) {
  const called = world.upstream.requests.length;
  const { api, session } = await present(...cookieHeaders);
  const shown = cookieHeaders.join(' | ').slice(0, 200);
  expect([api.status, session.status], shown).toEqual([401, 200]);
  expect(JSON.parse(session.body), shown).toEqual({ authenticated: false, loginUrl: '/bff/login' });
  expect(world.upstream.requests.length, shown).toBe(called);
}

async function expectUser(ticket: string) {
  const { api, session } = await present(`cloakroom=${ticket}`);
  expect([api.status, session.status]).toEqual([200, 200]);
  expect(JSON.parse(session.body)).toMatchObject({ authenticated: true });
}

describe('T42 forged session cookies', () => {
  it('T42 takes every damaged or made-up cookie for none, without asking Redis', async () => {
    redis = await startRedis();
    await start({ redisUrl: redis.url });
    const ticket = ticketOf(await world.loggedIn('alice'));
    const other = ticketOf(await world.loggedIn('bob'));
    const [id = '', signature = ''] = ticket.split('.');
    const flipped = (text: string, at: number) =>
      `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
    const forged = [
      flipped(ticket, 0),
      flipped(ticket, id.length - 1),
      flipped(ticket, id.length + 1),
      ticket.slice(0, -1),
      ticket.slice(1),
      `${ticket}A`,
      `${ticket}%00`,
      `${ticket}.${signature}`,
      id,
      `${id}.`,
      `.${signature}`,
      '.',
      '',
      `${id}.${other.split('.')[1]}`,
      `"${ticket}`,
      `s:${ticket}`,
      randomBytes(24).toString('base64url'),
      '__proto__',
      'constructor',
      'toString.valueOf',
      '%00',
      '%E0%A4%A',
      '%',
      '{"sessionId":1}',
      'A'.repeat(4096),
      `${'A'.repeat(4000)}.${signature}`,
    ];
    const before = await countCommands(redis.url);
    for (const value of forged) await expectAnonymous(`cloakroom=${value}`);
    for (const name of ['__proto__', 'constructor', 'cloakroom[]', 'cloakroom.id', 'xcloakroom', 'cloakroom%3D']) {
      await expectAnonymous(`${name}=${ticket}`);
    }
    expect((await countCommands(redis.url)) - before).toBe(0);
    await expectUser(ticket);
  });
});

describe('cookies on plain-http loopback', () => {
  beforeEach(() => start());

  it('T43 takes two session cookies for none, in any order and on any number of header lines', async () => {
    const alice = ticketOf(await world.loggedIn('alice'));
    const bob = ticketOf(await world.loggedIn('bob'));
    const pairs: [string, string][] = [
      [alice, 'forged.forged'],
      ['forged.forged', alice],
      [alice, bob],
      [bob, alice],
      [alice, ''],
      [alice, alice],
    ];
    for (const [first, second] of pairs) {
      await expectAnonymous(`cloakroom=${first}; cloakroom=${second}`);
      await expectAnonymous(`cloakroom=${first};cloakroom = x; cloakroom=${second}`);
      await expectAnonymous(`cloakroom=${first}`, `cloakroom=${second}`);
    }
    await expectUser(alice);
  });

  it('T43 ends neither session when a logout comes with both cookies', async () => {
    const alice = ticketOf(await world.loggedIn('alice'));
    const bob = ticketOf(await world.loggedIn('bob'));
    const answer = await rawRequest(
      world.port,
      `POST /bff/logout HTTP/1.1\r\nHost: localhost:${world.port}\r\nOrigin: ${world.origin}\r\nx-csrf: 1\r\n` +
        `Cookie: cloakroom=${alice}; cloakroom=${bob}\r\nContent-Length: 0\r\n\r\n`,
    );
    expect(answer.status).toBe(200);
    await expectUser(alice);
    await expectUser(bob);
  });

  it.each([
    ['180 cookies, just over 16 KiB', Array.from({ length: 180 }, (_, index) => `c${index}=${'x'.repeat(90)}`)],
    ['180 cookies of 4 KiB', Array.from({ length: 180 }, (_, index) => `c${index}=${'x'.repeat(4090)}`)],
    ['one cookie of 60 KiB', [`bomb=${'x'.repeat(60 * 1024)}`]],
  ])('T45 answers a cookie bomb (%s) with 431, and the session lives on', async (_name, cookies) => {
    const ticket = ticketOf(await world.loggedIn());
    const bomb = `GET / HTTP/1.1\r\nHost: localhost:${world.port}\r\nCookie: ${cookies.join('; ')}\r\n\r\n`;
    const answer = await rawRequest(world.port, bomb);
    expect(answer.status).toBe(431);
    // Any site can plant them with a page of the same registrable domain: they may not cost a session (W5).
    expect(headerValues(answer.headers, 'clear-site-data')).toEqual([]);
    expect(headerValues(answer.headers, 'set-cookie')).toEqual([]);
    expect(headerValues(answer.headers, 'cache-control')).toEqual(['no-store']);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'BFF_HEADERS_TOO_LARGE', status: 431 });
    expect(answer.responses).toHaveLength(1);
    await expectUser(ticket);
  });

  it('T45 finds the session among 180 foreign cookies that still fit', async () => {
    const ticket = ticketOf(await world.loggedIn());
    const crowd = Array.from({ length: 180 }, (_, index) => `c${index}=${'x'.repeat(60)}`);
    crowd.splice(90, 0, `cloakroom=${ticket}`);
    const { api, session } = await present(crowd.join('; '));
    expect([api.status, session.status]).toEqual([200, 200]);
    expect(world.upstream.requests.at(-1)?.header('cookie')).toBeUndefined();
  });

  it('T46 accepts a cookie of the previous key after a rotation and re-signs it with the new one', async () => {
    const browser = await world.loggedIn();
    const old = ticketOf(browser);
    data.session.keys = [randomBytes(32).toString('base64url'), ...data.session.keys];
    await restart(world, data);

    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
    const renewed = ticketOf(browser);
    expect(renewed.split('.')[0]).toBe(old.split('.')[0]);
    expect(renewed.split('.')[1]).not.toBe(old.split('.')[1]);
    await expectUser(old);
    await expectUser(renewed);
  });

  it('T46 takes a cookie of a removed key for none', async () => {
    const ticket = ticketOf(await world.loggedIn());
    data.session.keys = [randomBytes(32).toString('base64url')];
    await restart(world, data);
    await expectAnonymous(`cloakroom=${ticket}`);
  });
});

describe('cookies on https', () => {
  const host = 'app.example.com';
  let browser: Browser;
  beforeEach(async () => {
    await start({ config: (config) => Object.assign(config, { publicUrl: `https://${host}` }) });
    browser = createBrowser({ origin: `https://${host}`, connectTo: `http://127.0.0.1:${world.port}` });
  });
  afterEach(() => browser.close());

  const sessionWith = async (cookie: string) => {
    const answer = await rawRequest(
      world.port,
      `GET /bff/session HTTP/1.1\r\nHost: ${host}\r\nCookie: ${cookie}\r\n\r\n`,
    );
    return JSON.parse(answer.body) as { authenticated: boolean };
  };

  it('CK1 sets one host-only, HttpOnly, Secure, Strict cookie with the __Host- prefix', async () => {
    const landed = await browser.login('/');
    const [header = '', ...more] = landed.hops
      .flatMap(({ setCookies }) => setCookies)
      .filter((line) => line.startsWith('__Host-cloakroom='));
    expect(more).toEqual([]);
    const attributes = header
      .split('; ')
      .slice(1)
      .map((part) => part.toLowerCase());
    expect(new Set(attributes)).toEqual(new Set(['path=/', 'httponly', 'secure', 'samesite=strict']));
    expect(Buffer.byteLength(header)).toBeLessThan(200);
    expect(browser.rejectedCookies).toEqual([]);
  });

  it('T44 ignores case variants of the cookie name that a subdomain could plant', async () => {
    await browser.login('/');
    const ticket = browser.cookie('__Host-cloakroom')?.value ?? '';
    const variants = ['__host-cloakroom', '__HOST-cloakroom', '__Host-Cloakroom', ' __Host-cloakroom x', 'cloakroom'];
    for (const name of variants) {
      expect(await sessionWith(`${name}=${ticket}`), name).toMatchObject({ authenticated: false });
      expect(await sessionWith(`${name}=planted; __Host-cloakroom=${ticket}`), name).toMatchObject({
        authenticated: true,
      });
    }
  });
});
