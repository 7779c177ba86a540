import { decodeJwt } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import { call, createGate, forceRefresh, sessionOf } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type Demo, loggedInAt, startDemo } from '../support/demo.ts';
import type { Login } from '../support/evil-provider/provider-state.ts';
import { onReplica } from '../support/ticket.ts';
import { expired, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

// OpenID Connect Core §5.4: by default the claims of `profile`, `email` and the like are at UserInfo alone.

type When = 'never' | 'login' | 'always';

/** Who is a clerk, in sales, may call. */
const config =
  (userInfo?: When, more: Record<string, unknown> = {}): Required<WorldOptions>['config'] =>
  ({ authorizationServer, apis, session }) => {
    Object.assign(authorizationServer, { ...(userInfo === undefined ? {} : { userInfo }), ...more });
    apis.orders.require = { roles: ['clerk'], claims: { groups: 'sales' } };
    session.claims = ['sub', 'name', 'email', 'roles', 'groups'];
  };

const atUserInfo = { roles: ['clerk'], groups: ['sales', 'all'], email: 'alice@shop.example' };
const when = ['login', 'always'] as const;

describe('claims that are at UserInfo alone', () => {
  let world: World;
  afterEach(() => world.stop());

  const start = async (userInfo?: When, provider: WorldOptions['provider'] = {}) => {
    world = await startTimedWorld({ config: config(userInfo), provider });
  };
  const asked = () => world.provider.requestsTo('userinfo');
  const userOf = async (browser: Browser) => (await sessionOf(browser)).user;
  /** What the provider says about this user from now on. */
  const become = (changed: Partial<Login>) =>
    world.provider.refreshFamilies().forEach(({ login }) => void Object.assign(login, changed));

  /** A login of somebody whose ID token says who it is, and no more. */
  async function logIn(login: Partial<Login> = {}): Promise<Browser> {
    world.provider.nextLogin({ sub: 'alice', claims: { email: undefined }, userInfo: atUserInfo, ...login });
    const browser = world.browser();
    await browser.login('/');
    expect((await sessionOf(browser)).authenticated).toBe(true);
    return browser;
  }

  it.each(when)('W29 are the user’s with userInfo: %s, for the page and for rules', async (userInfo) => {
    await start(userInfo);
    const browser = await logIn();
    expect(await userOf(browser)).toEqual({ sub: 'alice', ...atUserInfo });
    expect((await call(browser)).status).toBe(200);
    expect(asked()).toHaveLength(1);
    const [token] = world.provider.issuedSecrets('access_token');
    expect(asked()[0]).toMatchObject({
      method: 'GET',
      url: '/userinfo',
      headers: { authorization: `Bearer ${token}` },
    });
  });

  it.each(['never', undefined] as const)(
    'W29 are nobody’s with userInfo: %s, and nothing is asked',
    async (userInfo) => {
      await start(userInfo);
      const browser = await logIn();
      expect(await userOf(browser)).toEqual({ sub: 'alice' });
      expect((await call(browser)).status).toBe(403);
      await forceRefresh(browser);
      expect(asked()).toEqual([]);
    },
  );

  it.each(when)('W29 come as a signed JWT as well (%s)', async (userInfo) => {
    await start(userInfo);
    world.provider.faults.userinfoJwt = {};
    expect(await userOf(await logIn())).toEqual({ sub: 'alice', ...atUserInfo });
  });

  it('W29 stand under those of the ID token, and never say how or until when somebody is logged in', async () => {
    world = await startTimedWorld({
      config: (data) => {
        config('login')(data);
        data.session.claims.push('acr', 'amr', 'auth_time', 'sid', 'iss', 'aud', 'exp', '_claim_sources', '__proto__');
        data.apis.orders.require = { acr: ['gold'] };
      },
    });
    const now = world.clock.now() / 1000;
    const browser = await logIn({
      claims: { email: 'id-token@shop.example', roles: [], session_expiry: now + 600 },
      sid: 'sid-1',
      acr: 'silver',
      userInfo: {
        ...atUserInfo,
        ...{ iss: 'https://evil.example', aud: 'evil', exp: 1, nbf: 9e9, iat: 1, nonce: 'x', azp: 'x' },
        ...{ acr: 'gold', amr: ['mfa'], auth_time: now - 1, sid: 'sid-2', session_expiry: now + 10 },
        _claim_names: { birthday: 'elsewhere' },
        _claim_sources: { elsewhere: { endpoint: 'http://127.0.0.1:1/', access_token: 'x' } },
      },
    });
    const { session, user } = await (await browser.fetch('/bff/session')).json<{
      session: { expiresInSeconds: number };
      user: Record<string, unknown>;
    }>();
    expect(user).toEqual({
      sub: 'alice',
      email: 'id-token@shop.example',
      roles: [],
      groups: ['sales', 'all'],
      acr: 'silver',
      auth_time: expect.any(Number),
      sid: 'sid-1',
    });
    expect(user.auth_time).toBeGreaterThan(now - 1);
    expect(session.expiresInSeconds).toBeGreaterThan(500);
    expect((await call(browser)).status).toBe(401); // gold is not had by saying so
  });

  it('W29 are no claims when they are null', async () => {
    await start('login');
    const browser = await logIn({ userInfo: { ...atUserInfo, name: null } });
    expect(await userOf(browser)).toEqual({ sub: 'alice', ...atUserInfo });
  });

  it.each([true, false])(
    'W29 do not vanish at refreshes with userInfo: login (new ID token: %s)',
    async (refreshIdToken) => {
      await start('login', { refreshIdToken });
      const browser = await logIn();
      become({ userInfo: { ...atUserInfo, roles: [] }, claims: { email: undefined, name: 'Alice' } });
      for (const _ of [1, 2]) expect((await forceRefresh(browser)).status).toBe(200);
      const name = refreshIdToken ? { name: 'Alice' } : {};
      expect(await userOf(browser)).toEqual({ sub: 'alice', ...name, ...atUserInfo });
      expect((await call(browser)).status).toBe(200);
      expect(asked()).toHaveLength(1);
    },
  );

  it('W29 come back when a later ID token lacks what the login’s had', async () => {
    await start('login');
    const browser = await logIn({ claims: { email: 'id-token@shop.example' } });
    expect((await userOf(browser)).email).toBe('id-token@shop.example');
    become({ claims: { email: undefined } });
    await forceRefresh(browser);
    expect((await userOf(browser)).email).toBe(atUserInfo.email);
  });

  it.each([true, false])(
    'W29 are asked for at each refresh with userInfo: always (new ID token: %s)',
    async (refreshIdToken) => {
      await start('always', { refreshIdToken });
      const browser = await logIn({ claims: { email: 'id-token@shop.example' } });
      const streamed = await browser.open('/bff/events', { headers: { 'x-csrf': '1' } });
      become({ userInfo: { groups: ['sales'], roles: ['clerk', 'admin'], email: 'new@shop.example' } });
      expect((await forceRefresh(browser)).json()).toMatchObject({
        user: { roles: ['clerk', 'admin'], groups: ['sales'] },
      });
      await streamed.readUntil((text) => text.includes('event: claims_changed'));
      streamed.abort();
      // The ID token's own stays, whether it came again or not; what UserInfo says no more is gone.
      expect((await userOf(browser)).email).toBe('id-token@shop.example');
      become({ userInfo: { groups: ['sales'] } });
      await forceRefresh(browser);
      expect(await userOf(browser)).toEqual({ sub: 'alice', email: 'id-token@shop.example', groups: ['sales'] });
      expect((await call(browser)).status).toBe(403);
      const tokens = world.provider.issuedSecrets('access_token').map((token) => `Bearer ${token}`);
      expect(asked().map(({ headers }) => headers.authorization)).toEqual(tokens);
    },
  );

  it('W29 that changed say so once, and not at each refresh', async () => {
    await start('always');
    const browser = await logIn();
    const streamed = await browser.open('/bff/events', { headers: { 'x-csrf': '1' } });
    for (const _ of [1, 2]) await forceRefresh(browser);
    become({ userInfo: { ...atUserInfo, roles: ['clerk', 'admin'] } });
    await forceRefresh(browser);
    const text = await streamed.readUntil((read) => read.includes('event: claims_changed'));
    streamed.abort();
    expect(text.match(/event: claims_changed/g)).toHaveLength(1);
  });

  it('W29 that take a role away hold for the very call that waits for the refresh', async () => {
    await start('always');
    const browser = await logIn();
    become({ userInfo: { ...atUserInfo, roles: [] } });
    const gate = createGate();
    world.provider.faults.userinfo = { holdUntil: gate.opened };
    world.clock.advance(expired);
    const waiting = call(browser);
    await until(() => asked().length === 2);
    gate.open();
    expect((await waiting).status).toBe(403);
    expect(world.upstream.requests).toEqual([]);
  });

  it('W29 are not asked for with a token that is made for one API', async () => {
    world = await startTimedWorld({
      config: (data) => {
        config('always')(data);
        data.apis.orders.audience = 'https://orders.example';
      },
    });
    const browser = await logIn();
    expect((await call(browser)).status).toBe(200);
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);
    expect(asked()).toHaveLength(1);
    expect(await userOf(browser)).toEqual({ sub: 'alice', ...atUserInfo });
  });

  it('W29 that are long in coming keep the refresh token for the one replica that used it', async () => {
    world = await startWorld({ config: config('always'), replicas: 2 });
    const browser = await logIn();
    const gate = createGate();
    world.provider.faults.userinfo = { holdUntil: gate.opened };
    const answers = [browser, onReplica(world, 1, browser)].map((one) => forceRefresh(one));
    await until(() => asked().length === 2);
    gate.open();
    for (const answer of answers) expect((await answer).status).toBe(200);
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);
    expect(asked()).toHaveLength(2);
  });

  it('W29 are in the sealed record: another replica has them, and keeps them at its refresh', async () => {
    world = await startWorld({ config: config('login'), replicas: 2 });
    const browser = await logIn();
    const other = onReplica(world, 1, browser);
    expect((await forceRefresh(other)).status).toBe(200);
    expect(await userOf(other)).toEqual({ sub: 'alice', ...atUserInfo });
    expect((await call(other)).status).toBe(200);
  });
});

