import { afterEach, describe, expect, it } from 'vitest';
import { call, forceRefresh, sessionOf } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { problemCode } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';

// A refreshed ID token tells of another authentication than the login (W38): Keycloak after a step-up in another
// application of the same SSO session, django-oauth-toolkit after a login on another device.

let world: World;
afterEach(() => world.stop());

interface Fact {
  acr?: string | undefined;
  amr?: unknown;
  auth_time?: number | undefined;
}

const secondsAgo = (seconds: number) => Math.floor(world.clock.now() / 1000) - seconds;

/** Logs in with `login`, then refreshes with an ID token that says `then`. */
async function refreshed(login: () => Fact, then: () => Fact, require?: object): Promise<Browser> {
  world = await startTimedWorld({
    config: (data) => {
      data.session.claims = ['sub', 'acr', 'amr', 'auth_time', 'roles'];
      if (require !== undefined) data.apis.orders.require = require;
    },
  });
  world.provider.faults.idToken = { claims: { acr: undefined, ...login() } };
  const browser = await world.loggedIn('alice');
  world.provider.faults.refreshIdToken = { claims: { acr: undefined, roles: ['new'], ...then() } };
  expect((await forceRefresh(browser)).status).toBe(200);
  return browser;
}

const strengthOf = async (browser: Browser) => {
  const { acr, amr, auth_time } = (await sessionOf(browser)).user as Fact;
  return { acr, amr, auth_time };
};

describe('W38 a refresh with another authentication', () => {
  it.each<[what: string, login: Fact, then: Fact]>([
    ['a later auth_time', {}, { auth_time: 4_000_000_000 }],
    ['a higher level', { acr: '1' }, { acr: '2' }],
    ['an acr without an order', { acr: 'urn:silver' }, { acr: 'urn:gold' }],
    ['an acr where the login had none', {}, { acr: 'urn:gold' }],
    ['one more method', { amr: ['pwd'] }, { amr: ['pwd', 'otp'] }],
    ['methods where the login had none', {}, { amr: ['pwd'] }],
    ['a lower level, but later', { acr: '2' }, { acr: '1', auth_time: 4_000_000_000 }],
    ['fewer methods, but a higher level', { acr: '1', amr: ['pwd', 'otp'] }, { acr: '2', amr: ['pwd'] }],
    ['methods that are no list', { amr: ['pwd'] }, { amr: 'pwd' }],
  ])('is not made stronger by %s, and lives on', async (_what, login, then) => {
    let before: Fact = {};
    const browser = await refreshed(
      () => (before = { auth_time: secondsAgo(10), ...login }),
      () => ({ ...before, ...then }),
    );
    expect(await strengthOf(browser)).toEqual({ ...before });
    // Who the user is and may do is taken over all the same.
    expect((await sessionOf(browser)).user).toMatchObject({ roles: ['new'] });
    expect((await call(browser)).status).toBe(200);
    expect(world.log.lines.filter(({ audit }) => audit === 'refresh_foreign_subject')).toEqual([]);
    const [warning] = world.log.lines.filter(({ msg }) => /tells of another authentication/.test(String(msg)));
    expect(warning?.claims).toEqual(['acr', 'amr', 'auth_time'].filter((name) => Object.hasOwn(then, name)));
    expect(world.provider.revoked).toEqual([]);
  });

  it.each<[what: string, login: Fact, then: (login: Fact) => Fact]>([
    ['an earlier auth_time', {}, ({ auth_time = 0 }) => ({ auth_time: auth_time - 100 })],
    ['a lower level', { acr: '2' }, () => ({ acr: '1' })],
    ['fewer methods', { amr: ['pwd', 'otp'] }, () => ({ amr: ['pwd'] })],
    ['all of it', { acr: '3', amr: ['pwd', 'otp'] }, () => ({ acr: '0', amr: ['pwd'], auth_time: 1 })],
  ])('is made weaker by %s', async (_what, login, then) => {
    let before: Fact = {};
    const browser = await refreshed(
      () => (before = { auth_time: secondsAgo(10), ...login }),
      () => ({ ...before, ...then(before) }),
    );
    expect(await strengthOf(browser)).toEqual({ ...before, ...then(before) });
  });

  it('keeps what a refreshed ID token does not repeat', async () => {
    const login = { acr: 'urn:gold', amr: ['otp'] };
    const browser = await refreshed(
      () => ({ ...login, auth_time: secondsAgo(10) }),
      () => ({ auth_time: undefined }),
      { acr: ['urn:gold'] },
    );
    expect(await strengthOf(browser)).toEqual({ ...login, auth_time: secondsAgo(10) });
    expect((await call(browser)).status).toBe(200);
  });

  it('opens no API that asks for more than the login was', async () => {
    const browser = await refreshed(
      () => ({ acr: 'urn:silver', auth_time: secondsAgo(10) }),
      () => ({ acr: 'urn:gold', auth_time: secondsAgo(0) }),
      { acr: ['urn:gold'] },
    );
    expect(problemCode(await call(browser))).toBe('BFF_STEP_UP_REQUIRED');
  });

  it('closes none that the login had opened', async () => {
    const browser = await refreshed(
      () => ({ acr: 'urn:silver', auth_time: secondsAgo(10) }),
      () => ({ acr: 'urn:gold', auth_time: secondsAgo(0) }),
      { acr: ['urn:silver'], maxAge: '60s' },
    );
    expect((await call(browser)).status).toBe(200);
  });

  it('closes what asks for a more recent login than the server now knows of', async () => {
    const browser = await refreshed(
      () => ({ auth_time: secondsAgo(10) }),
      () => ({ auth_time: secondsAgo(600) }),
      { maxAge: '60s' },
    );
    expect(problemCode(await call(browser))).toBe('BFF_STEP_UP_REQUIRED');
  });
});
