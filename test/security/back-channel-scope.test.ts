import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { call, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { startFrontends } from '../support/frontends.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { logOutByProvider, sendLogoutToken } from '../support/logout-token.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { onReplica } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

/** Logs in as this user at a provider session of this name. */
async function logInAt(world: World, sub = 'alice', sid?: string): Promise<Browser> {
  world.provider.nextLogin({ sub, ...(sid === undefined ? {} : { sid }) });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

describe('on two replicas', () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({ replicas: 2 });
  });
  afterAll(() => world.stop());
  beforeEach(() => world.provider.reset());

  const loggedIn = (sub?: string, sid?: string) => logInAt(world, sub, sid);

  async function expectDead(browser: Browser): Promise<void> {
    for (const replica of [0, 1]) expect((await call(onReplica(world, replica, browser))).status).toBe(401);
  }

  it('LO10 sid alone ends the sessions of that provider session only', async () => {
    const [one, two] = [await loggedIn('alice', 'sid-one'), await loggedIn('alice', 'sid-two')];
    expect((await logOutByProvider(world, { sid: 'sid-one', sub: null })).status).toBe(200);
    await expectDead(one);
    expect((await call(two)).status).toBe(200);
  });

  it('L-4 sub alone ends all sessions of the subject, on all replicas, and nobody else’s', async () => {
    const mine = [await loggedIn('alice'), await loggedIn('alice'), await loggedIn('alice')];
    const other = await loggedIn('bob');
    expect((await logOutByProvider(world, { sub: 'alice', sid: null })).status).toBe(200);
    for (const browser of mine) await expectDead(browser);
    expect((await call(other)).status).toBe(200);
  });

  it('LO10 with both, both must match', async () => {
    const [alice, bob] = [await loggedIn('alice', 'sid-a'), await loggedIn('bob', 'sid-b')];
    expect((await logOutByProvider(world, { sub: 'alice', sid: 'sid-b' })).status).toBe(200);
    for (const browser of [alice, bob]) expect((await call(browser)).status).toBe(200);
    expect((await logOutByProvider(world, { sub: 'alice', sid: 'sid-a' })).status).toBe(200);
    await expectDead(alice);
    expect((await call(bob)).status).toBe(200);
  });

  it('LO9 says 200 for a session that nobody knows, or that has ended', async () => {
    expect((await logOutByProvider(world, { sub: null, sid: 'nobody' })).status).toBe(200);
    const browser = await loggedIn('alice', 'sid-ended');
    await logOut(browser);
    for (let count = 0; count < 2; count++)
      expect((await logOutByProvider(world, { sid: 'sid-ended', sub: 'alice' })).status).toBe(200);
  });

  it('L-5 a session still ends after an older one of the same user did', async () => {
    const [older, newer] = [await loggedIn('alice'), await loggedIn('alice')];
    await logOut(older);
    expect((await logOutByProvider(world, { sub: 'alice', sid: null })).status).toBe(200);
    await expectDead(newer);
  });

  it('LO13 leaves the next login of the same browser alone', async () => {
    const browser = await loggedIn('alice', 'sid-before');
    world.provider.nextLogin({ sub: 'alice', sid: 'sid-after' });
    await browser.login('/');
    await logOutByProvider(world, { sid: 'sid-before', sub: null });
    expect((await call(browser)).status).toBe(200);
  });

  it('L-6 fetches the keys a bounded number of times for made-up key ids, and serves everybody else', async () => {
    const browser = await loggedIn();
    const before = world.provider.requestsTo('jwks').length;
    const flood = Array.from({ length: 500 }, (_, index) =>
      logOutByProvider(world, { alg: 'forged', header: { kid: `made-up-${index}` } }, { replica: index % 2 }),
    );
    const calls = Array.from({ length: 20 }, () => call(browser));
    for (const { status } of await Promise.all(calls)) expect(status).toBe(200);
    for (const { status } of await Promise.all(flood)) expect([400, 503]).toContain(status);
    expect(world.provider.requestsTo('jwks').length - before).toBeLessThanOrEqual(2); // one for each replica
    expect((await logOutByProvider(world)).status).toBe(200);
    await expectDead(browser);
  });
});

