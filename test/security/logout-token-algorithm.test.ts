import { afterEach, describe, expect, it } from 'vitest';
import { call, forceRefresh } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import type { EvilAlgorithm } from '../support/evil-provider/faults.ts';
import type { LogoutTokenOptions } from '../support/evil-provider.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { logOutByProvider, sendLogoutToken } from '../support/logout-token.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';

// W48: Back-Channel Logout §2.6 wants the algorithm that is registered for the client's ID tokens. Nobody tells us which
// that is, but the configuration or the ID tokens themselves.

let world: World;
afterEach(() => world.stop());

/** Of the provider's next ID tokens; its key set has both keys. */
function sign(login: EvilAlgorithm, refresh: EvilAlgorithm = 'ES256'): void {
  Object.assign(world.provider.faults, { idToken: { alg: login }, refreshIdToken: { alg: refresh } });
}

async function start(algorithms?: string[]): Promise<void> {
  world = await startTimedWorld({
    config: ({ authorizationServer }) => {
      if (algorithms !== undefined) authorizationServer.idTokenSigningAlgorithms = algorithms;
    },
    provider: { idTokenAlgorithms: ['RS256', 'ES256'] },
  });
}

async function loggedIn(alg: EvilAlgorithm, sub = 'alice', sid?: string): Promise<Browser> {
  sign(alg);
  world.provider.nextLogin({ sub, ...(sid === undefined ? {} : { sid }) });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

const lives = async (browser: Browser) => (await call(browser)).status === 200;
const refusals = () => world.log.lines.filter(({ audit }) => audit === 'logout_token_refused');

async function expectRefused(options: LogoutTokenOptions): Promise<void> {
  const answer = await logOutByProvider(world, options);
  expect([answer.status, JSON.parse(answer.text).error]).toEqual([400, 'invalid_request']);
  expect(refusals()).toMatchObject([{ level: 'warn', reason: 'algorithm', algorithm: options.alg }]);
}

describe('W48 a logout token', () => {
  it('W48 of another algorithm than this session’s ID token is refused, and operators are told', async () => {
    await start();
    const browser = await loggedIn('RS256');
    await expectRefused({ alg: 'ES256' });
    expect(await lives(browser)).toBe(true);
    expect((await logOutByProvider(world, { alg: 'RS256' })).status).toBe(200);
    expect(await lives(browser)).toBe(false);
  });

  it.each(['RS256', 'ES256'] as const)('W48 of the same algorithm, %s, is taken', async (alg) => {
    await start();
    const browser = await loggedIn(alg);
    expect((await logOutByProvider(world, { alg })).status).toBe(200);
    expect(await lives(browser)).toBe(false);
  });

  it('W48 is taken when a refreshed ID token had its algorithm, and still when the first one had', async () => {
    await start();
    for (const alg of ['ES256', 'RS256'] as const) {
      const browser = await loggedIn('RS256');
      expect((await forceRefresh(browser)).status).toBe(200);
      expect((await logOutByProvider(world, { alg })).status, alg).toBe(200);
      expect(await lives(browser), alg).toBe(false);
    }
  });

  it('W48 ends all that it names when one of them had its algorithm: a missed logout is worse', async () => {
    await start();
    const browsers = [await loggedIn('RS256'), await loggedIn('ES256')];
    const other = await loggedIn('RS256', 'bob');
    expect((await logOutByProvider(world, { alg: 'ES256', sub: 'alice', sid: null })).status).toBe(200);
    for (const browser of browsers) expect(await lives(browser)).toBe(false);
    expect(await lives(other)).toBe(true);
  });

  it('W48 is judged by the sessions that it names, not by others of this client', async () => {
    await start();
    await loggedIn('ES256', 'bob');
    const browser = await loggedIn('RS256', 'alice', 'sid-1');
    await loggedIn('ES256', 'alice', 'sid-2');
    await expectRefused({ alg: 'ES256', sub: 'alice', sid: 'sid-1' });
    expect(await lives(browser)).toBe(true);
  });

  it('W48 that names no session of ours is taken as long as nothing is known of the algorithm', async () => {
    await start();
    expect((await logOutByProvider(world, { alg: 'ES256', sub: null, sid: 'nobody' })).status).toBe(200);
  });

  it('W48 that comes after the logout of the user is judged by what this client’s ID tokens had', async () => {
    await start();
    const browser = await loggedIn('RS256');
    await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    await expectRefused({ alg: 'ES256' });
    expect((await logOutByProvider(world, { alg: 'RS256' })).status).toBe(200);
    sign('ES256');
    expect(await lives(await loggedIn('ES256', 'bob'))).toBe(true);
    expect((await logOutByProvider(world, { alg: 'ES256', sub: 'alice', sid: null })).status).toBe(200);
  });

  it('W48 that was refused is no mark for a login that is under way', async () => {
    await start();
    await loggedIn('RS256', 'alice', 'sid-1');
    await expectRefused({ alg: 'ES256', sub: 'alice', sid: 'sid-1' });
    expect(await lives(await loggedIn('RS256', 'alice', 'sid-1'))).toBe(true);
  });

  it('W48 that is refused only for its algorithm is not used up', async () => {
    await start();
    const browser = await loggedIn('RS256');
    const claims = { jti: 'same' };
    await expectRefused({ alg: 'ES256', claims });
    expect((await sendLogoutToken(world, world.provider.logoutToken({ claims }))).status).toBe(200);
    expect(await lives(browser)).toBe(false);
  });

  it('W48 that nobody trusted signed is no warning, whatever its algorithm', async () => {
    await start(['RS256']);
    await loggedIn('RS256');
    for (const alg of ['ES256', 'RS256', 'none'])
      expect((await logOutByProvider(world, { alg: 'forged', header: { alg } })).status).toBe(400);
    expect(refusals().map(({ level }) => level)).toEqual(['info', 'info', 'info']);
  });
});

describe('W48 where the configuration names the algorithms', () => {
  it('W48 each of them is taken, whatever the ID token had', async () => {
    await start(['RS256', 'ES256']);
    const browser = await loggedIn('RS256');
    expect((await logOutByProvider(world, { alg: 'ES256' })).status).toBe(200);
    expect(await lives(browser)).toBe(false);
  });

  it('W48 no other one is', async () => {
    await start(['RS256']);
    const browser = await loggedIn('RS256');
    await expectRefused({ alg: 'ES256' });
    expect(await lives(browser)).toBe(true);
  });
});
