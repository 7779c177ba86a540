import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { type EvilProvider, startEvilProvider } from '../support/evil-provider.ts';
import { problemCode } from '../support/login-attempt.ts';
import { deliver, isLoggedIn, pendingLogin, userOf } from '../support/login-steps.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { restart } from '../support/restart.ts';
import { onReplica } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// W6: two deployments share a Redis, a prefix and the server keys. A session belongs to frontend, issuer and client.

let world: World;
let other: EvilProvider;
let data: ConfigData;
beforeAll(async () => {
  other = await startEvilProvider();
  world = await startWorld({
    replicas: 2,
    provider: { clients: { second: 'a-secret-of-the-second-client-9d8f7' } },
    config: (config) => {
      data = config; // the world still names the cookie in it: a copy would look for another one
    },
  });
});
afterAll(async () => {
  await world.stop();
  await other.stop();
});
beforeEach(() => {
  world.provider.reset();
  other.reset();
});

/** Makes the second replica another deployment. */
const deployments: [string, (server: ConfigData) => ConfigData][] = [
  [
    'another client',
    (server) => ({ ...server, clientId: 'second', clientSecret: 'a-secret-of-the-second-client-9d8f7' }),
  ],
  [
    'another issuer',
    (server) => ({ ...server, issuer: other.issuer, clientId: other.clientId, clientSecret: other.clientSecret }),
  ],
];

describe.each(deployments)('W6 a session and %s', (_, change) => {
  const asOther = async (browser: Browser): Promise<Browser> => onReplica(world, 1, browser);
  beforeEach(() => restart(world, { ...data, authorizationServer: change(data.authorizationServer) }, 1));

  it('W6 is absent there, without an error, and its cookie stays', async () => {
    const browser = await world.loggedIn('alice');
    const calls = world.upstream.requests.length;
    const there = await asOther(browser);
    const session = await there.fetch('/bff/session');
    expect([session.status, session.json<{ authenticated: boolean }>().authenticated]).toEqual([200, false]);
    const call = await there.fetch('/api/orders/1');
    expect(call.status).toBe(401);
    const refresh = await there.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(refresh.status).toBe(401);
    const list = await there.fetch('/bff/sessions');
    expect(list.status).toBe(401);
    expect([session, call, refresh, list].flatMap(({ setCookies }) => setCookies)).toEqual([]);
    const logout = await there.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(logout.status).toBe(200);
    expect(world.upstream.requests).toHaveLength(calls);
    expect([...world.provider.tokenRequests('refresh_token'), ...other.tokenRequests()]).toEqual([]);
    expect(await userOf(browser)).toBe('alice');
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
  });

  it('W6 outlives a login in the same browser there, a mass logout, and a logout by the provider', async () => {
    const browser = await world.loggedIn('alice');
    const there = await asOther(browser);
    await there.login('/');
    expect(await isLoggedIn(there)).toBe(true);
    expect(await isLoggedIn(browser)).toBe(true);
    // "Everywhere" is everywhere at this client.
    await there.fetch('/bff/sessions', { method: 'DELETE', headers: { 'x-csrf': '1' } });
    expect(await isLoggedIn(there)).toBe(false);
    expect(await isLoggedIn(browser)).toBe(true);
    expect((await logOutByProvider(world, { sub: 'alice', sid: null })).status).toBe(200);
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('W6 a mass logout there is no reason against a login here', async () => {
    const there = await asOther(await world.loggedIn('alice'));
    await there.login('/');
    world.provider.nextLogin({ sub: 'alice' });
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const before = world.provider.tokenRequests('authorization_code').length;
    const held = Promise.withResolvers<void>();
    world.provider.faults.tokenResponse = { times: 1, holdUntil: held.promise };
    const delivered = deliver(browser, callbackUrl);
    await until(() => world.provider.tokenRequests('authorization_code').length > before);
    await there.fetch('/bff/sessions', { method: 'DELETE', headers: { 'x-csrf': '1' } });
    held.resolve();
    expect((await delivered).status).toBe(303);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('W6 is not in the other one’s inventory', async () => {
    const browser = await world.loggedIn('alice');
    const there = await asOther(browser);
    await there.login('/');
    const { sessions } = (await there.fetch('/bff/sessions')).json<{ sessions: { current: boolean }[] }>();
    expect(sessions.map(({ current }) => current)).toEqual([true]);
  });

  it('W6 a login that was begun before the change is none of ours: neither its code nor our verifier is sent', async () => {
    await restart(world, data, 1);
    const browser = world.browser(1);
    const { callbackUrl } = await pendingLogin(browser);
    await restart(world, { ...data, authorizationServer: change(data.authorizationServer) }, 1);
    const sent = world.provider.tokenRequests().length + other.tokenRequests().length;
    const page = await deliver(browser, callbackUrl);
    expect([page.status, problemCode(page), page.setCookies]).toEqual([400, 'BFF_LOGIN_TRANSACTION_MISSING', []]);
    expect(world.provider.tokenRequests().length + other.tokenRequests().length).toBe(sent);
  });
});
