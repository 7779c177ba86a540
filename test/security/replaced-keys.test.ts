import { afterEach, describe, expect, it } from 'vitest';
import { call, forceRefresh, sessionOf } from '../support/api-calls.ts';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import type { Jwk } from '../support/evil-provider/jwt.ts';
import { attemptLogin, expectRefused } from '../support/login-attempt.ts';
import { logOutByProvider, sendLogoutToken } from '../support/logout-token.ts';
import { impatient, startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';

// W20, W44: a server changes the key that it signs with, under the same name, without any, or under a new one, and says
// so to nobody. Time stands still unless a test moves it: all of this happens within a moment.

const unavailable = [503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'] as const;

let world: World;
afterEach(() => world.stop());

const fetches = () => world.provider.requestsTo('jwks').length;
const loginWorks = async () => (await attemptLogin(world)).isLoggedIn;
const foreign = () => world.log.lines.filter(({ audit }) => audit === 'refresh_foreign_subject');
const warned = (text: RegExp) => world.log.lines.filter(({ level, msg }) => level === 'warn' && text.test(msg ?? ''));

const ways: [how: string, replace: () => void][] = [
  ['under the same kid', () => world.provider.rotateKeys({ sameKid: true })],
  [
    'where no kid is used',
    () => {
      world.provider.rotateKeys();
      useNoKid(world);
    },
  ],
  ['under a new kid', () => world.provider.rotateKeys()],
];

function useNoKid({ provider }: Pick<World, 'provider'>): void {
  const header = { kid: undefined };
  Object.assign(provider.faults, { idToken: { header }, refreshIdToken: { header }, jwks: { noKid: true } });
}

async function start(): Promise<void> {
  world = await startTimedWorld({ config: impatient });
}

describe.each(ways)('W20 a signing key that was replaced %s', (how, replace) => {
  /** Nobody's login and session know of it before. */
  const begin = async () => {
    await start();
    if (how.includes('no kid')) useNoKid(world);
  };

  it('W20, W44 disturbs no login: one more look at the keys, and no second for the next one', async () => {
    await begin();
    expect(await loginWorks()).toBe(true);
    replace();
    expect(await loginWorks()).toBe(true);
    expect(await loginWorks()).toBe(true);
    expect(fetches()).toBe(2);
  });

  it('W20 back to back, again and again: every login works', async () => {
    await begin();
    for (let round = 0; round < 12; round++) {
      expect(await loginWorks(), String(round)).toBe(true);
      replace();
      world.clock.advance(200);
    }
    expect(fetches()).toBe(12);
  });

  it('W20 disturbs no refresh: the session goes on with the new claims', async () => {
    await begin();
    const browser = await world.loggedIn('alice', { roles: ['user'] });
    replace();
    const before = world.provider.faults.refreshIdToken;
    world.provider.faults.refreshIdToken = { ...before, claims: { roles: ['admin'] } };
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await sessionOf(browser)).user).toMatchObject({ sub: 'alice', roles: ['admin'] });
    expect(foreign()).toEqual([]);
    expect(world.provider.revoked).toEqual([]);
  });

  it.each([
    ['fails', { status: 500 }],
    ['is no key set', { body: { keys: [{ kty: 'oct', k: 'AAAA' }] } }],
    ['has a private key only', { mutate: withPrivateMembers }],
    ['hangs', { hang: true }],
    ['drops the connection', { reset: true }],
  ])('W20 ends no session while the key set %s: the tokens are kept, the claims are not', async (_, fault) => {
    await begin();
    const browser = await world.loggedIn('alice', { roles: ['user'] });
    replace();
    const before = world.provider.faults;
    world.provider.faults.refreshIdToken = { ...before.refreshIdToken, claims: { roles: ['admin'] } };
    world.provider.faults.jwks = fault;
    for (let round = 0; round < 2; round++) expect((await forceRefresh(browser)).status).toBe(200);
    expect((await sessionOf(browser)).user).toMatchObject({ sub: 'alice', roles: ['user'] });
    expect((await call(browser)).status).toBe(200);
    expect([foreign(), world.provider.revoked, world.provider.reuseDetected()]).toEqual([[], [], 0]);
    expect(warned(/claims are not taken over/)).toHaveLength(2);
  });

  it('W20 asks to try the login again while the key set can’t be read, and then it works', async () => {
    await begin();
    expect(await loginWorks()).toBe(true);
    replace();
    const { jwks } = world.provider.faults;
    world.provider.faults.jwks = { status: 500 };
    const { page } = await expectRefused(world, 'key set down', ...unavailable);
    expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
    if (jwks === undefined) delete world.provider.faults.jwks;
    else world.provider.faults.jwks = jwks;
    world.clock.advance(2000);
    expect(await loginWorks()).toBe(true);
  });
});

