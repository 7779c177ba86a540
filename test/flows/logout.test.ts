import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ replicas: 2 });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const csrf = { headers: { 'x-csrf': '1' } };
const post = (browser: Browser) => browser.fetch('/bff/logout', { method: 'POST', ...csrf });
const link = async (browser: Browser) => (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>().logoutUrl;
const revoked = (count = 1) =>
  until(() => world.provider.revoked.length === count, { message: `${count} revocations (RFC 7009)` });

describe('logout by POST', () => {
  it('ends the session on every replica and revokes the refresh token', async () => {
    const browser = await world.loggedIn('alice');
    const cookie = browser.cookie('cloakroom')?.value;
    const page = await post(browser);
    expect(page.status).toBe(200);
    expect(page.header('cache-control')).toBe('no-store');
    expect(browser.cookies()).toEqual([]);
    for (const replica of [0, 1]) {
      const thief = world.browser(replica);
      thief.setCookie(`cloakroom=${cookie}; Path=/`, { force: true });
      expect((await thief.fetch('/api/orders/1')).status).toBe(401);
    }
    await revoked();
    const [request] = world.provider.requestsTo('revocation');
    expect(request?.params.get('token_type_hint')).toBe('refresh_token');
    expect(world.provider.refreshFamilies()[0]?.revoked).toBe(true);
  });

  it('says where to log out at the authorization server, without a token in the address', async () => {
    const browser = await world.loggedIn('alice');
    const { endSessionUrl } = (await post(browser)).json<{ endSessionUrl: string }>();
    const { searchParams } = new URL(endSessionUrl);
    expect(endSessionUrl).toContain(`${world.provider.issuer}/end_session?`);
    expect(searchParams.get('client_id')).toBe('cloakroom');
    expect(searchParams.get('post_logout_redirect_uri')).toBe(`${world.origin}/`);
    expect(searchParams.has('id_token_hint')).toBe(false);
    const state = searchParams.get('state');
    expect((await browser.navigate(endSessionUrl, { from: world.origin })).url).toBe(`${world.origin}/?state=${state}`);
    await revoked();
  });

  it('is no error for somebody who is not logged in', async () => {
    const page = await post(world.browser());
    expect(page.status).toBe(200);
    expect(page.json()).toEqual({ endSessionUrl: expect.stringContaining(`${world.provider.issuer}/end_session?`) });
    expect(page.setCookies).toEqual([]);
  });

  it('clears the cookie of a session that has ended elsewhere', async () => {
    const browser = await world.loggedIn('alice');
    const other = browser.clone();
    await post(browser);
    expect((await post(other)).status).toBe(200);
    expect(other.cookies()).toEqual([]);
    await revoked();
  });
});

describe('logout by link', () => {
  it('ends the session and goes on to the authorization server, then home', async () => {
    const browser = await world.loggedIn('alice');
    const page = await browser.navigate(await link(browser), { from: world.origin });
    expect(page.hops.map(({ url }) => new URL(url).pathname)).toEqual(['/bff/logout', '/end_session', '/']);
    expect(new URL(page.url).pathname).toBe('/');
    expect(await isLoggedIn(browser)).toBe(false);
    await revoked();
  });

  it('refuses a missing, wrong, foreign or doubled sid', async () => {
    const browser = await world.loggedIn('alice');
    const own = await link(browser);
    const other = await link(await world.loggedIn('bob'));
    const id = browser.cookie('cloakroom')?.value.split('.')[0];
    const wrong = ['/bff/logout', '/bff/logout?sid=', '/bff/logout?sid=x', other, `/bff/logout?sid=${id}`, `${own}x`];
    for (const target of [...wrong, `${own}&${own.split('?')[1]}`, own.replace('sid=', 'sid[]=')]) {
      const page = await browser.navigate(target, { from: world.origin, followRedirects: false });
      expect(page.status, target).toBe(403);
      expect(page.text).toContain('BFF_LOGOUT_SID_INVALID');
      expect(page.setCookies).toEqual([]);
    }
    expect(await isLoggedIn(browser)).toBe(true);
    expect(world.provider.revoked).toEqual([]);
  });

  it('refuses the sid of the session before this one', async () => {
    const browser = await world.loggedIn('alice');
    const old = await link(browser);
    await browser.login('/');
    expect((await browser.navigate(old, { from: world.origin, followRedirects: false })).status).toBe(403);
    expect(await isLoggedIn(browser)).toBe(true);
  });
});

describe('a provider in trouble', () => {
  const troubles = {
    'hangs at revocation': { hang: true },
    'answers 503': { status: 503 },
    'drops the connection': { reset: true },
  };
  const failures = () => world.log.warnings().filter(({ msg }) => msg === 'refresh token was not revoked').length;
  it.each(Object.entries(troubles))('does not hold up the logout when it %s', async (_name, fault) => {
    const browser = await world.loggedIn('alice');
    const before = failures();
    world.provider.faults = { revocation: fault };
    const startedAt = performance.now();
    expect((await post(browser)).status).toBe(200);
    // The provider may take 2 s (the configured timeout); the logout must not have waited for any of that.
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(await isLoggedIn(browser)).toBe(false);
    await until(() => failures() === before + 1, { message: 'the warning' });
  });

  it('logs out while the provider is gone', async () => {
    const browser = await world.loggedIn('alice');
    await world.provider.down();
    expect((await post(browser)).status).toBe(200);
    expect(await isLoggedIn(browser)).toBe(false);
    await world.provider.up();
  });
});
