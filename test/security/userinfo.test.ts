import { afterEach, describe, expect, it } from 'vitest';
import { call, forceRefresh, sessionOf } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import type { JwtFault, ResponseFault } from '../support/evil-provider/faults.ts';
import { startEvilProvider } from '../support/evil-provider.ts';
import { attemptLogin, expectRefused } from '../support/login-attempt.ts';
import { expired, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// What UserInfo may answer: about whom, in which form, how much, how late. OpenID Connect Core §5.3.

let world: World;
afterEach(() => world.stop());

async function start(settings: Record<string, unknown> = {}): Promise<void> {
  world = await startTimedWorld({
    config: ({ authorizationServer, apis }) => {
      Object.assign(authorizationServer, { userInfo: 'always', ...settings });
      apis.orders.require = { roles: ['clerk'] };
    },
  });
  world.provider.nextLogin({ sub: 'alice', userInfo: { roles: ['clerk'] } });
}

const claims = (changed: Record<string, unknown>): JwtFault => ({ claims: changed });
const json = (changed: Record<string, unknown>): ResponseFault => ({
  mutate: (regular) => ({ ...regular, ...changed }),
});
/** Why UserInfo could not be had: the reason, the error code that came, the mistake in our registration. */
const reasons = () =>
  world.log.warnings().flatMap(({ fault, mistake = '' }) => {
    const { reason, said } = (fault ?? {}) as { reason?: string; said?: { error?: string } };
    return reason === undefined ? [] : [[reason, said?.error ?? '', mistake].join('|')];
  });

async function logIn(): Promise<Browser> {
  const browser = world.browser();
  await browser.login('/');
  expect((await sessionOf(browser)).user.sub).toBe('alice');
  expect((await call(browser)).status).toBe(200);
  return browser;
}

/** The login is refused, says why, and nobody keeps the tokens that came. */
async function expectLoginRefused(what: string, reason: RegExp, isLater = false): Promise<void> {
  const [status, code] = isLater
    ? ([503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'] as const)
    : ([502, 'BFF_LOGIN_ANSWER_INVALID'] as const);
  await expectRefused(world, what, status, code);
  expect.soft(reasons().at(-1), what).toMatch(reason);
  const last = String(world.provider.issuedSecrets('refresh_token').at(-1));
  await until(() => world.provider.revoked.includes(last), { message: `${what}: revoked` });
}

const foreign: [what: string, fault: ResponseFault, reason: RegExp][] = [
  ['another sub', json({ sub: 'mallory' }), /^UserInfo: sub is not that of the ID token\|\|$/],
  ['a sub in capitals', json({ sub: 'Alice' }), /sub is not/],
  ['a sub with a space', json({ sub: 'alice ' }), /sub is not/],
  ['an empty sub', json({ sub: '' }), /sub is not/],
];
const nameless: typeof foreign = [
  ['no sub', json({ sub: undefined }), /^UserInfo: no sub\|\|$/],
  ['a sub that is null', json({ sub: null }), /no sub/],
  ['a list of subs', json({ sub: ['alice'] }), /no sub/],
  ['a sub in an object', json({ sub: { alice: 1 } }), /no sub/],
  ['an error with status 200', { status: 200, body: { error: 'server_error' } }, /no sub/],
];

describe('UserInfo about somebody else', () => {
  it.each([true, false])('W29 T31 refuses the login, whatever userInfoRequired says (%s)', async (userInfoRequired) => {
    await start({ userInfoRequired });
    for (const [what, fault, reason] of [...foreign, ...nameless]) {
      world.provider.faults.userinfo = fault;
      await expectLoginRefused(what, reason);
    }
    delete world.provider.faults.userinfo;
    world.provider.faults.userinfoJwt = claims({ sub: 'mallory' });
    await expectLoginRefused('a JWT about another', /sub is not/);
    world.provider.faults.userinfoJwt = claims({ sub: undefined });
    await expectLoginRefused('a JWT about nobody', /no sub/);
  });

  it('W29 T115 at a refresh ends the session as its ID token would: whose is the access token?', async () => {
    await start();
    world.allowErrors();
    const browser = await logIn();
    const { length } = world.upstream.requests;
    world.provider.faults.userinfo = json({ sub: 'mallory', roles: ['admin'] });
    world.clock.advance(expired);
    expect((await call(browser)).status).toBe(401);
    expect((await sessionOf(browser)).authenticated).toBe(false);
    expect(world.upstream.requests).toHaveLength(length);
    const audited = world.log.lines.filter(({ audit }) => audit === 'refresh_foreign_subject');
    expect(audited).toMatchObject([{ level: 'error', reason: 'UserInfo: sub is not that of the ID token' }]);
    await until(() => world.provider.refreshFamilies().every(({ revoked }) => revoked));
  });
});

const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;

/** Each costs what `userInfoRequired` says. */
const failing: [what: string, fault: ResponseFault, reason: RegExp, isLater?: boolean][] = [
  ['500', { status: 500 }, /^UserInfo: status 500\|\|$/, true],
  ['503', { status: 503, headers: { 'retry-after': '7' } }, /status 503/, true],
  ['429', { status: 429 }, /status 429/, true],
  ['nothing', { hang: true }, /^UserInfo: authorization server: timeout\|\|$/, true],
  ['a cut connection', { reset: true }, /UserInfo: authorization server/, true],
  ['half an answer', { truncate: 'connection' }, /UserInfo: authorization server/, true],
  ['bytes that drip', { slowBytesPerSecond: 20 }, /timeout/, true],
  ['2 MiB', { hugeBytes: 2 << 20 }, /UserInfo: authorization server/, true],
  ['a gzip bomb', { gzipBomb: true }, /neither JSON nor a JWT/],
  [
    '401',
    { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token", error_description="expired"' } },
    /^UserInfo: status 401\|invalid_token\|userinfo-token$/,
  ],
  [
    '401 with the error in the body',
    { status: 401, body: { error: 'invalid_token' } },
    /401\|invalid_token\|userinfo-token$/,
  ],
  ['401 without a challenge', { status: 401 }, /^UserInfo: status 401\|\|userinfo-token$/],
  [
    '403',
    { status: 403, headers: { 'www-authenticate': 'Bearer error=insufficient_scope' } },
    /^UserInfo: status 403\|insufficient_scope\|userinfo-token$/,
  ],
  ['another error', { status: 401, headers: { 'www-authenticate': 'Bearer error="<b>"' } }, /401\|\|userinfo-token$/],
  ['404', { status: 404 }, /^UserInfo: status 404\|\|$/],
  ['204', { status: 204 }, /status 204/],
  ['a redirect', { redirectTo: '/jwks' }, /status 302/],
  ['nothing at all', { status: 200 }, /^UserInfo: it is neither JSON nor a JWT\|\|$/],
  ['a page', { body: '<html>', headers: { 'content-type': 'text/html' } }, /neither JSON nor a JWT/],
  ['half the JSON', { truncate: true }, /neither JSON nor a JWT/],
  ['a list', { body: [{ sub: 'alice' }] }, /^UserInfo: it is no JSON object\|\|$/],
  ['a text', { body: '"alice"' }, /no JSON object/],
  ['null', { body: 'null' }, /no JSON object/],
  ['claims of 33 levels', { mutateText: () => `{"sub":"alice","roles":${deep(33)}}` }, /nested too deeply/],
  ['claims of 100,000 levels', { mutateText: () => `{"sub":"alice","roles":${deep(100_000)}}` }, /nested too deeply/],
];

/** As a JWT that nobody should believe, or that can't be read. */
const badJwts: [what: string, fault: JwtFault, reason: RegExp, isLater?: boolean][] = [
  ['alg none', { alg: 'none' }, /^UserInfo: its JWT has an algorithm that is not taken\|\|userinfo-algorithm$/],
  ['HS256 with the client secret', { alg: 'HS256-secret' }, /not taken\|\|userinfo-algorithm$/],
  ['HS256 with the public key', { alg: 'HS256-public' }, /not taken\|\|userinfo-algorithm$/],
  ['a forged signature', { alg: 'forged' }, /^UserInfo: /],
  ['a key that nobody knows', { header: { kid: 'x' } }, /^UserInfo: the key id is unknown/, true],
  ['an unknown crit', { header: { crit: ['x'], x: 1 } }, /^UserInfo: its JWT: ERR_/],
  ['another iss', claims({ iss: 'https://id.example' }), /^UserInfo: its JWT has no fitting iss\|\|$/],
  ['no iss', claims({ iss: undefined }), /no fitting iss/],
  ['another aud', claims({ aud: 'another' }), /no fitting aud/],
  ['no aud', claims({ aud: undefined }), /no fitting aud/],
  ['exp in the past', claims({ exp: 1 }), /^UserInfo: its JWT has expired\|\|$/],
  ['nbf to come', claims({ nbf: 9e9 }), /no fitting nbf/],
  ['exp as text', claims({ exp: '1' }), /no fitting exp/],
  ['an encrypted one', { raw: 'eyJhbGciOiJkaXIifQ..a.a.a' }, /^UserInfo: it is encrypted\|\|userinfo-encrypted$/],
  ['no JWT', { raw: 'not-a-jwt' }, /^UserInfo: its JWT: ERR_/],
  ['JSON', { raw: '{"sub":"alice"}' }, /^UserInfo: its JWT: ERR_/],
  ['a list', { payload: '[]' }, /^UserInfo: its JWT: ERR_/],
];

// Two of the failures take the whole `timeout`, of 2 s.
describe('UserInfo that fails', { timeout: 60_000 }, () => {
  it('W29 refuses the login by default, and says why', async () => {
    await start();
    for (const [what, fault, reason, isLater] of failing) {
      world.provider.faults.userinfo = fault;
      await expectLoginRefused(what, reason, isLater);
    }
  });

  it('W29 refuses the login by default when its JWT is not to be believed', async () => {
    await start();
    for (const [what, fault, reason, isLater] of badJwts) {
      world.provider.faults.userinfoJwt = fault;
      await expectLoginRefused(what, reason, isLater);
    }
  });

  it('W29 costs only its claims with userInfoRequired: false', async () => {
    await start({ userInfoRequired: false });
    const expectWithout = async (what: string, reason: RegExp) => {
      const { page, isLoggedIn } = await attemptLogin(world);
      expect.soft(isLoggedIn, `${what}: ${page.status}`).toBe(true);
      expect.soft(reasons().at(-1), what).toMatch(reason);
    };
    for (const [what, fault, reason] of failing) {
      world.provider.faults.userinfo = fault;
      await expectWithout(what, reason);
    }
    delete world.provider.faults.userinfo;
    for (const [what, fault, reason] of badJwts) {
      world.provider.faults.userinfoJwt = fault;
      await expectWithout(what, reason);
    }
    const browser = world.browser();
    await browser.login('/');
    expect((await sessionOf(browser)).user).toEqual({ sub: 'alice', email: 'alice@example.com' });
    expect((await call(browser)).status).toBe(403);
    // It is asked again at the refresh.
    delete world.provider.faults.userinfoJwt;
    await forceRefresh(browser);
    expect((await call(browser)).status).toBe(200);
  });

  it('W29 at a refresh loses neither session, tokens nor claims', async () => {
    await start();
    const browser = await logIn();
    const { faults } = world.provider;
    const expectKept = async (what: string, reason: RegExp) => {
      world.clock.advance(expired);
      const { status } = await call(browser);
      const arrived = world.upstream.requests.at(-1)?.header('authorization');
      expect
        .soft([status, arrived], what)
        .toEqual([200, `Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`]);
      expect.soft((await sessionOf(browser)).user, what).toMatchObject({ sub: 'alice', roles: ['clerk'] });
      expect.soft(reasons().at(-1), what).toMatch(reason);
    };
    for (const [what, fault, reason] of [...failing, ...nameless]) {
      faults.userinfo = fault;
      await expectKept(what, reason);
    }
    delete faults.userinfo;
    for (const [what, fault, reason] of badJwts) {
      faults.userinfoJwt = fault;
      await expectKept(what, reason);
    }
    expect(world.provider.reuseDetected()).toBe(0);
    expect(world.log.lines.filter(({ audit }) => audit === 'refresh_foreign_subject')).toEqual([]);
  });
});

describe('UserInfo that is good', () => {
  it.each<[string, ResponseFault]>([
    ['called a text', { headers: { 'content-type': 'text/plain; charset=utf-8' } }],
    ['called nothing', { headers: { 'content-type': undefined } }],
    ['with a challenge and status 200', { headers: { 'www-authenticate': 'Bearer realm="x"' } }],
    [
      'with 1,000 roles',
      { mutate: (regular) => ({ ...regular, roles: ['clerk', ...Array(1000).fill('r'.repeat(120))] }) },
    ],
  ])('W29 is taken when it is JSON %s', async (_what, fault) => {
    await start();
    world.provider.faults.userinfo = fault;
    await logIn();
  });

  it.each<[string, JwtFault]>([
    ['for us among others', claims({ aud: ['another', 'cloakroom'] })],
    ['with an exp to come', { claims: (regular) => ({ ...regular, exp: Math.floor(Date.now() / 1000) + 300 }) }],
    ['signed with ES256', { alg: 'ES256' }],
  ])('W29 is taken when it is a JWT %s', async (_what, fault) => {
    await start();
    world.provider.faults.userinfoJwt = fault;
    await logIn();
  });

  it('W29 W20 is taken when it is a JWT with a key that replaced the one that was known', async () => {
    await start();
    world.provider.settings.refreshIdToken = false;
    world.provider.faults.userinfoJwt = {};
    const browser = await logIn();
    world.provider.rotateKeys();
    for (const { login } of world.provider.refreshFamilies()) login.userInfo = { roles: ['clerk', 'admin'] };
    expect((await forceRefresh(browser)).json()).toMatchObject({ user: { roles: ['clerk', 'admin'] } });
    expect(reasons()).toEqual([]);
  });

  it('W29 is taken when it is a JWT that is called something else', async () => {
    await start();
    Object.assign(world.provider.faults, {
      userinfoJwt: {},
      userinfo: { headers: { 'content-type': 'application/jose' } },
    });
    await logIn();
  });
});

describe('metadata', () => {
  const told = () =>
    world.log.warnings().find(({ msg }) => msg?.startsWith('authorization server metadata is not usable'));

  it.each([
    ['without UserInfo', undefined, 'the metadata has no userinfo_endpoint'],
    ['with UserInfo by plain http', 'http://id.example/userinfo', 'userinfo_endpoint is not https'],
    ['with UserInfo that is no URL', 'userinfo', 'userinfo_endpoint is not a URL'],
  ])('W29 %s are refused where it is to be asked, and tell why', async (_what, endpoint, reason) => {
    for (const userInfo of ['login', 'never']) {
      const provider = await startEvilProvider();
      provider.faults.discovery = { mutate: (regular) => ({ ...regular, userinfo_endpoint: endpoint }) };
      world = await startWorld({
        store: 'memory',
        config: ({ authorizationServer }) => {
          const { issuer, clientId, clientSecret } = provider;
          Object.assign(authorizationServer, { issuer, clientId, clientSecret, userInfo });
        },
      });
      const isAsked = userInfo === 'login';
      expect(await attemptLogin(world)).toMatchObject({ status: isAsked ? 503 : 303, isLoggedIn: !isAsked });
      expect(told()?.reason).toBe(isAsked ? reason : undefined);
      expect(told()?.mistake).toBe(isAsked && endpoint === undefined ? 'userinfo-missing' : undefined);
      await provider.stop();
      if (isAsked) await world.stop();
    }
  });
});
