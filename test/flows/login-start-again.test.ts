import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Faults } from '../support/evil-provider/faults.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { problemCode } from '../support/login-attempt.ts';
import { deliver, isLoggedIn, leadsTo, pendingLogin, startAgainOf, withParameters } from '../support/login-steps.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

const wanted = '/shop/coats?size=m&q=a%26b#winter/2';
const again = `/bff/login?return_to=${encodeURIComponent(wanted)}`;

const configure = (data: ConfigData) => {
  data.session.perUser = { max: 1, whenFull: 'deny' };
  data.authorizationServer.loginParameters = { acr_values: ['*'] };
};
let world: World;
let users = 0;
beforeAll(async () => {
  world = await startWorld({ config: configure });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

/** What the page of a failed login says, and that its link logs in and lands where the user wanted to be. */
async function expectWayBack(page: Page, browser = world.browser()): Promise<void> {
  expect(page.header('content-type')).toContain('text/html');
  expect(page.text).toContain(page.header('x-request-id'));
  expect(startAgainOf(page)).toBe(again);
  world.provider.reset();
  world.provider.nextLogin({ sub: `user-${users++}` });
  const landed = await browser.navigate(again, { from: browser.origin });
  expect(landed.hops.find(({ url }) => url.includes('/bff/callback'))?.location).toBe(wanted);
  expect(await isLoggedIn(browser)).toBe(true);
}

describe('W27 an error of the authorization response', () => {
  const refusals = ['access_denied', 'login_required', 'consent_required', 'interaction_required', 'something_new'];
  it.each([...refusals, 'Not A Code', 'temporarily_unavailable', 'server_error', 'invalid_scope'])(
    'W27 %s: "start again" keeps return_to',
    async (error) => {
      world.provider.faults = { authorize: { error, errorDescription: 'try again shortly' } };
      const browser = world.browser();
      const page = await browser.login(wanted, { followMetaRefresh: false });
      await expectWayBack(page, browser);
    },
  );

  it.each(['temporarily_unavailable', 'server_error'])(
    'W27 %s begins again by itself, once, and asks the user after that',
    async (error) => {
      world.provider.faults = { authorize: { error } };
      const browser = world.browser();
      const page = await browser.login(wanted);
      expect([page.status, problemCode(page)]).toEqual([503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE']);
      expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
      expect(page.text).toContain('<h1>Please try again shortly</h1>');
      expect(leadsTo(page)).toBe(again);
      // The same error once more.
      const second = await browser.navigate(leadsTo(page) ?? '', { from: world.origin });
      expect(second.status).toBe(503);
      expect(leadsTo(second)).toBeUndefined();
      await expectWayBack(second, browser);
    },
  );

  const permanent = [
    'invalid_request',
    'unauthorized_client',
    'unsupported_response_type',
    'invalid_scope',
    'invalid_target',
    'invalid_request_uri',
    'invalid_request_object',
    'request_not_supported',
    'request_uri_not_supported',
    'registration_not_supported',
  ];
  it.each(permanent)('W27 %s: nobody is told to try again', async (error) => {
    world.provider.faults = { authorize: { error } };
    const page = await world.browser().login(wanted);
    expect([page.status, problemCode(page)]).toEqual([403, 'BFF_LOGIN_REFUSED']);
    expect(leadsTo(page)).toBeUndefined();
    expect(page.text).toContain('trying again does not help');
    expect(page.text).not.toMatch(/try again|: start again/i);
    await expectWayBack(page);
  });

  it('W27 says so when the server can’t authenticate as strongly as asked', async () => {
    world.provider.faults = { authorize: { error: 'unmet_authentication_requirements' } };
    const page = await world.browser().login(wanted);
    expect([page.status, problemCode(page)]).toEqual([403, 'BFF_LOGIN_NOT_STRONG_ENOUGH']);
    expect(startAgainOf(page)).toBe(again);
  });

  it.each(['access_denied', 'login_required'])('W27 %s does not begin again by itself', async (error) => {
    world.provider.faults = { authorize: { error } };
    const page = await world.browser().login(wanted);
    expect([page.status, problemCode(page), leadsTo(page)]).toEqual([403, 'BFF_LOGIN_REFUSED', undefined]);
    expect(page.text).not.toContain('trying again does not help');
  });

  it('W27 does not offer more than "start again" for an error that belongs to no login of this browser', async () => {
    const { callbackUrl } = await pendingLogin(world.browser(), wanted);
    const page = await deliver(
      world.browser(),
      withParameters(callbackUrl, { code: null, error: 'temporarily_unavailable' }),
    );
    expect([page.status, leadsTo(page), startAgainOf(page)]).toEqual([400, undefined, '/bff/login']);
  });
});

describe('W27 what goes wrong after the authorization response', () => {
  const faults: Record<string, [Faults, string]> = {
    'the token endpoint is down': [{ tokenResponse: { status: 503 } }, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'],
    'the code is refused': [{ tokenResponse: { body: { error: 'invalid_grant' } } }, 'BFF_LOGIN_RESPONSE_INVALID'],
    'the ID token can’t be trusted': [{ idToken: { alg: 'forged' } }, 'BFF_LOGIN_ANSWER_INVALID'],
    'the session is over already': [
      { tokenResponse: { mutate: (json) => ({ ...json, authorization_expires_in: 0 }) } },
      'BFF_LOGIN_REFUSED',
    ],
    'the answer is of another server': [{ authorize: { iss: 'https://evil.example' } }, 'BFF_LOGIN_RESPONSE_INVALID'],
  };
  it.each(Object.entries(faults))('W27 %s: "start again" keeps return_to', async (_what, [fault, code]) => {
    world.provider.faults = fault;
    const browser = world.browser();
    const page = await browser.login(wanted);
    expect(problemCode(page)).toBe(code);
    await expectWayBack(page, browser);
  });

  it('W27 an answer that can’t be trusted is not told as a matter of time', async () => {
    world.provider.faults = { idToken: { alg: 'forged' } };
    const page = await world.browser().login(wanted);
    expect(page.text).not.toMatch(/try again shortly/i);
  });

  it('W27 not strong enough: "start again" keeps return_to', async () => {
    world.provider.nextLogin({ sub: 'carol', acr: 'urn:silver' });
    const browser = world.browser();
    const page = await browser.navigate(`${again}&acr_values=urn:gold`, { from: world.origin });
    expect(problemCode(page)).toBe('BFF_LOGIN_NOT_STRONG_ENOUGH');
    await expectWayBack(page, browser);
  });

  it('W27 too many sessions: "start again" keeps return_to', async () => {
    await world.loggedIn('dora');
    world.provider.nextLogin({ sub: 'dora' });
    const browser = world.browser();
    const page = await browser.login(wanted);
    expect(problemCode(page)).toBe('BFF_LOGIN_TOO_MANY_SESSIONS');
    world.provider.nextLogin({ sub: 'erik' });
    expect(startAgainOf(page)).toBe(again);
  });

  it('W27 late or used for the second time: also the link, not only the restart, keeps return_to', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser, wanted);
    const kept = browser.allCookies();
    const keep = () => {
      for (const { name, value } of kept) browser.setCookie(`${name}=${value}; Path=/`, { force: true });
    };
    await deliver(browser.clone(), callbackUrl);
    const first = await deliver(browser, callbackUrl);
    expect(leadsTo(first)).toBe(again);
    expect(startAgainOf(first)).toBe(again);
    keep();
    const second = await deliver(browser, callbackUrl);
    expect([second.status, leadsTo(second), startAgainOf(second)]).toEqual([400, undefined, again]);
  });
});

it('W27 Redis is away while the code is redeemed, or before: "start again" keeps return_to', async () => {
  const redis = await startFaultProxy(Number(new URL(inject('redisUrl')).port));
  const other = await startWorld({ redisUrl: redis.redisUrl });
  try {
    const browser = other.browser();
    const { callbackUrl } = await pendingLogin(browser, wanted);
    redis.refuse();
    const before = await deliver(browser, callbackUrl);
    expect([problemCode(before), startAgainOf(before)]).toEqual(['BFF_STORE_UNAVAILABLE', again]);
    redis.reset();
    await until(async () => (await other.app.ops.inject('/readyz')).statusCode === 200, { message: 'Redis is back' });
    const { promise, resolve } = Promise.withResolvers<void>();
    other.provider.faults = { tokenResponse: { holdUntil: promise } };
    const answer = deliver(browser, callbackUrl);
    await until(() => other.provider.tokenRequests().length > 0, { message: 'the token request' });
    redis.refuse();
    resolve();
    const page = await answer;
    expect([problemCode(page), startAgainOf(page)]).toEqual(['BFF_STORE_UNAVAILABLE', again]);
  } finally {
    redis.reset();
    await until(async () => (await other.app.ops.inject('/readyz')).statusCode === 200, { message: 'Redis is back' });
    await other.stop();
    await redis.stop();
  }
});

describe('W27 a login that does not even begin', () => {
  const start = (there: World, headers: Record<string, string> = {}) =>
    there.browser().navigate(again, { from: there.origin, headers, followRedirects: false });

  it('W27 the authorization server is down: "start again" keeps return_to', async () => {
    const other = await startWorld({ store: 'memory' });
    await other.provider.down();
    const page = await start(other);
    expect([page.status, startAgainOf(page)]).toEqual([503, again]);
    expect(page.text).toContain('<h1>Please try again shortly</h1>');
    await other.stop();
  });

  it.each([
    ['the issuer is another one', { issuer: 'https://id.example' }],
    ['there is no PKCE', { mutate: (json: object) => ({ ...json, code_challenge_methods_supported: undefined }) }],
  ])('W27 W49 %s: nobody is told to try again shortly', async (_what, discovery) => {
    const other = await startWorld({ store: 'memory' });
    other.provider.faults = { discovery };
    const page = await start(other);
    expect([page.status, problemCode(page)]).toEqual([503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE']);
    expect(page.text).toContain('trying again does not help');
    expect(page.text).not.toMatch(/try again/i);
    expect(startAgainOf(page)).toBe(again);
    await other.stop();
  });

  it('W27 a pushed authorization request that is refused: nobody is told to try again shortly', async () => {
    const other = await startWorld({ store: 'memory', provider: { par: true } });
    other.provider.faults = { par: { body: { error: 'invalid_client' }, status: 401 } };
    const page = await start(other);
    expect(page.text).toContain('trying again does not help');
    expect(startAgainOf(page)).toBe(again);
    other.provider.faults = { par: { status: 503 } };
    expect((await start(other)).text).toContain('<h1>Please try again shortly</h1>');
    await other.stop();
  });

  it('W27 too many attempts: "start again" keeps return_to', async () => {
    const other = await startWorld({
      store: 'memory',
      config: (data) => {
        data.limits.loginsPerMinute = 1;
      },
    });
    await start(other);
    const page = await start(other);
    expect([page.status, startAgainOf(page)]).toEqual([429, again]);
    await other.stop();
  });

  it('W34 W27 another site’s link: the page that asks for one click keeps return_to, within its rules', async () => {
    const browser = world.browser();
    const foreign = (returnTo: string) =>
      browser.crossSite(`/bff/login?return_to=${encodeURIComponent(returnTo)}`, { from: 'https://portal.example' });
    const page = await foreign(wanted);
    expect([page.status, page.setCookies, leadsTo(page)]).toEqual([403, [], undefined]);
    await expectWayBack(page, browser);
    for (const evil of ['//evil.example', 'https://evil.example/', '/bff/logout', '/\\evil.example'])
      expect(startAgainOf(await foreign(evil))).toBe('/bff/login?return_to=%2F');
  });

  it('W27 a link to a stronger login that another site opens keeps both', async () => {
    const other = await startWorld({
      store: 'memory',
      config: (data) => {
        data.apis.orders.require = { acr: ['urn:gold'] };
      },
    });
    const browser = await other.loggedIn();
    const refused = (await browser.fetch('/api/orders/1')).json<{ loginUrl: string }>();
    const url = `${refused.loginUrl}&return_to=${encodeURIComponent(wanted)}`;
    const page = await browser.crossSite(url, { from: 'https://portal.example' });
    expect([page.status, startAgainOf(page)]).toEqual([403, url]);
    // And so does the attempt that came of it.
    other.provider.faults = { authorize: { error: 'access_denied' } };
    const failed = await browser.navigate(url, { from: other.origin });
    expect(startAgainOf(failed)).toMatch(/^\/bff\/login\?step_up=[\w-]+&return_to=/);
    other.provider.reset();
    const landed = await browser.navigate(startAgainOf(failed) ?? '', { from: other.origin });
    expect(landed.hops.find(({ url: at }) => at.includes('/bff/callback'))?.location).toBe(wanted);
    expect((await browser.fetch('/api/orders/1', { headers: { 'x-csrf': '1' } })).status).toBe(200);
    await other.stop();
  });
});

it('W27 W28 W34 all of it below the path of a frontend', async () => {
  const other = await startWorld({
    config: (data) => {
      data.publicUrl += '/shop';
      Object.assign(data.authorizationServer, { silentLoginFrame: true, thirdPartyInitiatedLogin: true });
    },
  });
  const browser = other.browser();
  const open = (path: string) => browser.navigate(path, { from: other.origin });
  other.provider.faults = { authorize: { error: 'access_denied' } };
  expect(startAgainOf(await open('/shop/bff/login?return_to=%2Fshop%2Fx'))).toBe(
    '/shop/bff/login?return_to=%2Fshop%2Fx',
  );
  other.provider.faults = { authorize: { error: 'login_required' } };
  expect((await open('/shop/bff/login?prompt=none&return_to=%2Fshop%2Fx')).url).toBe(`${other.origin}/shop/x`);
  const frame = { from: other.origin, kind: 'iframe' } as const;
  expect((await browser.crossSite('/shop/bff/callback?state=x', frame)).text).toContain(
    'BFF_LOGIN_TRANSACTION_MISSING',
  );
  other.provider.reset();
  const tile = `/shop/bff/login?iss=${encodeURIComponent(other.provider.issuer)}`;
  const page = await browser.crossSite(tile, { from: 'https://portal.example' });
  expect(leadsTo(page)).toMatch(/^\/shop\/bff\/login\?.*return_to=%2Fshop%2F&/);
  expect((await open(leadsTo(page) ?? '')).url).toBe(`${other.origin}/shop/`);
  expect(await isLoggedIn(browser, '/shop/bff/session')).toBe(true);
  await other.stop();
});
