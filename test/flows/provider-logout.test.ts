import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { redisError } from '../support/fault-proxy.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { startOutageWorld } from '../support/outage-world.ts';
import { isScript } from '../support/redis-scripts.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// The other half of a logout: the authorization server's own session (OpenID Connect RP-Initiated Logout).

const evil = 'https://evil.example';
let world: World;
beforeAll(async () => {
  world = await startWorld({ replicas: 2 });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const linkOf = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ logoutUrl: string }>().logoutUrl;
const endSessionUrlOf = async (browser: Browser) =>
  (await logOut(browser)).json<{ endSessionUrl: string | null }>().endSessionUrl ?? '';
/** Where this link leads, one step. */
const follow = (browser: Browser, path: string, options = {}) =>
  browser.navigate(path, { from: browser.origin, followRedirects: false, ...options });

function expectWithoutHint(url: string | undefined, { provider, origin }: World = world): void {
  expect(url).toContain(`${provider.issuer}/end_session?`);
  const parameters = Object.fromEntries(new URL(url as string).searchParams);
  expect(parameters).toEqual({
    client_id: 'cloakroom',
    post_logout_redirect_uri: `${origin}/`,
    state: expect.stringMatching(/^[\w-]{22}$/),
  });
}

describe('W26 a logout without a session of ours', () => {
  const endings: Record<string, (browser: Browser) => Promise<unknown>> = {
    'never was': async (browser) => browser.clearCookies(),
    'was ended by the provider': () => logOutByProvider(world),
    'was ended in another tab': (browser) => logOut(browser.clone()),
    'can’t be read': async (browser) =>
      browser.setCookie('cloakroom=forged.by-somebody; Path=/; HttpOnly; SameSite=Strict', { force: true }),
  };

  it.each(Object.entries(endings))('W26 by POST, that %s, leads to the provider’s', async (_name, end) => {
    const browser = await world.loggedIn('alice');
    await end(browser);
    expectWithoutHint(await endSessionUrlOf(browser));
    expect(browser.cookies()).toEqual([]);
  });

  it.each(Object.entries(endings))('W26 by the page’s link, that %s, leads to the provider’s', async (_name, end) => {
    const browser = await world.loggedIn('alice');
    const link = await linkOf(browser);
    await end(browser);
    expectWithoutHint((await follow(browser, link)).header('location'));
    const page = await browser.navigate(link, { from: world.origin });
    expect(page.hops.map(({ url }) => new URL(url).pathname)).toEqual(['/bff/logout', '/end_session', '/']);
  });

  it('W26 that ran out leads to the provider’s', async () => {
    const timed = await startTimedWorld();
    const [posting, linking] = [await timed.loggedIn('alice'), await timed.loggedIn('bob')];
    const link = await linkOf(linking);
    timed.clock.advance(100 * 24 * 3_600_000);
    expectWithoutHint(await endSessionUrlOf(posting), timed);
    expectWithoutHint((await follow(linking, link)).header('location'), timed);
    for (const browser of [posting, linking]) expect(browser.cookies()).toEqual([]);
    await timed.stop();
  });

  it('W26 from the address bar leads to the provider’s, and nowhere that the query says', async () => {
    const query = 'sid=x&return_to=//evil.example&post_logout_redirect_uri=//evil&state=evil';
    expectWithoutHint((await follow(world.browser(), `/bff/logout?${query}`, { from: 'user' })).header('location'));
  });

  it('W26 by a link with the proof of a session that is over needs no metadata of an old browser', async () => {
    const browser = await world.loggedIn('alice');
    const link = await linkOf(browser);
    await logOut(browser.clone());
    const old = { 'sec-fetch-site': undefined, 'sec-fetch-mode': undefined, 'sec-fetch-dest': undefined };
    expectWithoutHint((await follow(browser, link, { headers: old })).header('location'));
  });

  it.each(['link', 'image', 'iframe', 'script', 'fetch'] as const)(
    'T62 is no way for another site to log people out at the provider, by a %s',
    async (kind) => {
      const alice = await world.loggedIn('alice');
      for (const browser of [world.browser(), alice]) {
        for (const from of [evil, 'http://evil.localhost']) {
          const page = await browser.crossSite('/bff/logout?sid=x', { from, kind });
          expect([page.status, page.header('location')]).toEqual([303, '/']);
        }
      }
      expect(await isLoggedIn(alice)).toBe(true);
      expect(world.provider.requestsTo('endSession')).toEqual([]);
    },
  );

  it('T62 nor is it for an image in our own page, a browser without metadata, or one that looks ahead', async () => {
    const image = { mode: 'no-cors', destination: 'image' } as const;
    expect((await world.browser().fetch('/bff/logout', image)).header('location')).toBe('/');
    const old = { 'sec-fetch-site': undefined, 'sec-fetch-mode': undefined, 'sec-fetch-dest': undefined };
    expect((await follow(world.browser(), '/bff/logout?sid=x', { headers: old })).header('location')).toBe('/');
    const ahead = await follow(world.browser(), '/bff/logout', { headers: { 'sec-purpose': 'prefetch' } });
    expect(ahead.status).toBe(403);
  });

  it('T56 needs the header when it is a POST', async () => {
    const page = await world.browser().fetch('/bff/logout', { method: 'POST' });
    expect([page.status, page.json().code]).toEqual([403, 'BFF_CSRF_REJECTED']);
  });
});

describe('W30 names of the logout parameters', () => {
  const started = async (change: (authorizationServer: ConfigData) => void, metadata: object = {}) => {
    const other = await startWorld({ store: 'memory', config: (data) => change(data.authorizationServer) });
    other.provider.faults.discovery = { mutate: (json) => ({ ...json, ...metadata }) };
    return other;
  };
  const parametersOf = (url: string) => Object.fromEntries(new URL(url).searchParams);

  it('W30 are what Cognito takes', async () => {
    const cognito = await started((server) => {
      server.logoutParameterNames = { post_logout_redirect_uri: 'logout_uri', state: false, logout_hint: false };
    });
    const url = await endSessionUrlOf(await cognito.loggedIn('alice'));
    expect(url).toContain(`${cognito.provider.issuer}/end_session?`);
    expect(parametersOf(url)).toEqual({ client_id: 'cloakroom', logout_uri: `${cognito.origin}/` });
    await cognito.stop();
  });

  it('W30 and its address, where the metadata has none, are what Auth0’s /v2/logout takes', async () => {
    const auth0 = await started(
      (server) => {
        server.endSessionEndpoint = `${server.issuer}/v2/logout`;
        server.logoutParameterNames = { post_logout_redirect_uri: 'returnTo' };
        server.extraLogoutParameters = { federated: '' };
      },
      { end_session_endpoint: undefined },
    );
    const browser = await auth0.loggedIn('alice');
    const link = await linkOf(browser);
    const page = await follow(browser, link);
    expect(page.status).toBe(303);
    const url = page.header('location') as string;
    expect(url).toContain(`${auth0.provider.issuer}/v2/logout?`);
    expect(parametersOf(url)).toEqual({
      client_id: 'cloakroom',
      returnTo: `${auth0.origin}/`,
      state: expect.any(String),
      logout_hint: auth0.provider.refreshFamilies()[0]?.login.sid,
      federated: '',
    });
    await auth0.stop();
  });

  it('W30 a configured address goes before that of the metadata, and is known while the provider is gone', async () => {
    const other = await started((server) => {
      server.endSessionEndpoint = `${server.issuer}/elsewhere`;
    });
    await other.provider.down();
    expect(await endSessionUrlOf(other.browser())).toContain(`${other.provider.issuer}/elsewhere?client_id=cloakroom`);
    await other.provider.up();
    await other.stop();
  });

  it('W30 a query that the provider’s own address has is kept (Azure AD B2C)', async () => {
    const b2c = await started(() => undefined, {});
    b2c.provider.faults.discovery = {
      mutate: (json) => ({ ...json, end_session_endpoint: `${json.end_session_endpoint}?p=b2c_1_in` }),
    };
    const url = await endSessionUrlOf(await b2c.loggedIn('alice'));
    expect(parametersOf(url)).toMatchObject({ p: 'b2c_1_in', client_id: 'cloakroom' });
    await b2c.stop();
  });

  it('W30 the hint of Entra is its claim login_hint', async () => {
    const url = await endSessionUrlOf(await world.loggedIn('alice', { login_hint: 'O.CiQ1' }));
    expect(parametersOf(url).logout_hint).toBe('O.CiQ1');
  });

  it('W30 a provider that has no end-session page (Google) is not asked', async () => {
    const google = await started(() => undefined, { end_session_endpoint: undefined });
    const browser = await google.loggedIn('alice');
    expect(await endSessionUrlOf(browser)).toBe('');
    expect((await follow(browser, '/bff/logout')).header('location')).toBe('/');
    await google.stop();
  });
});

describe('W45 the revocation', () => {
  /** Whatever waits, waits for as long as a call to the provider may take. */
  const worldThatWaits = (timeout: string) =>
    startWorld({
      store: 'memory',
      config(data) {
        data.authorizationServer.timeout = timeout;
        data.shutdown = { grace: '9h' }; // never shorter than calls may take
      },
    });

  it('W45 comes after the browser had time for the end-session page', async () => {
    const other = await worldThatWaits('2s');
    const browser = await other.loggedIn('alice');
    await browser.navigate(await endSessionUrlOf(browser), { from: other.origin });
    await until(() => other.provider.revoked.length === 1, { timeoutMs: 10_000, message: 'the revocation' });
    const [page, revocation] = (['endSession', 'revocation'] as const).map(
      (endpoint) => other.provider.requestsTo(endpoint)[0]?.at ?? 0,
    );
    // Two seconds, less what the browser took.
    expect((revocation ?? 0) - (page ?? 0)).toBeGreaterThan(500);
    await other.stop();
  });

  it('W45 comes at once where there is no end-session page', async () => {
    const without = await worldThatWaits('1h');
    without.provider.faults.discovery = { mutate: (json) => ({ ...json, end_session_endpoint: undefined }) };
    await logOut(await without.loggedIn('alice'));
    await until(() => without.provider.revoked.length === 1, { message: 'the revocation' });
    await without.stop();
  });

  it('W45 comes at once when all sessions of the user are ended from the list', async () => {
    const everywhere = await worldThatWaits('1h');
    const browser = await everywhere.loggedIn('alice');
    await browser.fetch('/bff/sessions', { method: 'DELETE', headers: { 'x-csrf': '1' } });
    await until(() => everywhere.provider.revoked.length === 1, { message: 'the revocation' });
    await everywhere.stop();
  });

  it('W45 comes at once when the process stops', async () => {
    const stopping = await worldThatWaits('1h');
    await logOut(await stopping.loggedIn('alice'));
    await logOut(await stopping.loggedIn('bob'));
    expect(stopping.provider.revoked).toEqual([]);
    await stopping.stop();
    expect(stopping.provider.revoked).toHaveLength(2);
  });

  it('W45 comes also where it can’t be told who else is logged in, and another device of the user is', async () => {
    const outage = await startOutageWorld((data) => {
      data.authorizationServer.timeout = '500ms';
    });
    await outage.loggedIn('alice');
    const browser = await outage.loggedIn('alice');
    const [isListing, refuse] = [isScript('indexList'), redisError('LOADING Redis is loading the dataset in memory')];
    let refused = 0;
    outage.proxy.faults.answer = (request) => {
      if (!isListing(request)) return undefined;
      outage.proxy.faults.answer = undefined;
      refused++;
      return refuse(request);
    };
    await logOut(browser);
    await until(() => outage.provider.revoked.length === 1, { message: 'the revocation' });
    expect(refused).toBe(1);
    await outage.stop();
  });
});
