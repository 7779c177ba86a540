import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import '../support/global-redis.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { startWorld, type World } from '../support/world.ts';

// The ID token as a hint for the provider's logout: in the URL where the configuration says so, else in a form of ours
// that no script of the page can read (ADR 3).

const byForm = { idTokenAt: ['/bff/end-session', '/bff/logout'] };
let world: World;
beforeAll(async () => {
  world = await startWorld({
    ...byForm,
    replicas: 2,
    config: (data) => Object.assign(data.authorizationServer, { idTokenHint: 'post' }),
  });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const linkOf = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>().logoutUrl;
const addressOf = async (browser: Browser) => (await logOut(browser)).json<{ endSessionUrl: string }>().endSessionUrl;
const idTokenOf = ({ provider }: World) => provider.issuedSecrets('id_token').at(-1) as string;
/** One step of the page that logged out. */
const follow = (browser: Browser, url: string, headers: Record<string, string | undefined> = {}) =>
  browser.navigate(url, { from: browser.origin, followRedirects: false, submitForms: false, headers });
const withoutHint = (url: string | undefined) => {
  expect(url).toContain(`${world.provider.issuer}/end_session?`);
  expect([...new URL(url as string).searchParams.keys()].toSorted()).toEqual(
    expect.arrayContaining(['client_id', 'post_logout_redirect_uri', 'state']),
  );
  expect(url).not.toContain('id_token_hint');
  return new URL(url as string).searchParams;
};

describe('W45 the hint in the URL', () => {
  it('W45 goes where the configuration wants it', async () => {
    const other = await startWorld({
      ...byForm,
      store: 'memory',
      config: (data) => Object.assign(data.authorizationServer, { idTokenHint: true }),
    });
    const browser = await other.loggedIn('alice');
    const url = new URL(await addressOf(browser));
    expect(url.origin).toBe(new URL(other.provider.issuer).origin);
    expect(url.searchParams.get('id_token_hint')).toBe(idTokenOf(other));
    await other.stop();
  });
});

describe('W45 the hint in a form', () => {
  it('W45 of a page that logged out by fetch comes by a page of ours, on any replica', async () => {
    const browser = await world.loggedIn('alice');
    const idToken = idTokenOf(world);
    const address = new URL(await addressOf(browser));
    expect([address.origin, address.pathname]).toEqual([world.origin, '/bff/end-session']);
    expect([...address.searchParams.keys()]).toEqual(['state', 'once']);
    expect(await isLoggedIn(browser)).toBe(false);

    const page = await world.browser(1).navigate(address.href, { from: world.origin });
    expect(page.hops.map(({ method, url }) => [method, new URL(url).pathname])).toEqual([
      ['GET', '/bff/end-session'],
      ['POST', '/end_session'],
      ['GET', '/'],
    ]);
    const [request] = world.provider.requestsTo('endSession');
    expect(request?.url).toBe('/end_session');
    expect(Object.fromEntries(new URLSearchParams(request?.body))).toEqual({
      client_id: 'cloakroom',
      post_logout_redirect_uri: `${world.origin}/`,
      state: address.searchParams.get('state'),
      logout_hint: expect.stringMatching(/^sid-/),
      id_token_hint: idToken,
    });
    expect(page.url).toBe(`${world.origin}/?state=${address.searchParams.get('state')}`);
  });

  it('W45 of a link comes at once', async () => {
    const browser = await world.loggedIn('alice');
    const idToken = idTokenOf(world);
    const page = await browser.navigate(await linkOf(browser), { from: world.origin });
    expect(page.hops.map(({ url }) => new URL(url).pathname)).toEqual(['/bff/logout', '/end_session', '/']);
    const [request] = world.provider.requestsTo('endSession');
    expect([request?.method, request?.params.get('id_token_hint')]).toEqual(['POST', idToken]);
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('W45 is for once; after that, and too late, the way goes on without it', async () => {
    const browser = await world.loggedIn('alice');
    const address = await addressOf(browser);
    expect((await follow(browser, address)).text).toContain('id_token_hint');
    const again = withoutHint((await follow(browser, address)).header('location'));
    expect(again.get('state')).toBe(new URL(address).searchParams.get('state'));

    const timed = await startTimedWorld({
      ...byForm,
      config: (data) => Object.assign(data.authorizationServer, { idTokenHint: 'post' }),
    });
    const late = await timed.loggedIn('alice');
    const lateAddress = await addressOf(late);
    timed.clock.advance(121_000);
    const page = await follow(late, lateAddress);
    expect([page.status, page.header('location')]).toEqual([303, expect.not.stringContaining('id_token_hint')]);
    await timed.stop();
  });

  it('W45 needs no address that servers find too long', async () => {
    const groups = Array.from({ length: 80 }, (_, index) => `${'group-'.repeat(20)}${index}`);
    const browser = await world.loggedIn('alice', { groups });
    const idToken = idTokenOf(world);
    expect(idToken.length).toBeGreaterThan(12_000);
    const address = await addressOf(browser);
    expect(address.length).toBeLessThan(200);
    await browser.navigate(address, { from: world.origin });
    expect(world.provider.requestsTo('endSession')[0]?.params.get('id_token_hint')).toBe(idToken);
  });

  it('W45 goes without a session, and without an ID token, to the provider’s', async () => {
    withoutHint(await addressOf(world.browser()));
    withoutHint((await follow(world.browser(), '/bff/logout')).header('location'));
  });

  const scripts: Record<string, Record<string, string | undefined>> = {
    'a fetch': { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' },
    'a frame': { 'sec-fetch-dest': 'iframe' },
    'an object': { 'sec-fetch-dest': 'object' },
    'a browser that does not say what it does': {
      'sec-fetch-site': undefined,
      'sec-fetch-mode': undefined,
      'sec-fetch-dest': undefined,
    },
    'a link on another site': { 'sec-fetch-site': 'cross-site' },
    'a link on a sibling': { 'sec-fetch-site': 'same-site' },
  };
  it.each(Object.entries(scripts))('W45 is not for %s, which uses nothing up', async (_name, headers) => {
    const browser = await world.loggedIn('alice');
    const address = await addressOf(browser);
    const page = await follow(browser, address, headers);
    expect(page.status).toBe(303);
    expect(page.header('location')).toBe('/');
    expect((await follow(browser, address)).text).toContain(idTokenOf(world));
  });

  it('W45 is not for a browser that loads pages ahead of time', async () => {
    const address = await addressOf(await world.loggedIn('alice'));
    const ahead = await follow(world.browser(), address, { 'sec-purpose': 'prefetch;prerender' });
    expect([ahead.status, ahead.text]).toEqual([403, expect.not.stringContaining('id_token_hint')]);
  });

  it('W45 is not for a script that follows the link of the page, or a service worker', async () => {
    for (const mode of ['cors', 'navigate']) {
      const browser = await world.loggedIn('alice');
      const page = await follow(browser, await linkOf(browser), { 'sec-fetch-mode': mode, 'sec-fetch-dest': 'empty' });
      withoutHint(page.header('location'));
      expect(await isLoggedIn(browser)).toBe(false);
    }
  });

  it('W45 is not for an address that nobody was given', async () => {
    for (const query of ['', '?once=', `?once=${'x'.repeat(43)}`, '?once=a&once=b', '?state=evil%0d%0a&once[]=x'])
      withoutHint((await follow(world.browser(), `/bff/end-session${query}`)).header('location'));
  });

  it('T62 is no way for another site to log people out at the provider', async () => {
    for (const kind of ['link', 'image', 'iframe', 'fetch'] as const) {
      const page = await world.browser().crossSite('/bff/end-session', { from: 'https://evil.example', kind });
      expect([page.status, page.header('location')]).toEqual([303, '/']);
    }
    expect((await world.browser().fetch('/bff/end-session', { method: 'POST' })).status).toBe(405);
  });

  it('W45 waits sealed: nobody who has the store reads it', async () => {
    const browser = await world.loggedIn('alice');
    const idToken = idTokenOf(world);
    const once = new URL(await addressOf(browser)).searchParams.get('once') as string;
    const dump = (await dumpRedis(inject('redisUrl'), `${world.keyPrefix}kept:*`)).at(-1);
    expect(dump?.pttl).toBeGreaterThan(0);
    expect(dump?.pttl).toBeLessThanOrEqual(120_000);
    for (const secret of [idToken, idToken.split('.')[1] as string, once])
      expect(`${dump?.key}${dump?.value}`).not.toContain(secret);
  });

  it('W45 is left out when the store can’t keep it: the logout counts', async () => {
    const redis = new Redis(inject('redisUrl'));
    const [username, password] = [`user-${randomBytes(6).toString('hex')}`, randomBytes(12).toString('hex')];
    const allButKept = ['{*', 'sid:*', 'sub:*', 'frontend:*', 'used:*', 'ended:*'].map((name) => `~*${name}`);
    await redis.call('ACL', 'SETUSER', username, 'on', `>${password}`, ...allButKept, '&*', '+@all');
    const other = await startWorld({
      ...byForm,
      config(data) {
        Object.assign(data.authorizationServer, { idTokenHint: 'post' });
        Object.assign(data.session.redis, { username, password });
      },
    });
    const browser = await other.loggedIn('alice');
    const address = await addressOf(browser);
    expect(address).toContain(`${other.provider.issuer}/end_session?`);
    expect(address).not.toContain('id_token_hint');
    expect(await isLoggedIn(browser)).toBe(false);
    await other.stop();
    await redis.call('ACL', 'DELUSER', username);
    redis.disconnect();
  });

  it('W45 is in a page that is gone at once, and that nothing else may have', async () => {
    const browser = await world.loggedIn('alice');
    const page = await follow(browser, await addressOf(browser));
    expect(page.status).toBe(200);
    expect(page.header('cache-control')).toBe('no-store');
    expect(page.header('x-frame-options')).toBe('DENY');
    expect(page.header('cross-origin-opener-policy')).toBe('same-origin');
    expect(page.header('cross-origin-embedder-policy')).toBe('require-corp');
    expect(page.header('referrer-policy')).toBe('strict-origin');
    expect(page.header('content-security-policy')).toMatch(
      /^default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]{44}'; form-action http: https:; base-uri 'none'; frame-ancestors 'none'$/,
    );
  });

  it('W45 escapes what the configuration and the provider put into it', async () => {
    const hostile = `"><script>alert(1)</script>'&`;
    const other = await startWorld({
      ...byForm,
      store: 'memory',
      config: (data) =>
        Object.assign(data.authorizationServer, { idTokenHint: 'post', extraLogoutParameters: { extra: hostile } }),
    });
    const browser = await other.loggedIn('alice', { login_hint: hostile });
    const page = await follow(browser, await addressOf(browser));
    expect(page.text).not.toContain('<script>alert');
    await browser.navigate(await addressOf(await other.loggedIn('alice', { login_hint: hostile })), {
      from: other.origin,
    });
    const { params } = other.provider.requestsTo('endSession')[0] ?? {};
    expect([params?.get('extra'), params?.get('logout_hint')]).toEqual([hostile, hostile]);
    await other.stop();
  });
});
