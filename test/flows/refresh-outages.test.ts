import { afterEach, describe, expect, it } from 'vitest';
import { bearers, call, sessionOf } from '../support/api-calls.ts';
import type { TokenFault } from '../support/evil-provider/faults.ts';
import { problemCode } from '../support/login-attempt.ts';
import { ageing, expired, impatient, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const refreshes = () => world.provider.tokenRequests('refresh_token');

describe('a refresh that fails', () => {
  const outages: [what: string, fault: TokenFault][] = [
    ['invalid_client', { status: 401, body: { error: 'invalid_client' } }],
    ['invalid_client with status 400', { body: { error: 'invalid_client' } }],
    ['a challenge', { status: 401, headers: { 'www-authenticate': 'Basic' }, body: { error: 'invalid_client' } }],
    ['a bare 401', { status: 401 }],
    ['unauthorized_client', { body: { error: 'unauthorized_client' } }],
    ['invalid_request', { body: { error: 'invalid_request' } }],
    ['invalid_scope', { body: { error: 'invalid_scope' } }],
    ['an error nobody knows', { body: { error: 'Invalid_Grant' } }],
    ['invalid_grant, but as a description', { body: { error: 'server_error', error_description: 'invalid_grant' } }],
    ['invalid_grant, but with status 500', { status: 500, body: { error: 'invalid_grant' } }],
    ['403', { status: 403 }],
    ['429', { status: 429 }],
    ['429 with Retry-After', { status: 429, headers: { 'retry-after': '20' } }],
    ['500', { status: 500 }],
    ['503', { status: 503 }],
    ['a page', { status: 502, body: '<h1>Maintenance</h1>', headers: { 'content-type': 'text/html' } }],
    ['a redirect', { redirectTo: 'http://127.0.0.1:1/' }],
    ['a dropped connection', { reset: true }],
    ['silence', { hang: true }],
  ];

  it.each(outages)(
    'T117 with %s keeps the session: the old token while it lives, then 503, then all is well',
    async (_what, fault) => {
      world = await startTimedWorld({ config: impatient });
      world.allowErrors(); // an operator must look at invalid_client
      const browser = await world.loggedIn();
      world.provider.faults.refreshResponse = fault;
      world.clock.advance(ageing);
      expect((await call(browser)).status).toBe(200);
      await until(() => /the session is kept|Sessions are kept/.test(world.log.text()));
      expect((await call(browser)).status).toBe(200);

      world.clock.advance(expired - ageing);
      const refused = await call(browser);
      expect({ status: refused.status, code: problemCode(refused) }).toEqual({
        status: 503,
        code: 'BFF_TOKEN_UNAVAILABLE',
      });
      expect(Number(refused.header('retry-after'))).toBeGreaterThan(0);
      expect(refused.setCookies).toEqual([]);
      expect((await sessionOf(browser)).authenticated).toBe(true);

      delete world.provider.faults.refreshResponse;
      world.clock.advance(60_000);
      expect((await call(browser)).status).toBe(200);
      expect(new Set(bearers(world)).size).toBe(2);
      expect(world.provider.reuseDetected()).toBe(0);
    },
  );

  it('T117 because nobody listens keeps the session', async () => {
    world = await startTimedWorld({ config: impatient });
    const browser = await world.loggedIn();
    await world.provider.down();
    world.clock.advance(ageing);
    expect((await call(browser)).status).toBe(200);
    world.clock.advance(expired - ageing);
    expect((await call(browser)).status).toBe(503);
    await world.provider.up();
    world.clock.advance(60_000);
    expect((await call(browser)).status).toBe(200);
  });

  it('T117 with invalid_grant ends the session', async () => {
    world = await startTimedWorld({ config: impatient });
    const browser = await world.loggedIn();
    world.provider.revokeGrants('alice');
    world.clock.advance(expired);
    const refused = await call(browser);
    expect({ status: refused.status, code: problemCode(refused) }).toEqual({
      status: 401,
      code: 'BFF_SESSION_REQUIRED',
    });
    // Left alone: a slow call must not clear the cookie of a login that came meanwhile (SE13).
    expect(refused.setCookies).toEqual([]);
    expect((await sessionOf(browser)).authenticated).toBe(false);
    expect(refreshes()).toHaveLength(1);
  });

  it('T117 with invalid_grant ahead of the end ends the session as well', async () => {
    world = await startTimedWorld({ config: impatient });
    const browser = await world.loggedIn();
    world.provider.revokeGrants('alice');
    world.clock.advance(ageing);
    await call(browser);
    await until(async () => !(await sessionOf(browser)).authenticated);
    expect((await call(browser)).status).toBe(401);
  });

  it('T117 is not tried again by others before its pause is over, on any replica', async () => {
    world = await startWorld({ replicas: 2, provider: { accessTokenSeconds: 1 } });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { status: 503, headers: { 'retry-after': '30' } };
    const elsewhere = world.browser(1);
    for (const { name, value } of browser.cookies()) elsewhere.setCookie(`${name}=${value}; Path=/`, { force: true });
    for (const one of [browser, elsewhere]) await until(async () => (await call(one)).status === 503);
    for (const one of [browser, elsewhere, browser, elsewhere]) {
      const refused = await call(one);
      expect(refused.status).toBe(503);
      expect(Number(refused.header('retry-after'))).toBeGreaterThan(20);
    }
    expect(refreshes()).toHaveLength(1);
    expect((await sessionOf(elsewhere)).authenticated).toBe(true);
  });

  it('T117 pauses longer from time to time', async () => {
    world = await startTimedWorld({ config: impatient });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { status: 503 };
    world.clock.advance(expired);
    const pauses: number[] = [];
    for (let i = 0; i < 6; i++) {
      pauses.push(Number((await call(browser)).header('retry-after')));
      world.clock.advance(31_000);
    }
    expect(pauses[0]).toBeLessThanOrEqual(3);
    expect(pauses[5]).toBeGreaterThanOrEqual(10);
    expect(pauses).toEqual(pauses.toSorted((a, b) => a - b));
    expect(refreshes()).toHaveLength(6);
  });
});
