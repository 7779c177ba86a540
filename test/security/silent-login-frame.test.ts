import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import type { Faults } from '../support/evil-provider/faults.ts';
import { isLoggedIn, leadsTo, userOf } from '../support/login-steps.ts';
import { ticketOf } from '../support/ticket.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// W28: a silent login in a hidden frame of our own page. A frame is no navigation, with this one exception: where
// `silentLoginFrame` allows it, for our own pages, and with `prompt=none`. The double is a stricter browser than
// Chromium: no Lax or Strict cookie crosses a redirect of another site into a frame.

const evil = 'https://evil.example';
const silent = '/bff/login?prompt=none';
let world: World;
beforeAll(async () => {
  world = await startWorld({
    config: (data) => {
      data.authorizationServer.silentLoginFrame = true;
    },
  });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

/** What a page's frame loads, and whatever it goes on to by itself. */
async function openFrame(browser: Browser, url = silent, from = browser.origin): Promise<Page> {
  let page = await browser.crossSite(url, { from, kind: 'iframe', followRedirects: true });
  for (let count = 0; leadsTo(page) !== undefined && count < 3; count++) {
    const next = await browser.crossSite(leadsTo(page) ?? '', {
      from: browser.origin,
      kind: 'iframe',
      followRedirects: true,
    });
    page = { ...next, hops: [...page.hops, ...next.hops] };
  }
  return page;
}

/** What the page says to its parent, and to whom. */
function saidBy(page: Page): { message: unknown; origin: string | undefined } {
  const attribute = (name: string) =>
    new RegExp(`data-${name}="([^"]*)"`)
      .exec(page.text)?.[1]
      ?.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
  return { message: JSON.parse(attribute('message') ?? 'null'), origin: attribute('origin') };
}

/** Only our own origin may frame it, and only its own script runs. */
function expectFramePage(page: Page): void {
  expect(page.header('content-type')).toBe('text/html; charset=utf-8');
  const script = /<script>([\s\S]*?)<\/script>/.exec(page.text)?.[1] ?? '';
  const hash = createHash('sha256').update(script).digest('base64');
  expect(page.all('content-security-policy')).toEqual([
    `default-src 'none'; script-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'`,
  ]);
  expect(page.all('x-frame-options')).toEqual(['SAMEORIGIN']);
  expect(page.header('cache-control')).toBe('no-store');
  expect(script).toContain('parent.postMessage(JSON.parse(message), origin)');
  expect(saidBy(page).origin).toBe(world.origin);
}

const said = (outcome: string, code?: string) => ({
  source: 'bff-silent-login',
  isLoggedIn: outcome === 'logged_in',
  outcome,
  ...(code === undefined ? {} : { code }),
});

it('W28 logs in, and says so to our own origin', async () => {
  const browser = world.browser();
  const page = await openFrame(browser);
  expectFramePage(page);
  expect([page.status, saidBy(page).message]).toEqual([200, said('logged_in')]);
  expect(await userOf(browser)).toBe('alice');
  expect(browser.rejectedCookies).toEqual([]);
  expect(page.hops.flatMap(({ setCookies }) => setCookies).find((one) => one.startsWith('cloakroom='))).toContain(
    'SameSite=Strict',
  );
});

it.each(['login_required', 'interaction_required', 'consent_required', 'account_selection_required'])(
  'W28 %s is said, and the session tells it too',
  async (error) => {
    world.provider.faults = { authorize: { error } };
    const browser = world.browser();
    const page = await openFrame(browser);
    expectFramePage(page);
    expect([page.status, saidBy(page).message]).toEqual([200, said(error)]);
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: false, silentLogin: error });
  },
);

it('W28 the answer comes again from our own origin before anything is done with it', async () => {
  const browser = world.browser();
  const page = await openFrame(browser);
  const [, , brought, taken] = page.hops;
  expect(brought?.url).toContain('/bff/callback?');
  expect([brought?.status, brought?.requestHeaders['sec-fetch-site'], brought?.setCookies]).toEqual([
    200,
    'cross-site',
    [],
  ]);
  // The code stays out of the page itself.
  expect(brought?.body?.toString() ?? '').not.toContain('code=');
  expect([taken?.url, taken?.requestHeaders['sec-fetch-site']]).toEqual([brought?.url, 'same-origin']);
  expect(page.hops).toHaveLength(4);
});

it('W28 needs no other setting for prompt=none, in a frame or as a page', async () => {
  world.provider.nextLogin(null);
  const page = await world.browser().navigate(`${silent}&return_to=%2Fshop`, { from: world.origin });
  expect(page.url).toBe(`${world.origin}/shop`);
});

it('W28 another user never replaces the session’s: it is kept, and the page is told', async () => {
  const browser = await world.loggedIn('alice');
  const ticket = ticketOf(browser);
  world.provider.nextLogin({ sub: 'bob' });
  expect(saidBy(await openFrame(browser)).message).toEqual(said('other_user', 'BFF_LOGIN_OTHER_USER'));
  expect([ticketOf(browser), await userOf(browser)]).toEqual([ticket, 'alice']);
  world.provider.nextLogin({ sub: 'alice' });
  expect(saidBy(await openFrame(browser)).message).toEqual(said('logged_in'));
  expect(ticketOf(browser)).not.toBe(ticket);
});

