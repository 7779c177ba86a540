import { afterEach, describe, expect, it } from 'vitest';
import type { JwtFault } from '../support/evil-provider/faults.ts';
import {
  attemptLogin,
  expectIdTokensAccepted,
  expectIdTokensRefused,
  expectRefused,
  type IdTokenCase,
} from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import type { World, WorldOptions } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

async function start(config: WorldOptions['config'] = () => {}): Promise<void> {
  world = await startTimedWorld({ config });
}

const claims = (changed: Record<string, unknown>): JwtFault => ({ claims: changed });
const nowSeconds = () => world.clock.now() / 1000;
const expectAllRefused = (cases: IdTokenCase[]) => expectIdTokensRefused(world, cases);
const expectAllAccepted = (cases: IdTokenCase[]) => expectIdTokensAccepted(world, cases);

/** The provider changes its metadata, and Cloakroom reads them again. */
async function announce(changed: Record<string, unknown>): Promise<void> {
  world.provider.faults.discovery = { mutate: (json) => ({ ...json, ...changed }) };
  const isRead = async () => {
    world.clock.advance(3_600_001);
    const { length } = world.provider.requestsTo('discovery');
    await attemptLogin(world); // reads in the background; so the second round has what the first one read
    return length >= 3;
  };
  await until(isRead, { message: 'new metadata' });
}

