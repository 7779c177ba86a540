import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isLoggedIn, startLogin, userOf } from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      data.authorizationServer.maxAge = '5m';
      data.authorizationServer.acrValues = ['urn:mfa', 'urn:hardware'];
    },
  });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const secondsAgo = (seconds: number) => Math.floor(world.clock.now() / 1000) - seconds;

it('asks for max_age and acr_values', async () => {
  const { searchParams } = await startLogin(world.browser());
  expect(searchParams.get('max_age')).toBe('300');
  expect(searchParams.get('acr_values')).toBe('urn:mfa urn:hardware');
});

describe('T40 an answer weaker than what was asked for', () => {
  const weak: Record<string, Record<string, unknown>> = {
    'an acr that was not asked for': { acr: 'urn:password' },
    'an acr that begins alike': { acr: 'urn:mfa2' },
    'no acr': { acr: undefined },
    'a list of acr': { acr: ['urn:mfa'] },
    'both acr in one': { acr: 'urn:mfa urn:hardware' },
    'an authentication six minutes old': { auth_time: secondsAgoNow(360) },
    'no auth_time': { auth_time: undefined },
    'auth_time as text': { auth_time: String(secondsAgoNow(0)) },
    'auth_time of the year 1970': { auth_time: 0 },
  };
  it.each(Object.entries(weak))('T40 logs nobody in with %s', async (_name, claims) => {
    world.provider.faults = { idToken: { claims } };
    const browser = world.browser();
    const page = await browser.login('/');
    expect(page.status).toBeGreaterThanOrEqual(400);
    expect(page.text).toMatch(/BFF_LOGIN_(NOT_STRONG_ENOUGH|ANSWER_INVALID)/);
    expect(browser.cookie('cloakroom')).toBeUndefined();
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('T40 keeps the session that was there', async () => {
    const browser = await world.loggedIn('alice');
    world.provider.nextLogin({ sub: 'alice', acr: 'urn:password' });
    const page = await browser.login('/');
    expect(page.status).toBe(403);
    expect(page.text).toContain('BFF_LOGIN_NOT_STRONG_ENOUGH');
    expect(await userOf(browser)).toBe('alice');
  });
});

it('logs in with either acr and a recent authentication', async () => {
  for (const acr of ['urn:mfa', 'urn:hardware']) {
    world.provider.nextLogin({ sub: 'alice', acr, authTime: secondsAgo(240) });
    const browser = world.browser();
    await browser.login('/');
    expect(await isLoggedIn(browser)).toBe(true);
  }
});

/** The table is made before the world. */
function secondsAgoNow(seconds: number): number {
  return Math.floor(Date.now() / 1000) - seconds;
}

describe('W42 the log says why nobody was logged in', () => {
  const told = (text: RegExp) => world.log.lines.filter(({ msg }) => text.test(String(msg))).at(-1);

  it.each(['access_denied', 'login_required', 'temporarily_unavailable', 'invalid_request', 'made_up'])(
    'W42 because the authorization server says %s: the code, and its words without what may be a secret',
    async (error) => {
      world.provider.faults = { authorize: { error, errorDescription: 'no, ey1JhbGciOiJSUzI1NiJ9x' } };
      await world.browser().login('/');
      expect(told(/refused the login/)).toMatchObject({
        code: error,
        fault: { said: { error, description: 'no, (not shown)' } },
      });
    },
  );

  it('W42 because what it says is no code', async () => {
    world.provider.faults = { authorize: { error: 'Not A Code' } };
    await world.browser().login('/');
    expect(told(/refused the login/)).toMatchObject({ code: 'other' });
  });

  it('W42 because of the acr: which were asked for, and which came', async () => {
    world.provider.faults = { idToken: { claims: { acr: 'urn:password', auth_time: secondsAgo(0) } } };
    await world.browser().login('/');
    expect(told(/did not authenticate as asked/)).toMatchObject({
      level: 'warn',
      asked: { acrValues: ['urn:mfa', 'urn:hardware'], maxAge: 300 },
      received: { acr: 'urn:password', authTime: expect.any(Number) },
    });
  });

  it('W42 because it can’t do what was asked for: which acr that were', async () => {
    world.provider.faults = { authorize: { error: 'unmet_authentication_requirements' } };
    await world.browser().login('/');
    expect(told(/refused the login/)).toMatchObject({
      code: 'unmet_authentication_requirements',
      asked: { acrValues: ['urn:mfa', 'urn:hardware'], maxAge: 300 },
    });
  });
});