describe('in other circumstances', () => {
  let world: World;
  afterEach(() => world.stop());

  it('LO7 with the strict setting only the type logout+jwt passes', async () => {
    world = await startWorld({
      config: (data) => Object.assign(data.authorizationServer, { strictLogoutTokenType: true }),
    });
    const browser = await logInAt(world);
    for (const typ of ['JWT', undefined, null, 'at+jwt'])
      expect((await logOutByProvider(world, { header: { typ } })).status, String(typ)).toBe(400);
    expect((await call(browser)).status).toBe(200);
    expect((await logOutByProvider(world, { header: { typ: 'Logout+JWT' } })).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });

  it('LO9 says 503 while Redis is gone, and does the same token once it is back', async () => {
    const proxy = await startRedisProxy();
    world = await startWorld({ redisUrl: proxy.redisUrl });
    const browser = await logInAt(world);
    const token = world.provider.logoutToken();
    await logOutByProvider(world, { sid: 'warm-up', sub: null }); // the keys are known
    proxy.refuse();
    const refused = await sendLogoutToken(world, token);
    expect(refused.status).toBe(503);
    expect(refused.headers['retry-after']).toBeDefined();
    proxy.reset();
    await until(async () => (await sendLogoutToken(world, token)).status === 200, { message: 'the logout' });
    expect((await call(browser)).status).toBe(401);
  });

  it('LO9 says 503 while the keys can’t be fetched, and does the same token once they can', async () => {
    world = await startWorld({ store: 'memory' });
    const browser = await logInAt(world);
    world.provider.rotateKeys();
    world.clock.advance(60_000);
    const token = () => world.provider.logoutToken({ claims: { exp: Math.floor(Date.now() / 1000) + 600 } });
    world.provider.faults.jwks = [{ status: 500 }];
    expect((await sendLogoutToken(world, token())).status).toBe(503);
    // Just after a failure nobody may ask again: then too nothing is known about the key.
    expect((await sendLogoutToken(world, token())).status).toBe(503);
    expect((await call(browser)).status).toBe(200);
    world.clock.advance(3000);
    expect((await sendLogoutToken(world, token())).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });

  it('L-6 asks a provider to send again what it signed with a key that could not be looked up yet', async () => {
    world = await startWorld({ store: 'memory' });
    const browser = await logInAt(world);
    // Somebody sends a made-up key id just before the provider changes its keys.
    world.clock.advance(60_000);
    expect((await logOutByProvider(world, { alg: 'forged', header: { kid: 'made-up' } })).status).toBe(400);
    world.provider.rotateKeys();
    const token = world.provider.logoutToken({ claims: { exp: Math.floor(Date.now() / 1000) + 600 } });
    expect((await sendLogoutToken(world, token)).status).toBe(503);
    world.clock.advance(31_000);
    expect((await sendLogoutToken(world, token)).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });

  it('LO1 logs out the users of a provider whose clock is minutes behind', async () => {
    const behind = () => Date.now() - 200_000;
    world = await startWorld({
      provider: { now: behind },
      config: (data) => Object.assign(data.authorizationServer, { clockTolerance: '10s' }),
    });
    const browser = await logInAt(world);
    const exp = Math.floor(Date.now() / 1000) + 120;
    expect((await logOutByProvider(world, { claims: { exp } })).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });
});

describe('L-4 two frontends', () => {
  it('L-4 a logout token of one frontend’s client does not touch the sessions of the other', async () => {
    const frontends = await startFrontends('path');
    try {
      const { world, officeProvider } = frontends;
      const claims = { sub: 'alice', sid: 'same-sid' };
      const browsers = { shop: frontends.browser(world.origin), office: frontends.browser(world.origin) };
      for (const [name, provider] of [
        ['shop', world.provider],
        ['office', officeProvider],
      ] as const) {
        provider.nextLogin(claims);
        await browsers[name].navigate(`/${name}/bff/login`);
      }
      const isIn = (name: 'shop' | 'office') => isLoggedIn(browsers[name], `/${name}/bff/session`);
      expect([await isIn('shop'), await isIn('office')]).toEqual([true, true]);

      const foreign = await sendLogoutToken(world, officeProvider.logoutToken(claims), {
        path: '/shop/bff/backchannel-logout',
      });
      expect(foreign.status).toBe(400);
      expect([await isIn('shop'), await isIn('office')]).toEqual([true, true]);
      const own = await sendLogoutToken(world, officeProvider.logoutToken(claims), {
        path: '/office/bff/backchannel-logout',
      });
      expect(own.status).toBe(200);
      expect([await isIn('shop'), await isIn('office')]).toEqual([true, false]);
    } finally {
      await frontends.stop();
    }
  });
});
