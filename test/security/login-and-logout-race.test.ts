import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { problemCode } from '../support/login-attempt.ts';
import { deliver, isLoggedIn, pendingLogin } from '../support/login-steps.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// W11: a logout that arrives while a code is being redeemed finds no session, and must outrun the login all the same.

const adminKey = randomBytes(32).toString('base64url');
let world: World;
beforeAll(async () => {
  world = await startWorld({
    replicas: 2,
    config: (data) => {
      data.ops.adminKey = adminKey;
    },
  });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

/** Delivers a login's answer, lets `meanwhile` happen while its code is being redeemed, and says what came of it. */
async function redeemDuring(meanwhile: () => Promise<void>, sub = 'alice', sid = `sid-${sub}`) {
  world.provider.nextLogin({ sub, sid });
  const browser = world.browser();
  const { callbackUrl } = await pendingLogin(browser);
  const held = Promise.withResolvers<void>();
  world.provider.faults.tokenResponse = { times: 1, holdUntil: held.promise };
  const grants = world.provider.tokenRequests('authorization_code').length;
  const delivered = deliver(browser, callbackUrl);
  await until(() => world.provider.tokenRequests('authorization_code').length > grants);
  await meanwhile();
  held.resolve();
  const page = await delivered;
  return { browser, page };
}

it.each([
  ['sid alone', { sub: null }],
  ['sub alone', { sid: null }],
  ['sid and sub', {}],
])(
  'W11 back-channel logout by %s during the redemption: nobody is logged in, and the tokens are revoked',
  async (_, by) => {
    const { browser, page } = await redeemDuring(async () => {
      const answer = await logOutByProvider(world, { sub: 'alice', sid: 'sid-alice', ...by }, { replica: 1 });
      expect(answer.status).toBe(200);
    });
    expect([page.status, problemCode(page)]).toEqual([403, 'BFF_LOGIN_REFUSED']);
    expect(await isLoggedIn(browser)).toBe(false);
    await until(() => world.provider.revoked.length > 0);
    // The next login is another one.
    await browser.login('/');
    expect(await isLoggedIn(browser)).toBe(true);
  },
);

it('W11 front-channel logout, log out everywhere and the operator during the redemption: nobody is logged in', async () => {
  const iss = world.provider.issuer;
  const elsewhere = await world.loggedIn('alice');
  const ways: [string, () => Promise<unknown>][] = [
    [
      'front-channel',
      () => world.browser(1).fetch(`/bff/frontchannel-logout?${new URLSearchParams({ iss, sid: 'sid-alice' })}`),
    ],
    ['everywhere', () => elsewhere.fetch('/bff/sessions', { method: 'DELETE', headers: { 'x-csrf': '1' } })],
    [
      'operator',
      () =>
        world.app.ops.inject({
          method: 'DELETE',
          url: '/admin/sessions?frontend=default',
          headers: { authorization: `Bearer ${adminKey}` },
        }),
    ],
  ];
  for (const [name, end] of ways) {
    const { browser, page } = await redeemDuring(async () => void (await end()));
    expect([name, page.status, problemCode(page)]).toEqual([name, 403, 'BFF_LOGIN_REFUSED']);
    expect(await isLoggedIn(browser)).toBe(false);
  }
});

it('W11 the logout of somebody else, of another provider session, or an older one ends no login', async () => {
  for (const options of [
    { sub: 'bob', sid: 'sid-bob' },
    { sub: null, sid: 'sid-other' },
    { sub: 'carol', sid: null, claims: { iat: Math.floor(Date.now() / 1000) - 100 } },
  ]) {
    const { browser } = await redeemDuring(async () => {
      expect((await logOutByProvider(world, options)).status).toBe(200);
    }, 'carol');
    expect(await isLoggedIn(browser)).toBe(true);
  }
});

it('W11 back-channel logout of the very provider session, between its answer and the callback: nobody is logged in', async () => {
  world.provider.nextLogin({ sub: 'dave', sid: 'sid-dave' });
  const browser = world.browser();
  const { callbackUrl } = await pendingLogin(browser);
  expect((await logOutByProvider(world, { sub: null, sid: 'sid-dave' }, { replica: 1 })).status).toBe(200);
  const page = await deliver(browser, callbackUrl);
  expect([page.status, problemCode(page)]).toEqual([403, 'BFF_LOGIN_REFUSED']);
  expect(await isLoggedIn(browser)).toBe(false);
});
