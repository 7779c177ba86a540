import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import type { Faults } from '../support/evil-provider/faults.ts';
import {
  deliver,
  isLoggedIn,
  leadsTo,
  pendingLogin,
  startAgainOf,
  userOf,
  withParameters,
} from '../support/login-steps.ts';
import { ticketOf } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// W28: `prompt=none` asks the authorization server who is there and asks the user nothing. Both outcomes are good: the
// browser ends where it wanted to be, logged in or not, and the page can see which it was.

const silent = '/bff/login?prompt=none';
const wanted = '/shop/coats?size=m&q=a%26b#winter/2';
const configure = (data: ConfigData) => {
  data.authorizationServer.loginParameters = { prompt: ['none', 'login'], acr_values: ['*'] };
};
let world: World;
beforeAll(async () => {
  world = await startWorld({ config: configure });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

interface SessionAnswer {
  authenticated: boolean;
  silentLogin?: string;
}
const sessionOf = async (browser: Browser) => (await browser.fetch('/bff/session')).json<SessionAnswer>();
const logInSilently = (browser: Browser, returnTo = wanted, there = world) =>
  browser.navigate(`${silent}&return_to=${encodeURIComponent(returnTo)}`, { from: there.origin });
/** Where our own answer sent the browser; the page behind it is nobody's here. */
const sentTo = (page: Page) => page.hops.findLast(({ url }) => url.includes('/bff/'))?.location;

async function expectNobody(browser: Browser, page: Page, outcome: string): Promise<void> {
  expect([page.hops.at(-2)?.status, sentTo(page)]).toEqual([303, wanted]);
  expect(leadsTo(page)).toBeUndefined();
  expect(await sessionOf(browser)).toEqual({ authenticated: false, loginUrl: '/bff/login', silentLogin: outcome });
  expect(browser.allCookies().map(({ name }) => name)).toEqual(['cloakroom.silent']);
}

const nobody = ['login_required', 'interaction_required', 'consent_required', 'account_selection_required'];
describe.each(['query', 'form_post'])('W28 with response_mode=%s', (responseMode) => {
  let there: World;
  beforeAll(async () => {
    there = await startWorld({
      config: (data) => {
        configure(data);
        data.authorizationServer.responseMode = responseMode;
      },
    });
  });
  afterAll(() => there.stop());
  beforeEach(() => there.provider.reset());

  it('W28 logs in whoever is logged in at the authorization server', async () => {
    const browser = there.browser();
    const page = await logInSilently(browser, wanted, there);
    expect(sentTo(page)).toBe(wanted);
    expect(there.provider.requestsTo('authorize')[0]?.params.get('prompt')).toBe('none');
    expect(await sessionOf(browser)).toMatchObject({ authenticated: true, user: { sub: 'alice' } });
    expect(await sessionOf(browser)).not.toHaveProperty('silentLogin');
  });

  it('W28 without a session there leads back to return_to, not logged in', async () => {
    there.provider.nextLogin(null);
    const browser = there.browser();
    await expectNobody(browser, await logInSilently(browser, wanted, there), 'login_required');
  });
});

it.each(nobody)('W28 %s leads back to return_to, and the page sees it for a minute', async (error) => {
  world.provider.faults = { authorize: { error, errorDescription: 'x' } };
  const browser = world.browser();
  const page = await logInSilently(browser);
  await expectNobody(browser, page, error);
  const marker = page.hops.flatMap(({ setCookies }) => setCookies).find((one) => one.startsWith('cloakroom.silent='));
  expect(marker).toMatch(/; Max-Age=60; Path=\/; HttpOnly; SameSite=Lax$/);
});

it('W28 a visible login is told nothing of the silent one before', async () => {
  world.provider.nextLogin(null);
  const browser = world.browser();
  await logInSilently(browser);
  world.provider.nextLogin({ sub: 'bob' });
  await browser.login('/');
  expect(await sessionOf(browser)).toMatchObject({ authenticated: true, user: { sub: 'bob' } });
  expect(browser.allCookies().map(({ name }) => name)).toEqual(['cloakroom']);
});

it('W28 a prompt that asks the user something has its errors on a page', async () => {
  world.provider.faults = { authorize: { error: 'login_required' } };
  const page = await world.browser().navigate('/bff/login?prompt=login&return_to=%2Fshop', { from: world.origin });
  expect([page.status, startAgainOf(page)]).toEqual([403, '/bff/login?return_to=%2Fshop']);
});

it('W28 shows no outcome that is none of ours', async () => {
  for (const value of [
    '<script>',
    'constructor.1',
    'failed',
    'failed.x',
    'failed.1.1',
    '',
    `failed.${'1'.repeat(40)}`,
  ]) {
    const browser = world.browser();
    browser.setCookie(`cloakroom.silent=${value}; Path=/`, { force: true });
    expect(await sessionOf(browser)).toEqual({ authenticated: false, loginUrl: '/bff/login' });
    await logInSilently(browser);
    expect(await isLoggedIn(browser)).toBe(true);
  }
});

describe('W28 whatever else goes wrong with a silent login', () => {
  const faults: Record<string, Faults> = {
    access_denied: { authorize: { error: 'access_denied' } },
    temporarily_unavailable: { authorize: { error: 'temporarily_unavailable' } },
    server_error: { authorize: { error: 'server_error' } },
    invalid_scope: { authorize: { error: 'invalid_scope' } },
    'an answer of another server': { authorize: { iss: 'https://evil.example' } },
    'no code': { authorize: { code: null } },
    'a token endpoint that is down': { tokenResponse: { status: 503 } },
    'a code that is refused': { tokenResponse: { body: { error: 'invalid_grant' } } },
    'a forged ID token': { idToken: { alg: 'forged' } },
    'a session that is over already': {
      tokenResponse: { mutate: (json) => ({ ...json, authorization_expires_in: 0 }) },
    },
  };
  it.each(Object.entries(faults))('W28 %s leads back to return_to', async (_what, fault) => {
    world.provider.faults = fault;
    const browser = world.browser();
    await expectNobody(browser, await logInSilently(browser), 'failed');
  });

  it('W28 an authorization server that is down leads back to return_to', async () => {
    const other = await startWorld({ store: 'memory', config: configure });
    await other.provider.down();
    const browser = other.browser();
    await expectNobody(browser, await logInSilently(browser, wanted, other), 'failed');
    expect(other.log.warnings().map(({ msg }) => msg)).toContain('login could not start');
    await other.stop();
  });

  it('W28 an authentication that is too weak leads back to return_to', async () => {
    world.provider.nextLogin({ sub: 'alice', acr: 'urn:silver' });
    const browser = world.browser();
    const url = `${silent}&acr_values=urn:gold&return_to=${encodeURIComponent(wanted)}`;
    await expectNobody(browser, await browser.navigate(url, { from: world.origin }), 'failed');
  });

  it('W28 an answer that comes late or twice leads back to return_to and begins nothing by itself', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser, wanted, silent);
    const shown = browser.clone();
    await deliver(browser, callbackUrl);
    const page = await deliver(shown, callbackUrl);
    expect([page.status, page.header('location'), leadsTo(page)]).toEqual([303, wanted, undefined]);
    expect(world.provider.tokenRequests()).toHaveLength(1);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('W28 an answer that belongs to no login of this browser gets the page', async () => {
    const { callbackUrl } = await pendingLogin(world.browser(), wanted, silent);
    const page = await deliver(world.browser(), withParameters(callbackUrl, { code: null, error: 'login_required' }));
    expect([page.status, startAgainOf(page)]).toEqual([400, '/bff/login']);
  });
});

describe('W28 another user than the session’s', () => {
  const revoked = () => until(() => world.provider.revoked.length > 0, { message: 'the revocation' });

  it('W28 never replaces it silently: the session is kept, the page is told, the new tokens are revoked', async () => {
    const browser = await world.loggedIn('alice');
    const ticket = ticketOf(browser);
    world.provider.nextLogin({ sub: 'bob' });
    const page = await logInSilently(browser);
    expect(sentTo(page)).toBe(wanted);
    expect(await sessionOf(browser)).toMatchObject({
      authenticated: true,
      user: { sub: 'alice' },
      silentLogin: 'other_user',
    });
    expect(ticketOf(browser)).toBe(ticket);
    expect((await browser.fetch('/api/orders/1', { headers: { 'x-csrf': '1' } })).status).toBe(200);
    await revoked();
    expect(world.provider.revoked).toEqual([world.provider.issuedSecrets('refresh_token').at(-1)]);
    await browser.login('/');
    expect(await userOf(browser)).toBe('bob');
  });

  it('W28 nor one that another tab began meanwhile', async () => {
    const browser = world.browser();
    world.provider.nextLogin({ sub: 'bob' });
    const pending = await pendingLogin(browser, wanted, silent);
    world.provider.nextLogin({ sub: 'alice' });
    await browser.login('/');
    const page = await deliver(browser, pending.callbackUrl);
    expect([page.status, page.header('location')]).toEqual([303, wanted]);
    expect(await userOf(browser)).toBe('alice');
    await revoked();
  });

  it('W28 the same user gets a new session, and the old one ends', async () => {
    const browser = await world.loggedIn('alice');
    const before = browser.clone();
    await logInSilently(browser);
    expect(ticketOf(browser)).not.toBe(ticketOf(before));
    expect([await userOf(browser), await userOf(before)]).toEqual(['alice', undefined]);
    expect(await sessionOf(browser)).not.toHaveProperty('silentLogin');
  });

  it('W28 a browser whose session has ended is nobody’s', async () => {
    const browser = await world.loggedIn('alice');
    await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    world.provider.nextLogin({ sub: 'bob' });
    await logInSilently(browser);
    expect(await userOf(browser)).toBe('bob');
  });
});

describe('W28 no loops', () => {
  /** A page that begins a silent login whenever nobody is logged in, as it is loaded. */
  async function loads(browser: Browser, mostLoads: number): Promise<Page[]> {
    const pages: Page[] = [];
    while (pages.length < mostLoads && !(await isLoggedIn(browser))) {
      const page = await logInSilently(browser);
      pages.push(page);
      if (sentTo(page) !== wanted) break; // the page is not loaded again
    }
    return pages;
  }

  it('W28 a page that never looks at the outcome ends at a page of ours, with a visible login', async () => {
    world.provider.nextLogin(null);
    const browser = world.browser();
    const pages = await loads(browser, 50);
    expect(pages).toHaveLength(6);
    expect(world.provider.requestsTo('authorize')).toHaveLength(5);
    const last = pages.at(-1) as Page;
    expect([last.status, leadsTo(last)]).toEqual([429, undefined]);
    expect(last.text).toContain('BFF_LOGIN_SILENT_REPEATED');
    expect(startAgainOf(last)).toBe(`/bff/login?return_to=${encodeURIComponent(wanted)}`);
    world.provider.nextLogin({ sub: 'alice' });
    await browser.navigate(startAgainOf(last) ?? '', { from: world.origin });
    expect(await userOf(browser)).toBe('alice');
    await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    world.provider.nextLogin(null);
    expect(await loads(browser, 1)).toHaveLength(1);
    expect((await sessionOf(browser)).silentLogin).toBe('login_required');
  });

  it('W28 nor does one whose authorization server is down', async () => {
    const other = await startWorld({ store: 'memory', config: configure });
    await other.provider.down();
    const browser = other.browser();
    const ends: (string | undefined)[] = [];
    for (let count = 0; count < 6; count++) ends.push(sentTo(await logInSilently(browser, wanted, other)));
    expect(ends).toEqual([wanted, wanted, wanted, wanted, wanted, undefined]);
    await other.stop();
  });

  it('W28 somebody who logs in elsewhere meanwhile is found at the next attempt', async () => {
    world.provider.nextLogin(null);
    const browser = world.browser();
    await logInSilently(browser);
    world.provider.nextLogin({ sub: 'alice' });
    await logInSilently(browser);
    expect(await userOf(browser)).toBe('alice');
  });
});

it('W28 a fixed prompt=none is a silent login too', async () => {
  const other = await startWorld({
    store: 'memory',
    config: (data) => {
      data.authorizationServer.extraParameters = { prompt: 'none' };
    },
  });
  other.provider.nextLogin(null);
  expect(sentTo(await other.browser().login(wanted))).toBe(wanted);
  await other.stop();
});

it('W28 counts what came of it, and logs no refusal for a visitor who is nobody', async () => {
  const other = await startWorld({ store: 'memory', config: configure });
  other.provider.nextLogin(null);
  await logInSilently(other.browser(), '/', other);
  const metrics = (await other.app.ops.inject('/metrics')).body;
  expect(metrics).toMatch(/cloakroom_logins_total\{frontend="default",outcome="nobody"\} 1/);
  expect(other.log.text()).not.toContain('login_refused');
  await other.stop();
});