describe('W28 every error is said', () => {
  const faults: Record<string, [Faults, number, string]> = {
    access_denied: [{ authorize: { error: 'access_denied' } }, 403, 'BFF_LOGIN_REFUSED'],
    server_error: [{ authorize: { error: 'server_error' } }, 503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'],
    'another server': [{ authorize: { iss: evil } }, 400, 'BFF_LOGIN_RESPONSE_INVALID'],
    'two states': [{ authorize: { state: ['x', 'y'] } }, 400, 'BFF_LOGIN_TRANSACTION_MISSING'],
    'a token endpoint that is down': [{ tokenResponse: { status: 503 } }, 503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'],
    'a forged ID token': [{ idToken: { alg: 'forged' } }, 502, 'BFF_LOGIN_ANSWER_INVALID'],
  };
  it.each(Object.entries(faults))('W28 %s', async (_what, [fault, status, code]) => {
    world.provider.faults = fault;
    const browser = world.browser();
    const page = await openFrame(browser);
    expectFramePage(page);
    expect([page.status, saidBy(page).message]).toEqual([status, said('failed', code)]);
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('W28 an authorization server that is down', async () => {
    const other = await startWorld({
      store: 'memory',
      config: (data) => {
        data.authorizationServer.silentLoginFrame = true;
      },
    });
    await other.provider.down();
    const page = await openFrame(other.browser());
    expect(saidBy(page).message).toEqual(said('failed', 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'));
    await other.stop();
  });

  it('W28 too many attempts, of this address or of this browser', async () => {
    const other = await startWorld({
      store: 'memory',
      config: (data) => {
        data.authorizationServer.silentLoginFrame = true;
        data.limits.loginsPerMinute = 5 * 2 + 2; // of each endpoint, and each callback comes twice
      },
    });
    other.provider.nextLogin(null);
    const browser = other.browser();
    const codes: unknown[] = [];
    for (let count = 0; count < 7; count++)
      codes.push((saidBy(await openFrame(browser)).message as { code?: string }).code ?? 'none');
    expect(codes).toEqual([...Array(5).fill('none'), ...Array(2).fill('BFF_LOGIN_SILENT_REPEATED')]);
    const another = other.browser();
    await openFrame(another);
    expect(saidBy(await openFrame(another)).message).toEqual(said('failed', 'BFF_RATE_LIMITED'));
    await other.stop();
  });

  it.each([
    '/bff/login',
    '/bff/login?prompt=login',
    '/bff/login?prompt=none&prompt=none',
    '/bff/login?prompt=none%20login',
  ])('W28 %s in a frame begins no login', async (url) => {
    const browser = world.browser();
    const page = await openFrame(browser, url);
    expectFramePage(page);
    expect([page.status, saidBy(page).message]).toEqual([400, said('failed', 'BFF_LOGIN_NOT_NAVIGATION')]);
    expect(page.setCookies).toEqual([]);
  });
});

describe('W28 what the exception does not cover', () => {
  it.each([evil, 'http://evil.localhost', 'http://localhost:1'])('W28 a frame of %s', async (from) => {
    const browser = world.browser();
    const page = await openFrame(browser, silent, from);
    expect([page.status, page.setCookies, leadsTo(page)]).toEqual([400, [], undefined]);
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'self'");
    expect(world.provider.requestsTo('authorize')).toEqual([]);
  });

  it.each(['frame', 'embed', 'object', 'fencedframe', 'image'])('W28 %s of our own page', async (dest) => {
    const headers = { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': dest };
    const page = await world.browser().navigate(silent, { headers, followRedirects: false });
    expect([page.status, page.setCookies]).toEqual([400, []]);
  });

  it('W28 a frame that is loaded ahead of time', async () => {
    const headers = { 'sec-fetch-site': 'same-origin', 'sec-fetch-dest': 'iframe', 'sec-purpose': 'prefetch' };
    const page = await world.browser().navigate(silent, { headers, followRedirects: false });
    expect([page.status, page.setCookies]).toEqual([400, []]);
  });

  it('W28 other endpoints, which no page may frame', async () => {
    const page = await openFrame(world.browser(), '/bff/session');
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'");
    expect(page.header('x-frame-options')).toBe('DENY');
  });

  it('W28 pages that are no frame: they keep their own headers', async () => {
    const page = await world.browser().navigate('/bff/callback?state=x', { from: world.origin });
    expect([page.status, page.header('x-frame-options')]).toEqual([400, 'DENY']);
  });

  it('W28 without the setting, also where prompt=none is allowed', async () => {
    const other = await startWorld({
      store: 'memory',
      config: (data) => {
        data.authorizationServer.loginParameters = { prompt: ['none'] };
      },
    });
    const page = await openFrame(other.browser());
    expect([page.status, page.setCookies]).toEqual([400, []]);
    expect(page.header('content-type')).toContain('application/problem+json');
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'");
    await other.stop();
  });
});

it('W28 the setting is refused with form_post, whose answer no frame can bring again', async () => {
  let data: ConfigData = {};
  const other = await startWorld({
    store: 'memory',
    config: (config) => {
      data = structuredClone(config);
    },
  });
  await other.stop();
  Object.assign(data.authorizationServer, { silentLoginFrame: true, responseMode: 'form_post' });
  const parsed = parseConfig('frame.yaml', stringify(data), {});
  expect(parsed.ok ? [] : parsed.problems.map(formatProblem)).toEqual([
    expect.stringMatching(/silentLoginFrame.*responseMode/),
  ]);
});
