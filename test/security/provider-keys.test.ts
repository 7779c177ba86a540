import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { forceRefresh } from '../support/api-calls.ts';
import type { JwksFault } from '../support/evil-provider/faults.ts';
import type { Jwk } from '../support/evil-provider/jwt.ts';
import { attemptLogin, expectRefused } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';

const unavailable = [503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'] as const;

let world: World;
afterEach(() => world.stop());

async function start(): Promise<void> {
  world = await startTimedWorld({
    config: ({ authorizationServer }) => {
      authorizationServer.timeout = '1s';
    },
  });
}

const fetches = () => world.provider.requestsTo('jwks').length;
const loginWorks = async () => (await attemptLogin(world)).isLoggedIn;

describe('the key of an ID token', () => {
  it('T32 is found without a kid when there is one key', async () => {
    await start();
    world.provider.faults.idToken = { header: { kid: undefined } };
    expect(await loginWorks()).toBe(true);
  });

  it('W20, T32 is found without a kid among several, and is the only one that counts', async () => {
    await start();
    world.provider.faults.idToken = { header: { kid: undefined } };
    world.provider.faults.jwks = { keys: 100 };
    expect(await loginWorks()).toBe(true);
    world.provider.faults.idToken = { alg: 'forged', header: { kid: undefined } };
    await expectRefused(world, 'forged, no kid', 502, 'BFF_LOGIN_ANSWER_INVALID');
  });

  it('W20, T32 is found among three that have the same kid', async () => {
    await start();
    world.provider.faults.jwks = { keys: 3, duplicateKid: true };
    expect(await loginWorks()).toBe(true);
    world.provider.faults.idToken = { alg: 'forged' };
    await expectRefused(world, 'forged, same kid', 502, 'BFF_LOGIN_ANSWER_INVALID');
  });

  it.each([undefined, null])('W20 is found by kid %s beside keys of every other kind', async (kid) => {
    await start();
    world.provider.faults.idToken = { header: { kid } };
    world.provider.faults.jwks = { mutate: ({ keys }) => ({ keys: [...odd(keys as Jwk[]), ...(keys as Jwk[])] }) };
    expect(await loginWorks()).toBe(true);
  });

  it('W20 is found by its kid beside broken ones of the same kid', async () => {
    await start();
    world.provider.faults.jwks = {
      mutate(json) {
        const keys = json.keys as Jwk[];
        return { keys: [...odd(keys).map((key) => ({ ...key, kid: keys[0]?.kid })), ...keys] };
      },
    };
    expect(await loginWorks()).toBe(true);
  });

  it('W20 that alone fits but can’t be used is as one that is not there: nobody’s session ends', async () => {
    await start();
    const browser = await world.loggedIn();
    const [short] = odd(world.provider.jwks().keys).filter(({ n }) => String(n).length === 171);
    world.provider.faults.jwks = { mutate: ({ keys }) => ({ keys: [{ ...(keys as Jwk[])[0], ...short }] }) };
    world.clock.advance(301_000);
    await expectRefused(world, 'short key', ...unavailable);
    expect((await forceRefresh(browser)).status).toBe(200);
  });

  it('T32 is the one with the right kid among three', async () => {
    await start();
    world.provider.faults.jwks = { keys: 3 };
    expect(await loginWorks()).toBe(true);
  });

  it('T32 is found with exactly one more fetch when the provider rotated just before it signed', async () => {
    await start();
    expect(await loginWorks()).toBe(true);
    world.clock.advance(31_000);
    world.provider.rotateKeys();
    expect(await loginWorks()).toBe(true);
    expect(await loginWorks()).toBe(true);
    expect(fetches()).toBe(2);
  });

  it('T32 leads to "try again shortly" while it can’t be found, and then works', async () => {
    await start();
    expect(await loginWorks()).toBe(true);
    const behind = world.provider.jwks(); // a cache in front of the key set
    world.provider.rotateKeys();
    world.provider.faults.jwks = { body: behind };
    const { page } = await expectRefused(world, 'rotated', ...unavailable);
    expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
    delete world.provider.faults.jwks;
    expect(await loginWorks()).toBe(true);
  });

  it('T32 that left the key set is not accepted any more once the set was read again', async () => {
    await start();
    await world.loggedIn();
    const old = world.provider.jwks().keys[0]?.kid;
    world.provider.rotateKeys();
    world.clock.advance(301_000);
    world.provider.faults.idToken = { alg: 'forged', header: { kid: old } };
    await expectRefused(world, 'old kid', ...unavailable);
  });

  it('T32 is never fetched from where the token itself points, nor taken out of it', async () => {
    await start();
    const forged = `${world.provider.issuer}/forged-jwks`;
    const jwk = world.provider.forgedJwk();
    const headers: Record<string, unknown>[] = [
      { jku: forged, kid: jwk.kid },
      { jku: forged },
      { x5u: forged, kid: jwk.kid },
      { jwk, kid: jwk.kid },
      { jwk },
      { jwk, kid: undefined },
      { x5c: [Buffer.from('certificate').toString('base64')] },
      { kid: forged, jku: forged, x5u: forged, jwk },
      { kid: '../../forged-jwks' },
    ];
    for (const header of headers) {
      world.provider.faults.idToken = { alg: 'forged', header };
      const { isLoggedIn, status } = await attemptLogin(world);
      expect.soft({ isLoggedIn, isRefused: [502, 503].includes(status) }, JSON.stringify(header)).toEqual({
        isLoggedIn: false,
        isRefused: true,
      });
    }
    expect(world.provider.requestsTo('forged-jwks')).toEqual([]);
    expect(world.provider.requestsTo('unknown')).toEqual([]);
  });
});

describe('the key set', () => {
  const symmetric = { kty: 'oct', k: randomBytes(32).toString('base64url'), alg: 'HS256' };
  const cases: [what: string, fault: JwksFault][] = [
    ['is missing', { status: 404 }],
    ['fails', { status: 500 }],
    ['is "too many requests"', { status: 429, headers: { 'retry-after': '3600' } }],
    ['is HTML', { body: '<h1>Hello</h1>', headers: { 'content-type': 'text/html' } }],
    ['is no JSON', { body: 'garbage' }],
    ['is null', { body: 'null' }],
    ['is an array', { body: [] }],
    ['has no keys', { body: {} }],
    ['has an object as keys', { body: { keys: { 0: 'x' } } }],
    ['has zero keys', { body: { keys: [] } }],
    ['has keys that are none', { body: { keys: [null, 1, 'x', [], {}] } }],
    [
      'has symmetric keys',
      { mutate: (json) => ({ keys: (json.keys as object[]).map((key) => ({ ...key, ...symmetric })) }) },
    ],
    ['has keys without kid', { noKid: true }],
    [
      'has keys for encryption only',
      { mutate: (json) => ({ keys: (json.keys as object[]).map((key) => ({ ...key, use: 'enc' })) }) },
    ],
    ['has 500 keys', { keys: 500 }],
    ['is of 5 MB', { hugeBytes: 5_000_000 }],
    ['is of 300 kB', { hugeBytes: 300_000 }],
    ['is a gzip bomb', { gzipBomb: 16 << 20 }],
    ['is somewhere else', { redirectTo: 'http://127.0.0.1:1/jwks' }],
    ['ends in the middle', { truncate: 'connection' }],
    ['drops the connection', { reset: true }],
  ];

  it.each(cases)('T32 that %s refuses the login, and the next one works when it is well again', async (what, fault) => {
    await start();
    world.provider.faults.jwks = fault;
    await expectRefused(world, what, ...unavailable);
    delete world.provider.faults.jwks;
    world.clock.advance(2000);
    expect(await loginWorks()).toBe(true);
  });

  it('T32 that never arrives refuses the login within the time limit', async () => {
    await start();
    world.provider.faults.jwks = { hang: true };
    const startedAt = performance.now();
    await expectRefused(world, 'hangs', ...unavailable);
    expect(performance.now() - startedAt).toBeLessThan(2500);
  });

  it('T32 that could not be read is asked for again after two seconds, not for every login', async () => {
    await start();
    world.provider.faults.jwks = { status: 500 };
    for (let i = 0; i < 10; i++) await expectRefused(world, 'down', ...unavailable);
    expect(fetches()).toBe(1);
    delete world.provider.faults.jwks;
    world.clock.advance(2000);
    expect(await loginWorks()).toBe(true);
  });

  it('T32 that was good is kept while new ones can’t be read', async () => {
    await start();
    await world.loggedIn();
    world.provider.faults.jwks = { status: 500 };
    world.clock.advance(3_600_000);
    expect(await loginWorks()).toBe(true);
    expect(fetches()).toBe(2);
  });

  it('T33, W44 is fetched a bounded number of times, however many tokens have key ids that it does not know', async () => {
    await start();
    await world.loggedIn();
    const startedAt = world.clock.now();
    for (let round = 0; round < 9; round++) {
      world.provider.faults.idToken = {
        times: 6,
        header: (regular) => ({ ...regular, kid: randomBytes(8).toString('hex') }),
      };
      const attempts = await Promise.all(Array.from({ length: 6 }, () => attemptLogin(world)));
      expect(attempts.filter(({ isLoggedIn }) => isLoggedIn)).toEqual([]);
      expect(await loginWorks()).toBe(true); // and others are not disturbed
      world.clock.advance(10_000);
    }
    const times = world.provider.requestsTo('jwks').map(({ at }) => at - startedAt);
    expect(times.length).toBeLessThanOrEqual(1 + 3 + 90_000 / 30_000);
    // What found nothing counts; three looks may be saved up.
    for (const from of times) expect(times.filter((at) => at >= from && at < from + 30_000).length).toBeLessThan(5);
  });
});

/** Keys that are not for this, or no good: none may stand in the way of one that is. */
function odd(keys: Jwk[]): Jwk[] {
  const [good] = keys;
  const { n: _, ...without } = { ...good };
  const shortKey = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
  const curve = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' });
  return [
    { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA' },
    { kty: 'oct', k: 'AAAA' },
    { kty: 'LMS' },
    { kty: 7 },
    {},
    { ...good, use: 'enc' },
    { ...good, use: 'tls' },
    { ...good, alg: 'RSA-OAEP-256' },
    { ...good, alg: 'made-up' },
    { ...good, alg: 7 },
    { ...good, key_ops: ['encrypt'] },
    { ...good, key_ops: 'verify' },
    { ...good, n: 7 },
    { ...good, n: '!' },
    { ...good, e: '' },
    { ...good, d: 'AQAB' },
    without,
    { ...shortKey, kid: 'short', use: 'sig', alg: 'RS256' },
    { ...curve, kid: 'curve', use: 'sig' },
    { kty: 'EC', crv: 'P-256', x: 'AAAA', y: 'AAAA' },
    { kty: 'OKP', crv: 'X25519', x: 'AAAA' },
    { kty: 'OKP', crv: 'Ed448', x: 'AAAA' },
  ];
}
