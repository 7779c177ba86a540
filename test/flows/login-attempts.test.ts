import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import { answerOf, deliver, isLoggedIn, leadsTo, pendingLogin, startLogin, userOf } from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ store: 'memory' });
});
afterAll(() => world.stop());
beforeEach(() => {
  world.provider.reset();
  freshenIdToken();
});

/** Follows what the page does by itself, as a browser would. */
async function follow(browser: Browser, page: Page): Promise<Page> {
  const target = leadsTo(page);
  if (target === undefined) throw new Error(`the page leads nowhere: ${page.status}`);
  return browser.navigate(target, { from: world.origin });
}

describe('several tabs', () => {
  it('finishes the five newest logins of a browser; the oldest is told to start again', async () => {
    const browser = world.browser();
    const logins = [];
    for (let tab = 0; tab < 6; tab++) {
      logins.push(await pendingLogin(browser, `/tab-${tab}`));
      world.clock.advance(1000);
    }
    const [oldest, ...newest] = logins;
    expect(browser.allCookies()).toHaveLength(5);
    const page = await deliver(browser, oldest?.callbackUrl ?? '');
    expect(page.status).toBe(400);
    expect(page.text).toContain('Start again');
    for (const [index, { callbackUrl }] of newest.entries()) {
      expect((await deliver(browser, callbackUrl)).header('location')).toBe(`/tab-${index + 1}`);
    }
    expect(await isLoggedIn(browser)).toBe(true);
    expect(browser.allCookies().map(({ name }) => name)).toEqual(['cloakroom']);
  });

  it('leaves one usable session when two tabs log in, and ends the other', async () => {
    const browser = world.browser();
    world.provider.nextLogin({ sub: 'alice' });
    const first = await pendingLogin(browser, '/one');
    world.provider.nextLogin({ sub: 'bob' });
    const second = await pendingLogin(browser, '/two');
    expect((await deliver(browser, first.callbackUrl)).header('location')).toBe('/one');
    const ofFirst = browser.clone();
    expect(await userOf(ofFirst)).toBe('alice');
    expect((await deliver(browser, second.callbackUrl)).header('location')).toBe('/two');
    expect(await userOf(browser)).toBe('bob');
    expect(await isLoggedIn(ofFirst)).toBe(false);
  });

  it('ends both sessions that came before when three tabs log in', async () => {
    const browser = world.browser();
    const logins = [];
    for (let tab = 0; tab < 3; tab++) logins.push(await pendingLogin(browser));
    const earlier: Browser[] = [];
    for (const { callbackUrl } of logins) {
      await deliver(browser, callbackUrl);
      earlier.push(browser.clone());
    }
    const last = earlier.pop() as Browser;
    for (const one of earlier) expect(await isLoggedIn(one)).toBe(false);
    expect(await isLoggedIn(last)).toBe(true);
  });

  it('ends the session that was there, too, when a tab logs in that started before it', async () => {
    const browser = world.browser();
    const early = await pendingLogin(browser, '/early');
    await browser.login('/late');
    const between = browser.clone();
    await deliver(browser, early.callbackUrl);
    expect(await isLoggedIn(browser)).toBe(true);
    expect(await isLoggedIn(between)).toBe(false);
  });
});

describe('a late response', () => {
  it('starts the login again by itself and lands where the user wanted', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser, '/shop?x=1&y=2#z');
    world.clock.advance(11 * 60_000);
    const page = await deliver(browser, callbackUrl);
    expect(page.status).toBe(400);
    expect(leadsTo(page)).toBe(`/bff/login?return_to=${encodeURIComponent('/shop?x=1&y=2#z')}`);
    const started = await browser.navigate(leadsTo(page) ?? '', { from: world.origin, followRedirects: false });
    freshenIdToken();
    const again = await answerOf(started.header('location') ?? '');
    expect((await deliver(browser, again)).header('location')).toBe('/shop?x=1&y=2#z');
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('writes a return_to with quotes into page and header as text', async () => {
    const browser = world.browser();
    const returnTo = `/a'onmouseover='alert(1)"<b>;url=//evil.example`;
    const { callbackUrl } = await pendingLogin(browser, returnTo);
    world.clock.advance(11 * 60_000);
    const page = await deliver(browser, callbackUrl);
    expect(page.text).not.toMatch(/<b>|'onmouseover|"onmouseover|a'/);
    expect(page.text.match(/<a [^>]*>/g)).toHaveLength(1);
    const target = new URL(leadsTo(page) ?? '', world.origin);
    expect(target.pathname).toBe('/bff/login');
    expect(decodeURI(target.searchParams.get('return_to') ?? '')).toBe(returnTo);
    expect(page.header('refresh')).not.toContain('//evil');
  });

  it('does so once, then asks the user', async () => {
    const browser = world.browser();
    const logins = [await pendingLogin(browser), await pendingLogin(browser)];
    world.clock.advance(11 * 60_000);
    const [first, second] = logins.map(({ callbackUrl }) => callbackUrl);
    expect(leadsTo(await deliver(browser, first ?? ''))).toBeDefined();
    const page = await deliver(browser, second ?? '');
    expect(page.status).toBe(400);
    expect(leadsTo(page)).toBeUndefined();
    expect(page.text).toContain('Start again');
  });
});

describe('a doubled response', () => {
  it('starts the login again once, and the browser ends logged in', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser, '/shop');
    // A double click: the browser gave the first answer up and shows the second.
    const shown = browser.clone();
    expect((await deliver(browser, callbackUrl)).status).toBe(303);
    const page = await deliver(shown, callbackUrl);
    expect(page.status).toBe(400);
    expect((await follow(shown, page)).url).toBe(`${world.origin}/shop`);
    expect(await isLoggedIn(shown)).toBe(true);
  });

  it('does not loop in a browser that never lets go of its login cookie', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser, '/shop');
    const kept = browser.allCookies();
    await deliver(browser.clone(), callbackUrl);
    let restarts = 0;
    for (let count = 0; count < 5; count++) {
      const page = await deliver(browser, callbackUrl);
      expect(page.status).toBe(400);
      if (leadsTo(page) !== undefined) restarts++;
      for (const { name, value } of kept) browser.setCookie(`${name}=${value}; Path=/`, { force: true });
    }
    expect(restarts).toBe(1);
    expect(world.provider.tokenRequests()).toHaveLength(1);
  });
});

it('ends in a page, not in a loop, when the authorization server says no every time', async () => {
  const browser = world.browser();
  world.provider.faults = { authorize: { error: 'login_required' } };
  for (let count = 0; count < 3; count++) {
    const page = await browser.login('/shop');
    expect(page.status).toBe(403);
    expect(page.hops.length).toBe(3);
    expect(leadsTo(page)).toBeUndefined();
  }
});

it('shows a page to people and problem JSON to scripts', async () => {
  const browser = world.browser();
  await startLogin(browser);
  const page = await browser.navigate('/bff/callback?state=x&code=y');
  expect(page.header('content-type')).toContain('text/html');
  const answer = await browser.fetch('/bff/callback?state=x&code=y');
  expect(answer.header('content-type')).toContain('application/problem+json');
  expect(answer.json()).toMatchObject({ code: 'BFF_LOGIN_TRANSACTION_MISSING', status: 400, loginUrl: '/bff/login' });
});

/** The provider's clock does not follow the moved one. */
function freshenIdToken(): void {
  const now = Math.floor(world.clock.now() / 1000);
  world.provider.faults = { idToken: { claims: { iat: now, exp: now + 300 } } };
}
