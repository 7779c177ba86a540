import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deliver, isLoggedIn, pendingLogin, userOf, withParameters } from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ replicas: 2 });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const cookieOf = (setCookies: string[]) => setCookies.find((one) => one.startsWith('cloakroom='))?.split(';')[0];

describe('T11 a login while somebody is logged in', () => {
  it('T11 ends the old session at the callback', async () => {
    const browser = await world.loggedIn('alice');
    const before = browser.clone();
    await browser.login('/');
    expect(await isLoggedIn(browser)).toBe(true);
    expect(await isLoggedIn(before)).toBe(false);
    expect((await before.fetch('/api/orders/1')).status).toBe(401);
  });

  it('T11 makes the second tab’s user the only user of the browser', async () => {
    const browser = await world.loggedIn('alice');
    const before = browser.clone();
    world.provider.nextLogin({ sub: 'bob' });
    await browser.login('/');
    expect(await userOf(browser)).toBe('bob');
    expect(await userOf(before)).toBeUndefined();
    world.upstream.requests.length = 0;
    await browser.fetch('/api/orders/1');
    const [, payload = ''] = (world.upstream.requests[0]?.header('authorization') ?? '').split('.');
    expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({ sub: 'bob' });
  });

  it('T11 leaves the session alone when the new login fails', async () => {
    const browser = await world.loggedIn('alice');
    world.provider.faults = { authorize: { error: 'access_denied' } };
    expect((await browser.login('/')).status).toBe(403);
    expect(await userOf(browser)).toBe('alice');
  });
});

describe('T19 an error of the authorization server', () => {
  const script = '<script>alert(1)</script>"\'&';
  it('T19 shows a fixed page for the error of this login, with nothing of its text', async () => {
    world.provider.faults = {
      authorize: { error: 'access_denied', errorDescription: script, errorUri: 'https://evil.example/' },
    };
    const page = await world.browser().login('/');
    expect(page.status).toBe(403);
    expect(page.header('content-type')).toBe('text/html; charset=utf-8');
    expect(page.text).toContain('BFF_LOGIN_REFUSED');
    expect(page.text).not.toMatch(/alert|evil\.example|access_denied/);
    expect(page.header('location')).toBeUndefined();
    expect(page.header('content-security-policy')).toContain("default-src 'none'");
    expect(page.header('x-frame-options')).toBe('DENY');
  });

  it('T19 shows nothing of an error whose code is markup', async () => {
    world.provider.faults = { authorize: { error: script } };
    const page = await world.browser().login('/');
    expect(page.status).toBe(403);
    expect(page.text).not.toContain('alert');
    expect(world.log.text()).not.toContain('alert(1)');
  });

  it('T19 answers 400 to an error that belongs to no login', async () => {
    const query = new URLSearchParams({ error: 'access_denied', error_description: script, state: 'x', iss: 'y' });
    const page = await world.browser().navigate(`/bff/callback?${query}`, { followRedirects: false });
    expect(page.status).toBe(400);
    expect(page.text).not.toContain('alert');
  });

  it('T19 consumes the login: its code is not taken after its error', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const kept = browser.clone();
    const refused = withParameters(callbackUrl, { code: null, error: 'access_denied' });
    expect((await deliver(browser, refused)).status).toBe(403);
    expect((await deliver(kept, callbackUrl)).status).toBe(400);
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T19 repeats no request id that is markup', async () => {
    const page = await world.browser().navigate('/bff/callback?state=x', {
      headers: { 'x-request-id': '"><script>alert(1)</script>' },
    });
    expect(page.status).toBe(400);
    expect(page.text).not.toContain('alert');
    expect(page.header('x-request-id')).not.toContain('alert');
  });
});

describe('T22 session fixation', () => {
  it('T22 gives the victim a new id and ends the session that the attacker planted', async () => {
    const attacker = await world.loggedIn('attacker');
    const planted = attacker.cookie('cloakroom')?.value;
    const victim = world.browser();
    victim.setCookie(`cloakroom=${planted}; Path=/; SameSite=Strict`, { force: true });
    world.provider.nextLogin({ sub: 'victim' });
    await victim.login('/');
    expect(await userOf(victim)).toBe('victim');
    expect(victim.cookie('cloakroom')?.value).not.toBe(planted);
    expect(await isLoggedIn(attacker)).toBe(false);
  });

  it('T22 does so too when the cookie was planted while the login was under way', async () => {
    const attacker = await world.loggedIn('attacker');
    const planted = attacker.cookie('cloakroom')?.value;
    const victim = world.browser();
    world.provider.nextLogin({ sub: 'victim' });
    const { callbackUrl } = await pendingLogin(victim);
    victim.setCookie(`cloakroom=${planted}; Path=/; SameSite=None; Secure`, { force: true });
    const page = await deliver(victim, callbackUrl);
    expect(page.status).toBe(303);
    expect(cookieOf(page.setCookies)).toBeDefined();
    expect(cookieOf(page.setCookies)).not.toBe(`cloakroom=${planted}`);
    expect(await isLoggedIn(attacker)).toBe(false);
  });

  it('T22 adopts no id that was made up, signed with nothing or with another key', async () => {
    for (const value of ['A'.repeat(32), `${'A'.repeat(32)}.${'B'.repeat(43)}`, `${'A'.repeat(32)}.`]) {
      const victim = world.browser();
      victim.setCookie(`cloakroom=${value}; Path=/`, { force: true });
      await victim.login('/');
      expect(await isLoggedIn(victim)).toBe(true);
      expect(victim.cookie('cloakroom')?.value.startsWith('A'.repeat(32))).toBe(false);
    }
  });
});

describe('T24 replicas', () => {
  const onOther = (browser: ReturnType<World['browser']>) => {
    const other = world.browser(1);
    for (const { name, value } of browser.allCookies()) other.setCookie(`${name}=${value}; Path=/`, { force: true });
    return other;
  };

  it('T24 finishes on one replica what another started', async () => {
    const started = world.browser();
    const { callbackUrl } = await pendingLogin(started, '/shop');
    const other = onOther(started);
    const page = await deliver(other, callbackUrl);
    expect(page.status).toBe(303);
    expect(page.header('location')).toBe('/shop');
    expect(await isLoggedIn(other)).toBe(true);
    expect(await isLoggedIn(onOther(other))).toBe(true);
  });

  it('T24 redeems a code once when both replicas get it at the same time', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const pages = await Promise.all([deliver(onOther(browser), callbackUrl), deliver(browser, callbackUrl)]);
    expect(pages.map(({ status }) => status).sort()).toEqual([303, 400]);
    expect(world.provider.tokenRequests()).toHaveLength(1);
  });
});

describe('T25 a lost login cookie', () => {
  it('T25 says what happened, offers a new start and does not loop', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    browser.clearCookies();
    for (let count = 0; count < 3; count++) {
      const page = await deliver(browser, callbackUrl);
      expect(page.status).toBe(400);
      expect(page.text).toContain('not started in this browser');
      expect(page.text).toContain('<a href="/bff/login">Start again</a>');
      expect(page.header('refresh')).toBeUndefined();
      expect(page.header('location')).toBeUndefined();
    }
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T25 ends the same in a browser that takes no cookies at all', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const page = await deliver(browser, callbackUrl, { headers: { cookie: undefined } });
    expect(page.status).toBe(400);
    expect(page.header('refresh')).toBeUndefined();
  });
});
