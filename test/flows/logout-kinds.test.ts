import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { call, createGate, forceRefresh, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

const csrf = { 'x-csrf': '1' };
const adminKey = randomBytes(32).toString('base64url');
let world: World;
let logins = 0;
beforeAll(async () => {
  world = await startWorld({ replicas: 2, config: (data) => Object.assign(data.ops, { adminKey }) });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

interface LoggedIn {
  browser: Browser;
  sub: string;
  sid: string;
}

async function logIn(): Promise<LoggedIn> {
  const [sub, sid] = [`user-${++logins}`, `sid-${logins}`];
  world.provider.nextLogin({ sub, sid });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return { browser, sub, sid };
}

/** The cookie of this browser, as a thief or another tab sends it to one of the replicas. */
function copyOf(browser: Browser, replica: number, value = browser.cookie('cloakroom')?.value): Browser {
  const other = world.browser(replica);
  other.setCookie(`cloakroom=${value}; Path=/`, { force: true });
  return other;
}

const iss = () => encodeURIComponent(world.provider.issuer);
const logoutUrl = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>().logoutUrl;

/** Every way in which a session ends before its time. */
const kinds: Record<string, (login: LoggedIn) => Promise<unknown>> = {
  POST: ({ browser }) => logOut(browser),
  link: async ({ browser }) => browser.navigate(await logoutUrl(browser), { from: world.origin }),
  'back-channel by sid': ({ sid }) => logOutByProvider(world, { sid, sub: null }),
  'back-channel by sub': ({ sub }) => logOutByProvider(world, { sid: null, sub }),
  'front-channel': ({ sid }) => world.browser().navigate(`/bff/frontchannel-logout?iss=${iss()}&sid=${sid}`),
  admin: ({ sub }) =>
    world.app.ops.inject({
      method: 'DELETE',
      url: `/admin/sessions?iss=${iss()}&sub=${sub}`,
      headers: { authorization: `Bearer ${adminKey}` },
    }),
  'session list': ({ browser }) => browser.fetch('/bff/sessions', { method: 'DELETE', headers: csrf }),
  'another login': ({ browser }) => browser.login('/'),
};

describe.each(Object.entries(kinds))('L-10 a session that ended by %s', (_name, end) => {
  it('L-10 is dead on every replica at its next request, and stays so', async () => {
    const login = await logIn();
    const value = login.browser.cookie('cloakroom')?.value;
    await end(login);
    for (const replica of [1, 0]) {
      const thief = copyOf(login.browser, replica, value);
      expect((await call(thief)).status).toBe(401);
      expect(await isLoggedIn(thief)).toBe(false);
    }
  });

  it('T118 is not brought back by a refresh that was running, whose new token is revoked', async () => {
    const login = await logIn();
    const other = copyOf(login.browser, 1);
    const gate = createGate();
    world.provider.faults.refreshResponse = [{ holdUntil: gate.opened, commit: true }];
    const refreshing = forceRefresh(other);
    await until(() => world.provider.tokenRequests('refresh_token').length === 1, { message: 'the refresh' });
    await end(login);
    gate.open();
    expect((await refreshing).status).toBe(401);
    expect((await call(copyOf(other, 0))).status).toBe(401);
    const [family] = world.provider.refreshFamilies();
    await until(() => family?.revoked, { message: 'the revocation' });
  });
});

describe('L-8 the way back from the authorization server', () => {
  it('L-8 has a state that is new every time, and says nothing about the session', async () => {
    const states = new Set<string>();
    for (let count = 0; count < 3; count++) {
      const { browser } = await logIn();
      const ticket = browser.cookie('cloakroom')?.value ?? '';
      const { endSessionUrl } = (await logOut(browser)).json<{ endSessionUrl: string }>();
      const state = new URL(endSessionUrl).searchParams.get('state') ?? '';
      expect(state).toMatch(/^[\w-]{22}$/);
      expect(ticket).not.toContain(state);
      states.add(state);
    }
    expect(states.size).toBe(3);
  });

  it.each([
    ['another', 'made-up'],
    ['no', null],
    ['a doubled', ['one', 'two']],
    ['a hostile', '"><script>alert(1)</script>'],
  ])('L-8 with %s state ends on the same page, logged out, without a loop', async (_name, state) => {
    const { browser } = await logIn();
    world.provider.faults.endSession = { state };
    const page = await browser.navigate(await logoutUrl(browser), { from: world.origin });
    expect(page.hops.map(({ url }) => new URL(url).pathname)).toEqual(['/bff/logout', '/end_session', '/']);
    expect(new URL(page.url).origin).toBe(world.origin);
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('LO4 has nothing left to do: the session ended before the browser left', async () => {
    const { browser } = await logIn();
    const value = browser.cookie('cloakroom')?.value;
    const page = await browser.navigate(await logoutUrl(browser), { from: world.origin, followRedirects: false });
    expect(page.status).toBe(303);
    expect((await call(copyOf(browser, 1, value))).status).toBe(401);
    expect(world.provider.requestsTo('endSession')).toEqual([]);
  });

  it('L-8 is not needed while the authorization server is gone', async () => {
    const { browser } = await logIn();
    await world.provider.down();
    const page = await browser.navigate(await logoutUrl(browser), { from: world.origin, followRedirects: false });
    expect(page.status).toBe(303);
    expect(browser.cookies()).toEqual([]);
    await world.provider.up();
  });
});

describe('L-9 a logout of what has ended', () => {
  it('L-9 is no error, twice or without a session, and clears the cookie as it was set', async () => {
    const { browser } = await logIn();
    const second = browser.clone();
    expect((await logOut(browser)).status).toBe(200);
    const again = await logOut(second);
    expect(again.status).toBe(200);
    expect(again.setCookies.length).toBeGreaterThan(0);
    for (const header of again.setCookies) {
      expect(header).toMatch(/^cloakroom=;/);
      for (const attribute of ['Path=/', 'HttpOnly', 'SameSite=Strict']) expect(header).toContain(attribute);
    }
    expect(second.rejectedCookies).toEqual([]);
    expect(second.cookies()).toEqual([]);
    expect((await logOut(world.browser())).status).toBe(200);
  });

  it('L-9 is no error after the session ran out', async () => {
    const timed = await startTimedWorld();
    const browser = await timed.loggedIn();
    timed.clock.advance(100 * 24 * 3_600_000);
    expect((await logOut(browser)).status).toBe(200);
    expect(browser.cookies()).toEqual([]);
    await timed.stop();
  });
});

describe('L-10 after a logout', () => {
  it('L-10 another tab, and a page out of the back/forward cache, get 401', async () => {
    const { browser } = await logIn();
    const tab = browser.clone();
    const before = [await browser.fetch('/bff/session'), await call(browser)];
    for (const page of before) expect(page.header('cache-control')).toContain('no-store');
    await logOut(browser);
    for (const one of [tab, browser]) {
      const page = await call(one);
      expect([page.status, page.header('cache-control')]).toEqual([401, 'no-store']);
    }
  });
});

describe('L-11 revocation', () => {
  const troubles = { 'answers 503': { status: 503 }, hangs: { hang: true }, 'answers 400': { status: 400 } };
  it.each(Object.entries(troubles))(
    'L-11 that %s does not hold up the logout, is logged and not repeated',
    async (_name, fault) => {
      // One of its own: revocations of the logouts above are still to come.
      const other = await startWorld({ store: 'memory' });
      other.provider.faults.revocation = fault;
      expect((await logOut(await other.loggedIn())).status).toBe(200);
      const failed = () => other.log.warnings().some(({ msg }) => msg === 'refresh token was not revoked');
      await until(failed, { timeoutMs: 10_000, message: 'the warning' });
      expect(other.provider.requestsTo('revocation')).toHaveLength(1);
      await other.stop();
    },
  );

  it('L-11 that is not offered is not asked for', async () => {
    const without = await startWorld({ store: 'memory' });
    without.provider.faults.discovery = { mutate: (json) => ({ ...json, revocation_endpoint: undefined }) };
    const browser = await without.loggedIn();
    expect((await logOut(browser)).status).toBe(200);
    expect(without.provider.requestsTo('revocation')).toEqual([]);
    await without.stop();
  });

  it('W45 goes to the configured address where the metadata has none, as at django-oauth-toolkit', async () => {
    const other = await startWorld({
      store: 'memory',
      config: ({ authorizationServer: server }) =>
        Object.assign(server, { timeout: '1s', revocationEndpoint: `${server.issuer}/revoke` }),
    });
    other.provider.faults.discovery = { mutate: (json) => ({ ...json, revocation_endpoint: undefined }) };
    expect((await logOut(await other.loggedIn())).status).toBe(200);
    await until(() => other.provider.revoked.length === 1, { message: 'the revocation' });
    await other.stop();
  });
});