function withPrivateMembers(json: Record<string, unknown>): unknown {
  return { keys: (json.keys as object[]).map((key) => ({ ...key, d: 'AQAB' })) };
}

describe('W20 a server that begins to sign with another algorithm', () => {
  /** Its metadata, which are read once an hour, do not say so yet. */
  const change = (sameKid = false) => {
    const [rsa] = world.provider.jwks().keys;
    world.provider.settings.idTokenAlgorithms = ['ES256'];
    const header = sameKid ? { kid: rsa?.kid } : {};
    Object.assign(world.provider.faults, {
      idToken: { alg: 'ES256', header },
      refreshIdToken: { alg: 'ES256', header },
      jwks: {
        mutate: (json: Record<string, unknown>) => ({
          keys: (json.keys as Jwk[]).filter(({ kty }) => kty === 'EC').map((key) => ({ ...key, ...header })),
        }),
      },
    });
  };

  it.each([
    ['another kid', false],
    ['the same kid', true],
  ])('W20 and key, under %s, disturbs no login and no refresh', async (_, sameKid) => {
    await start();
    const browser = await world.loggedIn('alice', { roles: ['user'] });
    change(sameKid);
    world.provider.faults.refreshIdToken = { ...world.provider.faults.refreshIdToken, claims: { roles: ['admin'] } };
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await sessionOf(browser)).user).toMatchObject({ roles: ['admin'] });
    expect(await loginWorks()).toBe(true);
    expect([foreign(), world.provider.revoked, fetches()]).toEqual([[], [], 2]);
  });

  it('W20 that the configuration does not take is refused, as ever', async () => {
    world = await startTimedWorld({
      config: ({ authorizationServer }) => {
        authorizationServer.idTokenSigningAlgorithms = ['RS256'];
      },
    });
    expect(await loginWorks()).toBe(true);
    change();
    await expectRefused(world, 'ES256', 502, 'BFF_LOGIN_ANSWER_INVALID');
  });
});

describe('W20 a token of the server that no key verifies', () => {
  it('W20 is a forgery once the keys were read for it: the login is refused for good', async () => {
    await start();
    expect(await loginWorks()).toBe(true);
    world.provider.faults.idToken = { alg: 'forged' };
    await expectRefused(world, 'forged', 502, 'BFF_LOGIN_ANSWER_INVALID');
    expect(fetches()).toBe(2);
  });

  it('W44 again and again: a bounded number of looks, and nobody else is disturbed', async () => {
    await start();
    const browser = await world.loggedIn();
    for (let round = 0; round < 20; round++) {
      world.provider.faults.idToken = { times: 1, alg: 'forged' };
      expect(await loginWorks()).toBe(false);
      expect(await loginWorks()).toBe(true);
      world.clock.advance(1000);
    }
    expect(fetches()).toBeLessThanOrEqual(5);
    // Whether it is forged can't be told any more: then nobody's session ends for it.
    world.provider.faults.refreshIdToken = { alg: 'forged' };
    expect((await forceRefresh(browser)).status).toBe(200);
    expect(foreign()).toEqual([]);
    delete world.provider.faults.refreshIdToken;
    world.provider.rotateKeys({ sameKid: true });
    await expectRefused(world, 'all looks are used up', ...unavailable);
    world.clock.advance(30_000);
    expect(await loginWorks()).toBe(true);
  });
});

describe('W44 strangers', () => {
  const madeUp = (kid: string) => logOutByProvider(world, { alg: 'forged', header: { kid } });

  it.each(ways)('W44 with made-up keys can’t make a login fail: key replaced %s', async (how, replace) => {
    await start();
    if (how.includes('no kid')) useNoKid(world);
    expect(await loginWorks()).toBe(true);
    for (let round = 0; round < 5; round++) {
      world.clock.advance(30_000);
      for (let index = 0; index < 6; index++) {
        expect([400, 503]).toContain((await madeUp(`made-up-${index}`)).status);
        expect([400, 503]).toContain((await logOutByProvider(world, { alg: 'forged' })).status);
      }
      replace();
      expect(await loginWorks(), String(round)).toBe(true);
    }
  });

  it('W44 whose token met a key set that failed don’t make a login wait for it', async () => {
    await start();
    expect(await loginWorks()).toBe(true);
    world.clock.advance(30_000);
    world.provider.rotateKeys();
    world.provider.faults.jwks = { times: 1, status: 500 };
    expect((await madeUp('made-up')).status).toBe(503);
    expect(await loginWorks()).toBe(true);
  });

  it('W20 with bad signatures cause a bounded number of looks', async () => {
    await start();
    expect(await loginWorks()).toBe(true);
    const before = fetches();
    for (let second = 0; second < 60; second++) {
      for (let index = 0; index < 5; index++) await logOutByProvider(world, { alg: 'forged' });
      world.clock.advance(1000);
    }
    expect(fetches() - before).toBeLessThanOrEqual(8);
    expect((await logOutByProvider(world)).status).toBe(200);
  });
});