describe('an ID token', () => {
  it('T26 is refused when nobody trusted signed it', async () => {
    await start();
    await expectAllRefused([
      ['alg none', { alg: 'none' }],
      ['alg None', { alg: 'none', header: { alg: 'None' } }],
      ['no alg', { header: { alg: undefined } }],
      ['HS256 with the client secret', { alg: 'HS256-secret' }],
      ['HS256 with the public key', { alg: 'HS256-public' }],
      ['signature by another key', { alg: 'forged' }],
      ['RS256 signature called PS256', { header: { alg: 'PS256' } }],
      ['PS256 signature called RS256', { alg: 'PS256', header: { alg: 'RS256' } }],
      ['RS256 signature called ES256', { header: { alg: 'ES256' } }],
      ['unknown crit', { header: { crit: ['https://evil.example/ext'], 'https://evil.example/ext': true } }],
      ['crit b64', { header: { crit: ['b64'], b64: false } }],
      ['not a JWT', { raw: 'not-a-jwt' }],
      ['four parts', { raw: 'e30.e30.e30.e30' }],
      ['an encrypted one', { raw: 'eyJhbGciOiJkaXIifQ..a.a.a' }],
      ['payload that is no object', { payload: '[]' }],
      ['payload that is no JSON', { payload: '{' }],
      ['none at all', { omit: true }],
      ['a number', { raw: 42 }],
    ]);
  });

  it.each([
    ['refused', ['RS256'], false],
    ['accepted', ['RS256', 'ES256'], true],
  ])(
    'T26 with an algorithm that the provider announces is %s when the configuration has %j',
    async (_, algorithms, isAccepted) => {
      await start(({ authorizationServer }) => {
        authorizationServer.idTokenSigningAlgorithms = algorithms;
      });
      await announce({ id_token_signing_alg_values_supported: ['RS256', 'ES256'] });
      world.provider.faults.idToken = { alg: 'ES256' };
      world.clock.advance(30_000); // the key set may be read again
      const { isLoggedIn } = await attemptLogin(world);
      expect(isLoggedIn).toBe(isAccepted);
      expect(world.log.text().includes('id-token-algorithm')).toBe(!isAccepted);
    },
  );

  it('T27 is refused when it is from or for somebody else', async () => {
    await start();
    const { issuer, clientId } = world.provider;
    await expectAllRefused([
      ['iss with a slash', claims({ iss: `${issuer}/` })],
      ['iss of another tenant', claims({ iss: `${issuer}/tenant` })],
      ['iss in other case', claims({ iss: issuer.toUpperCase() })],
      ['iss empty', claims({ iss: '' })],
      ['iss as array', claims({ iss: [issuer] })],
      ['no iss', claims({ iss: undefined })],
      ['aud of another client', claims({ aud: 'another' })],
      ['aud that begins with ours', claims({ aud: `${clientId}-admin` })],
      ['aud empty', claims({ aud: '' })],
      ['aud empty array', claims({ aud: [] })],
      ['aud of null', claims({ aud: null })],
      ['aud as object', claims({ aud: { [clientId]: true } })],
      ['no aud', claims({ aud: undefined })],
      ['aud array of others', claims({ aud: ['another', 'third'] })],
      ['extra aud, no azp', claims({ aud: [clientId, 'another'] })],
      ['extra aud, azp of another', claims({ aud: [clientId, 'another'], azp: 'another' })],
      ['extra aud that is not trusted, azp ours', claims({ aud: [clientId, 'another'], azp: clientId })],
      ['extra aud that is no string', claims({ aud: [clientId, 7], azp: clientId })],
      ['our aud, azp of another', claims({ azp: 'another' })],
      ['our aud, azp empty', claims({ azp: '' })],
    ]);
    await expectAllAccepted([
      ['aud as array of us alone', claims({ aud: [clientId] })],
      ['azp ours', claims({ azp: clientId })],
    ]);
  });

  it('T27 may name one more audience only when that is trusted and azp is us', async () => {
    await start(({ authorizationServer }) => {
      authorizationServer.trustedAudiences = ['reports'];
    });
    const { clientId } = world.provider;
    await expectAllAccepted([['trusted', claims({ aud: [clientId, 'reports'], azp: clientId })]]);
    await expectAllRefused([
      ['trusted, no azp', claims({ aud: [clientId, 'reports'] })],
      ['one trusted, one not', claims({ aud: [clientId, 'reports', 'another'], azp: clientId })],
      ['trusted alone', claims({ aud: ['reports'], azp: clientId })],
    ]);
  });

  it.each([0, 10, 30])('T28 may be off by %d s, exactly as configured, and no second more', async (tolerance) => {
    await start(({ authorizationServer }) => {
      authorizationServer.clockTolerance = `${tolerance}s`;
    });
    const now = nowSeconds();
    await expectAllAccepted([
      ['iat at the edge', claims({ iat: now + tolerance })],
      ['nbf at the edge', claims({ nbf: now + tolerance })],
    ]);
    await expectAllRefused([
      ['iat past the edge', claims({ iat: now + tolerance + 1 })],
      ['nbf past the edge', claims({ nbf: now + tolerance + 1 })],
    ]);
    // openid-client has the real clock and looks at exp too: an hour ahead of it, only our own check counts.
    world.clock.advance(3_600_000);
    const later = nowSeconds();
    await expectAllAccepted([['exp at the edge', claims({ exp: later - tolerance + 1 })]]);
    await expectAllRefused([['exp past the edge', claims({ exp: later - tolerance })]]);
  });

  const reasons = () =>
    world.log.lines.filter(({ msg }) => msg === 'the code could not be redeemed').map(({ fault }) => fault);

  it('W39 is refused with a word that says by how much its time is outside of which setting', async () => {
    await start();
    const now = nowSeconds();
    await expectAllRefused([
      ['iat', claims({ iat: now - 900 })],
      ['iat to come', claims({ iat: now + 60 })],
      ['nbf', claims({ nbf: now + 75 })],
      ['nbf, with an exp that is over too', claims({ nbf: now + 75, exp: now - 75 })],
      ['exp', claims({ exp: now - 50 })],
    ]);
    expect(reasons()).toMatchObject([
      { reason: 'ID token: iat is 900 s ago, 290 s outside of idTokenMaxAge and clockTolerance' },
      { reason: 'ID token: iat is 60 s ahead, 50 s outside of clockTolerance' },
      { reason: 'ID token: nbf is 75 s ahead, 65 s outside of clockTolerance' },
      { reason: 'ID token: nbf is 75 s ahead, 65 s outside of clockTolerance' },
      { reason: 'ID token: exp is 50 s ago, 40 s outside of clockTolerance' },
    ]);
  });

  it('W39 may be as old as idTokenMaxAge says, for a server that keeps its ID tokens for a while', async () => {
    await start(({ authorizationServer }) => {
      authorizationServer.idTokenMaxAge = '30m';
    });
    const now = nowSeconds();
    await expectAllAccepted([
      ['15 min', claims({ iat: now - 900 })],
      ['the edge', claims({ iat: now - 1810 })],
    ]);
    await expectAllRefused([['past the edge', claims({ iat: now - 1811 })]]);
    expect(reasons()).toMatchObject([
      { reason: 'ID token: iat is 1811 s ago, 1 s outside of idTokenMaxAge and clockTolerance' },
    ]);
  });

  it('T28 is refused when its times are absurd', async () => {
    await start();
    const now = nowSeconds();
    const payload = (change: string) => (regular: Record<string, unknown>) =>
      JSON.stringify({ ...regular, exp: undefined }).replace('{', `{${change},`);
    await expectAllRefused([
      ['exp past 60 s', claims({ exp: now - 60 })],
      ['exp 1e300', claims({ exp: 1e300 })],
      ['exp as text', claims({ exp: '123' })],
      ['exp as text in the future', claims({ exp: String(now + 300) })],
      ['exp −1', claims({ exp: -1 })],
      ['exp 0', claims({ exp: 0 })],
      ['exp null', claims({ exp: null })],
      ['no exp', claims({ exp: undefined })],
      ['iat +1 h', claims({ iat: now + 3600 })],
      ['iat −1 h', claims({ iat: now - 3600 })],
      ['iat −1', claims({ iat: -1 })],
      ['iat 1e300', claims({ iat: 1e300 })],
      ['iat as text', claims({ iat: String(now) })],
      ['no iat', claims({ iat: undefined })],
      ['nbf 1e300', claims({ nbf: 1e300 })],
      ['nbf as text', claims({ nbf: String(now) })],
      ['exp beyond JavaScript', { payload: payload('"exp":1e999')({ sub: 'alice' }) }],
    ]);
  });

  it('T29 is refused with another nonce than this login’s', async () => {
    await start();
    await expectAllRefused([
      ['no nonce', claims({ nonce: undefined })],
      ['empty nonce', claims({ nonce: '' })],
      ['null nonce', claims({ nonce: null })],
      ['other nonce', claims({ nonce: 'n-0S6_WzA2Mj' })],
      ['nonce as array', { claims: (regular) => ({ ...regular, nonce: [regular.nonce] }) }],
      ['nonce with a space', { claims: (regular) => ({ ...regular, nonce: `${regular.nonce} ` }) }],
    ]);
  });

  it('T29 is refused when it is a valid one from an earlier login of the same user', async () => {
    await start();
    await world.loggedIn();
    const [earlier] = world.provider.issuedSecrets('id_token');
    await expectAllRefused([['earlier ID token', { raw: earlier }]]);
  });

  it('T30 is refused when at_hash does not fit the access token', async () => {
    await start();
    await expectAllRefused([
      ['at_hash of another token', claims({ at_hash: 'MTIzNDU2Nzg5MDEyMzQ1Ng' })],
      ['at_hash empty', claims({ at_hash: '' })],
      ['at_hash null', claims({ at_hash: null })],
      ['at_hash as number', claims({ at_hash: 1 })],
    ]);
    await expectAllAccepted([['no at_hash', claims({ at_hash: undefined })]]);
  });

  it('T30 is refused when the access token was exchanged after it was made', async () => {
    await start();
    world.provider.faults.tokenResponse = { mutate: (json) => ({ ...json, access_token: 'stolen-from-another-user' }) };
    await expectRefused(world, 'swapped access token', 502, 'BFF_LOGIN_ANSWER_INVALID');
  });

  it('T31 is refused when sub is not a plain text of 1 to 255 characters', async () => {
    await start();
    await expectAllRefused([
      ['no sub', claims({ sub: undefined })],
      ['empty sub', claims({ sub: '' })],
      ['sub of 300', claims({ sub: 'a'.repeat(300) })],
      ['sub of 256', claims({ sub: 'a'.repeat(256) })],
      ['sub as number', claims({ sub: 7 })],
      ['sub as array', claims({ sub: ['alice'] })],
      ['sub null', claims({ sub: null })],
      ['sub with a line break', claims({ sub: 'alice\nadmin' })],
      ['sub with NUL', claims({ sub: 'alice\0' })],
      ['sub not ASCII', claims({ sub: 'аlice' })],
    ]);
    await expectAllAccepted([['sub of 255', claims({ sub: 'a'.repeat(255) })]]);
  });

  it('T31 is the only source of who the user is: UserInfo, which could name another one, is never asked', async () => {
    await start();
    world.provider.faults.userinfo = { mutate: (json) => ({ ...json, sub: 'mallory' }) };
    const browser = await world.loggedIn('alice');
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ user: { sub: 'alice' } });
    expect(world.provider.requestsTo('userinfo')).toEqual([]);
  });
});
