import { afterEach, describe, expect, it } from 'vitest';
import { bearers, call, createGate, sessionOf } from '../support/api-calls.ts';
import type { TokenFault } from '../support/evil-provider/faults.ts';
import { problemCode } from '../support/login-attempt.ts';
import { expired, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const refreshes = () => world.provider.tokenRequests('refresh_token');
/** As a directory of a large company has them. */
const groups = (count: number) => Array.from({ length: count }, (_, index) => `${index}-`.padEnd(120, 'g'));

describe('a server that answers late', () => {
  it('W40 by more than other calls may take keeps its rotation, and its users wait no longer for it', async () => {
    world = await startTimedWorld({
      config: (data) => {
        Object.assign(data.authorizationServer, { timeout: '200ms', refreshTimeout: '20s' });
        data.tokens = { waitForRefresh: '300ms' };
      },
    });
    const browser = await world.loggedIn();
    const { opened, open } = createGate();
    world.provider.faults.refreshResponse = { times: 1, holdUntil: opened };
    world.clock.advance(expired);
    const refused = await call(browser); // by then the call is older than `timeout`
    expect([refused.status, problemCode(refused)]).toEqual([503, 'BFF_TOKEN_UNAVAILABLE']);
    expect(refused.json()).not.toHaveProperty('loginUrl');
    open();
    await until(async () => (await call(browser)).status === 200);
    expect(refreshes()).toHaveLength(1);
    expect(world.provider.reuseDetected()).toBe(0);
  });
});

describe('long tokens', () => {
  it('W21 a user with 152 groups logs in, and rules see them', async () => {
    world = await startWorld({
      store: 'memory',
      config: (data) => {
        data.apis.orders.require = { claims: { groups: groups(152).at(-1) } };
      },
    });
    const browser = await world.loggedIn('alice', { groups: groups(152) });
    expect((await call(browser)).status).toBe(200);
  });

  it('W22 groups that grow during the session cost neither the session nor a second refresh', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn('alice', { groups: groups(2) });
    world.provider.faults.refreshIdToken = { claims: { groups: groups(400) } };
    world.clock.advance(expired);
    expect((await call(browser)).status).toBe(200);
    expect(refreshes()).toHaveLength(1);
    expect(world.provider.reuseDetected()).toBe(0);
  });

  it('W21 only the API that is sent the ID token goes without one that fits no header', async () => {
    world = await startWorld({
      store: 'memory',
      config: (data) => {
        const { upstream } = data.apis.orders;
        data.apis.forms = { path: '/api/forms', upstream, idTokenHeader: 'x-id-token' };
      },
    });
    const browser = await world.loggedIn('alice', { groups: groups(152) });
    expect((await call(browser)).status).toBe(200);
    const refused = await browser.fetch('/api/forms/1', { headers: { 'x-csrf': '1' } });
    expect([refused.status, problemCode(refused)]).toEqual([403, 'BFF_TOKEN_REFUSED']);
    expect(world.log.text()).toContain('too long for idTokenHeader');
  });
});

describe('a server that refuses', () => {
  it('W24 is told of by every replica, as long as nobody asks again', async () => {
    world = await startWorld({ replicas: 2, provider: { accessTokenSeconds: 1 } });
    world.allowErrors();
    const browser = await world.loggedIn();
    const elsewhere = world.browser(1);
    for (const { name, value } of browser.cookies()) elsewhere.setCookie(`${name}=${value}; Path=/`, { force: true });
    world.provider.faults.refreshResponse = {
      status: 401,
      body: { error: 'invalid_client', error_description: 'Session not active' },
    };
    // For each replica the token is over when its own look at the clock says so.
    for (const one of [browser, elsewhere]) await until(async () => (await call(one)).status === 503);
    for (const one of [browser, elsewhere, browser, elsewhere]) {
      const refused = await call(one);
      expect(refused.status).toBe(503);
      expect(refused.json()).toMatchObject({ code: 'BFF_TOKEN_UNAVAILABLE', loginUrl: '/bff/login' });
    }
    expect(refreshes()).toHaveLength(1);
    expect((await sessionOf(elsewhere)).authenticated).toBe(true);
    // What came is told to operators, and nobody blamed for it.
    expect(world.log.lines.find(({ msg }) => /refuses to refresh/.test(String(msg)))).toMatchObject({
      fault: { said: { status: 401, error: 'invalid_client', description: 'Session not active' } },
    });
  });

  it.each<[what: string, fault: TokenFault, status: number, code: string]>([
    [
      'W46 unauthorized_client with 401 is about us',
      { status: 401, body: { error: 'unauthorized_client' } },
      503,
      'BFF_TOKEN_UNAVAILABLE',
    ],
    [
      'W46 unauthorized_client with 401 and a challenge is about us',
      { status: 401, headers: { 'www-authenticate': 'Basic' }, body: { error: 'unauthorized_client' } },
      503,
      'BFF_TOKEN_UNAVAILABLE',
    ],
    [
      'unauthorized_client with 400 is about this token',
      { body: { error: 'unauthorized_client' } },
      403,
      'BFF_TOKEN_REFUSED',
    ],
  ])('%s', async (_what, fault, status, code) => {
    world = await startWorld({
      store: 'memory',
      config: (data) => Object.assign(data.apis.orders, { token: 'user-or-client' }),
    });
    world.provider.faults.tokenResponse = fault;
    const refused = await call(world.browser());
    expect([refused.status, problemCode(refused)]).toEqual([status, code]);
    expect(bearers(world)).toEqual([]);
    expect(world.log.lines.find(({ msg }) => /no application token/.test(String(msg)))).toMatchObject({
      fault: { said: { error: 'unauthorized_client' } },
    });
  });
});
