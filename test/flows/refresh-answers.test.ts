import { afterEach, describe, expect, it } from 'vitest';
import { bearers, call, forceRefresh, sessionOf } from '../support/api-calls.ts';
import type { JwtFault, TokenFault } from '../support/evil-provider/faults.ts';
import { expired, impatient, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const refreshes = () => world.provider.tokenRequests('refresh_token');
const auditLines = () => world.log.lines.filter(({ audit }) => audit === 'refresh_foreign_subject');

describe('a refresh whose answer is lost', () => {
  it('T114 is recovered by one more try, with a new client assertion', async () => {
    // With the real clock: openid-client dates the assertions by it.
    world = await startWorld({
      store: 'memory',
      provider: { reuseGraceSeconds: 30 },
      config: ({ authorizationServer }) => {
        authorizationServer.clientAuthentication = 'client_secret_jwt';
      },
    });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { times: 1, commitThenCut: true };
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await call(browser)).status).toBe(200);
    const assertions = refreshes().map(({ params }) => decode(params.get('client_assertion')));
    expect(assertions).toHaveLength(2);
    expect(assertions.map(({ aud }) => aud)).toEqual([world.provider.issuer, world.provider.issuer]);
    expect(new Set(assertions.map(({ jti }) => jti)).size).toBe(2);
    expect(new Set(refreshes().map(({ params }) => params.get('refresh_token'))).size).toBe(1);
  });

  it('T114 ends in one clean login where the provider forgives nothing, and in no loop', async () => {
    world = await startTimedWorld({ config: impatient });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { times: 1, commitThenCut: true };
    world.clock.advance(expired);
    for (const _ of [1, 2, 3]) expect((await call(browser)).status).toBe(401);
    expect(refreshes()).toHaveLength(2);
  });
});

describe('a refresh about somebody else', () => {
  const foreign: [what: string, fault: JwtFault][] = [
    ['another sub', { claims: { sub: 'mallory' } }],
    ['another iss', { claims: { iss: 'https://id.example' } }],
    ['another aud', { claims: { aud: 'another' } }],
    ['one more aud', { claims: { aud: ['cloakroom', 'another'] } }],
    ['another azp', { claims: { azp: 'another' } }],
    ['another nonce', { claims: { nonce: 'another' } }],
    ['no sub', { claims: { sub: undefined } }],
    ['a forged signature', { alg: 'forged' }],
    ['alg none', { alg: 'none' }],
    ['HS256 with the client secret', { alg: 'HS256-secret' }],
    ['an unknown crit', { header: { crit: ['x'], x: 1 } }],
    ['another at_hash', { claims: { at_hash: 'MTIzNDU2Nzg5MDEyMzQ1Ng' } }],
  ];

  it.each(foreign)('T115 with %s ends the session, tells the audit log and revokes', async (_what, fault) => {
    world = await startTimedWorld({ config: impatient });
    world.allowErrors();
    const browser = await world.loggedIn();
    world.provider.faults.refreshIdToken = fault;
    world.clock.advance(expired);
    expect((await call(browser)).status).toBe(401);
    expect((await sessionOf(browser)).authenticated).toBe(false);
    expect(world.upstream.requests).toEqual([]);
    expect(auditLines()).toMatchObject([{ level: 'error', frontend: 'default' }]);
    await until(() => world.provider.refreshFamilies().every(({ revoked }) => revoked));
    expect(world.provider.reuseDetected()).toBe(0);
    expect(refreshes()).toHaveLength(1);
  });
});

describe('a refresh whose ID token can’t be judged now', () => {
  /** The new tokens are used, the new claims are not, and nobody is logged out. */
  async function expectKeptWithoutClaims(): Promise<void> {
    const browser = await world.loggedIn('alice', { roles: ['user'] });
    world.provider.faults.refreshIdToken = { claims: { roles: ['admin'], ...staleClaims } };
    await beforeRefresh();
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await sessionOf(browser)).user).toMatchObject({ sub: 'alice', roles: ['user'] });
    expect((await call(browser)).status).toBe(200);
    expect(bearers(world)).toEqual([`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`]);
    expect(world.provider.reuseDetected()).toBe(0);
    expect(world.log.text()).toContain('its claims are not taken over');
  }
  let staleClaims: Record<string, unknown> = {};
  let beforeRefresh: () => Promise<void> | void = () => {};
  afterEach(() => {
    staleClaims = {};
    beforeRefresh = () => {};
  });

  it('T32 because a cache still has the old keys keeps everybody logged in', async () => {
    world = await startTimedWorld({ config: impatient });
    beforeRefresh = () => {
      world.provider.faults.jwks = { body: world.provider.jwks() };
      world.provider.rotateKeys();
    };
    await expectKeptWithoutClaims();
  });

  it.each<[string, TokenFault]>([
    ['fails', { status: 500 }],
    ['is garbage', { body: 'garbage' }],
    ['is silent', { hang: true }],
  ])('T32 because the key set %s keeps everybody logged in', async (_what, fault) => {
    world = await startTimedWorld({ config: impatient });
    beforeRefresh = () => {
      world.provider.rotateKeys();
      world.provider.faults.jwks = fault;
      world.clock.advance(31_000);
    };
    await expectKeptWithoutClaims();
  });

  it.each([
    ['ahead', 60],
    ['behind', -3600],
  ])('T28 because its iat is %s keeps everybody logged in', async (_what, seconds) => {
    world = await startTimedWorld({ config: impatient });
    staleClaims = { iat: world.clock.now() / 1000 + seconds };
    await expectKeptWithoutClaims();
  });

  it.each([
    ['15 min old', { iat: -900 }, /iat is 900 s ago, 290 s outside/],
    ['over', { exp: -60 }, /exp is 60 s ago, 50 s outside/],
    ['to come', { nbf: 60 }, /nbf is 60 s ahead, 50 s outside/],
  ])('W39 because it is %s keeps everybody logged in, and the log says by how much', async (_what, times, reason) => {
    world = await startTimedWorld({ config: impatient });
    const now = world.clock.now() / 1000;
    staleClaims = Object.fromEntries(Object.entries(times).map(([name, seconds]) => [name, now + seconds]));
    await expectKeptWithoutClaims();
    expect(world.log.text()).toMatch(reason);
  });

  it('T115 is still not taken when it names another user', async () => {
    world = await startTimedWorld({ config: impatient });
    world.allowErrors();
    const browser = await world.loggedIn();
    world.provider.rotateKeys();
    world.provider.faults.refreshIdToken = { claims: { sub: 'mallory' } };
    expect((await forceRefresh(browser)).status).toBe(401);
    expect(auditLines()).toHaveLength(1);
  });
});

function decode(assertion: string | null): { jti: string; aud: unknown } {
  return JSON.parse(Buffer.from((assertion ?? '').split('.')[1] ?? '', 'base64url').toString());
}