describe('W20 a logout token', () => {
  it.each(ways)('W20 signed with a key that was replaced %s ends the session', async (how, replace) => {
    await start();
    if (how.includes('no kid')) useNoKid(world);
    const browser = await world.loggedIn();
    replace();
    world.clock.advance(30_000);
    const header = how.includes('no kid') ? { header: { kid: undefined } } : {};
    expect((await logOutByProvider(world, header)).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });

  it('W20 is asked for again while the keys can’t be read, and then it is done', async () => {
    await start();
    const browser = await world.loggedIn();
    world.provider.rotateKeys({ sameKid: true });
    const token = world.provider.logoutToken();
    world.provider.faults.jwks = { times: 1, status: 500 };
    expect((await sendLogoutToken(world, token)).status).toBe(503);
    expect((await sendLogoutToken(world, token)).status).toBe(503);
    expect((await call(browser)).status).toBe(200);
    world.clock.advance(2000);
    expect((await sendLogoutToken(world, token)).status).toBe(200);
    expect((await call(browser)).status).toBe(401);
  });
});

describe('W20 a bearer token', () => {
  let bearerWorld: BearerWorld;
  const { invalid, unknown } = {
    invalid: { status: 401, code: 'BFF_BEARER_INVALID' },
    unknown: { status: 503, code: 'BFF_BEARER_UNAVAILABLE' },
  };
  const startBearers = async () => {
    bearerWorld = await startBearerWorld();
    world = bearerWorld;
  };
  const ask = (token: string) => bearerWorld.call(token);

  it('W20 of a key that was replaced under the same kid is good, and the old key’s is not any more', async () => {
    await startBearers();
    const { mobile } = bearerWorld;
    const old = mobile.accessToken();
    expect((await ask(old)).status).toBe(200);
    mobile.rotateKeys({ sameKid: true });
    expect((await ask(mobile.accessToken())).status).toBe(200);
    expect(mobile.requestsTo('jwks').length).toBe(2);
    expect(await ask(old)).toMatchObject(invalid);
  });

  it('W20 where no kid is used at all', async () => {
    await startBearers();
    const { mobile } = bearerWorld;
    mobile.faults.jwks = { noKid: true };
    const token = () => mobile.accessToken({ header: { kid: undefined } });
    expect((await ask(token())).status).toBe(200);
    mobile.rotateKeys();
    expect((await ask(token())).status).toBe(200);
    expect(mobile.requestsTo('jwks').length).toBe(2);
  });

  it('W20 is kept by its caller while the keys can’t be read', async () => {
    await startBearers();
    const { mobile } = bearerWorld;
    expect((await ask(mobile.accessToken())).status).toBe(200);
    mobile.rotateKeys({ sameKid: true });
    const token = mobile.accessToken();
    mobile.faults.jwks = { times: 1, status: 500 };
    for (let round = 0; round < 2; round++) {
      const called = await ask(token);
      expect(called).toMatchObject(unknown);
      expect(Number(called.header('retry-after'))).toBeGreaterThan(0);
    }
    bearerWorld.clock.advance(2000);
    expect((await ask(token)).status).toBe(200);
  });

  it('W20 that is forged is refused, and a flood of them reads the keys a bounded number of times', async () => {
    await startBearers();
    const { mobile } = bearerWorld;
    const good = mobile.accessToken();
    expect((await ask(good)).status).toBe(200);
    expect(await ask(mobile.accessToken({ alg: 'forged' }))).toMatchObject(invalid);
    const codes = new Set<string | undefined>();
    for (let index = 0; index < 200; index++) codes.add((await ask(mobile.accessToken({ alg: 'forged' }))).code);
    expect([...codes].sort()).toEqual(['BFF_BEARER_INVALID', 'BFF_BEARER_UNAVAILABLE', 'BFF_RATE_LIMITED']);
    expect(mobile.requestsTo('jwks').length).toBeLessThanOrEqual(6);
    expect((await ask(good)).status).toBe(200);
  });
});