describe('with oidc-provider, which has claims at UserInfo alone', () => {
  let demo: Demo;
  afterEach(async () => {
    await demo.stop();
    expect(demo.log.errors()).toEqual([]);
  });

  const start = async (userInfo: When, client: object = {}) => {
    demo = await startDemo({
      provider: { claimsAtUserInfo: true },
      client,
      config: ({ authorizationServer, apis }) => {
        Object.assign(authorizationServer, { userInfo, scopes: ['openid', 'profile', 'email'] });
        for (const name of Object.keys(apis)) delete apis[name].resource;
      },
    });
  };

  it.each([
    ['JSON', {}],
    ['a JWT', { userinfo_signed_response_alg: 'ES256' }],
  ])('W29 the user has roles and email, as %s', async (_form, client) => {
    await start('always', client);
    const browser = await loggedInAt(demo, 'alice');
    const user = { sub: 'alice', name: 'Alice Demo', email: 'alice@example.test' };
    expect((await sessionOf(browser)).user).toMatchObject({ ...user, roles: ['admin', 'clerk'] });
    const [idToken] = demo.tokens.filter((token) => token.includes('.')).map((token) => decodeJwt(token));
    expect(Object.keys(idToken ?? {})).not.toContain('roles');
    demo.provider.users.setRoles('alice', ['viewer']);
    expect((await forceRefresh(browser)).json()).toMatchObject({ user: { ...user, roles: ['viewer'] } });
    await browser.close();
  });
});
