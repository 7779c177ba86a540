import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import type { AccessTokenOptions } from '../support/evil-provider/access-token.ts';
import { rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// BV2, BV6, DT1: what a JWT must be to be an access token for this API. Two issuers with keys of their own.

let world: BearerWorld;
/** As `mobile`, with `types: [at+jwt, JWT]`. */
let lax: BearerWorld;

beforeAll(async () => {
  world = await startBearerWorld({
    config(data) {
      data.apis.strong = { ...data.apis.both, path: '/api/strong', require: { acr: ['gold'], maxAge: '5m' } };
      data.apis.self = { ...data.apis.both, path: '/api/self', require: { claims: { sub: 'mobile-app' } } };
    },
  });
  lax = await startBearerWorld({
    config: (data) => Object.assign(data.bearerIssuers.mobile, { types: ['at+jwt', 'JWT'], algorithms: ['RS256'] }),
  });
});
beforeEach(() => {
  world.fresh();
  lax.fresh();
});
afterAll(async () => {
  await world.stop();
  await lax.stop();
});

const invalid = { status: 401, code: 'BFF_BEARER_INVALID' };
const now = () => Math.floor(world.clock.now() / 1000);
const later = (seconds: number) => ({ exp: now() + seconds });
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Refused, without a word to the upstream, and with a challenge that names no reason. */
async function expectInvalid(token: string, expected: object = invalid, target = '/api/both/1'): Promise<void> {
  const called = await world.call(token, target);
  expect(called).toMatchObject(expected);
  expect(called.header('www-authenticate')).toBe('Bearer realm="cloakroom", error="invalid_token"');
  expect(called.header('set-cookie')).toBeUndefined();
  expect(called.body).not.toContain('loginUrl');
  expect(world.upstream.requests).toEqual([]);
}

describe('a JWT that is refused', () => {
  const cases: [what: string, options: () => AccessTokenOptions][] = [
    // signature and algorithm
    ['signed by somebody else', () => ({ alg: 'forged' })],
    ['unsigned (alg none)', () => ({ alg: 'none' })],
    ['unsigned, alg None', () => ({ alg: 'none', header: { alg: 'None' } })],
    ['an HMAC with the public key (HS256)', () => ({ alg: 'HS256-public' })],
    ['an HMAC with the client secret (HS256)', () => ({ alg: 'HS256-secret' })],
    ['an algorithm that is not allowed (RS384)', () => ({ header: { alg: 'RS384' } })],
    ['without alg', () => ({ header: { alg: undefined } })],
    ['critical headers', () => ({ header: { crit: ['exp'], exp: 1 } })],
    ['empty critical headers', () => ({ header: { crit: [] } })],
    ['an unencoded payload (b64)', () => ({ header: { b64: false, crit: ['b64'] } })],
    ['b64: true', () => ({ header: { b64: true } })],
    // type
    ['typ JWT, as ID tokens have', () => ({ header: { typ: 'JWT' } })],
    ['no typ', () => ({ header: { typ: undefined } })],
    ['a logout token (typ logout+jwt)', () => ({ header: { typ: 'logout+jwt' } })],
    ['typ jwt with a suffix', () => ({ header: { typ: 'at+jwt;x' } })],
    ['a typ that is no string', () => ({ header: { typ: ['at+jwt'] as unknown as string } })],
    // issuer
    ['no iss', () => ({ claims: { iss: undefined } })],
    ['the issuer with a slash', () => ({ claims: { iss: `${world.mobile.issuer}/` } })],
    ['the issuer in capitals', () => ({ claims: { iss: world.mobile.issuer.toUpperCase() } })],
    ['a list with the issuer', () => ({ claims: { iss: [world.mobile.issuer] } })],
    ['an unknown issuer', () => ({ claims: { iss: 'https://evil.example' } })],
    ['the other issuer', () => ({ claims: { iss: world.provider.issuer } })],
    ['an issuer called __proto__', () => ({ claims: { iss: '__proto__' } })],
    // audience
    ['no aud', () => ({ claims: { aud: undefined } })],
    ['another aud', () => ({ audience: 'other-api' })],
    ['an aud that begins like ours', () => ({ audience: 'api.evil' })],
    ['several auds without ours', () => ({ audience: ['a', 'b'] })],
    ['an empty list of auds', () => ({ audience: [] })],
    ['ours among things that are no text', () => ({ claims: { aud: ['api', 7] } })],
    ['a nested aud', () => ({ claims: { aud: [['api']] } })],
    ['our audiences in one string', () => ({ audience: 'api urn:shop:orders' })],
    // time
    ['no exp', () => ({ claims: { exp: undefined } })],
    ['exp past', () => ({ claims: { exp: now() - 11 } })],
    ['exp as text', () => ({ claims: { exp: String(now() + 300) } })],
    ['exp as a huge number', () => ({ payload: '' })],
    ['exp null', () => ({ claims: { exp: null } })],
    ['nbf to come', () => ({ claims: { nbf: now() + 60 } })],
    ['nbf as text', () => ({ claims: { nbf: '0' } })],
    ['iat to come', () => ({ claims: { iat: now() + 60, ...later(600) } })],
    // who
    ['a sub that is no text', () => ({ claims: { sub: { a: 1 } } })],
    ['an empty sub', () => ({ sub: '' })],
    ['a sub with a line break', () => ({ sub: 'a\nb' })],
    ['neither sub nor client', () => ({ sub: null, claims: { client_id: undefined } })],
    // form
    ['a payload that is no JSON', () => ({ payload: 'sub=alice' })],
    ['a payload that is a list', () => ({ payload: '[]' })],
    ['a payload that is null', () => ({ payload: 'null' })],
  ];
  for (const [what, options] of cases) {
    it(`BV2 ${what}`, async () => {
      const fault = options();
      if (what === 'exp as a huge number')
        fault.payload = `{"iss":"${world.mobile.issuer}","aud":"api","sub":"x","client_id":"y","exp":1e999}`;
      await expectInvalid(world.mobile.accessToken(fault));
    });
  }

  it('BV2 an ID token, a refresh token or a logout token of a login', async () => {
    await world.loggedIn('bob');
    const [idToken = ''] = world.provider.issuedSecrets('id_token').slice(-1);
    const [refreshToken = ''] = world.provider.issuedSecrets('refresh_token').slice(-1);
    const logoutToken = world.provider.logoutToken({ audience: 'api' });
    for (const token of [idToken, refreshToken, logoutToken]) await expectInvalid(token);
  });

  it('BV2 a signature of one issuer under the name of the other', async () => {
    const kid = world.provider.jwks().keys[0]?.kid;
    await expectInvalid(world.mobile.accessToken({ claims: { iss: world.provider.issuer }, header: { kid } }));
    await expectInvalid(world.provider.accessToken({ claims: { iss: world.mobile.issuer } }));
  });

  it('BV2 an RS256 signature that says PS256: there is no key for it', async () => {
    world.clock.advance(31_000);
    await expectInvalid(world.mobile.accessToken({ header: { alg: 'PS256' } }));
  });

  it('BV2 a changed payload, header or signature', async () => {
    const [header = '', payload = '', signature = ''] = world.mobile.accessToken().split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const changed = encode({ ...claims, sub: 'admin' });
    for (const token of [
      `${header}.${changed}.${signature}`,
      `${header}.${payload}.${signature.slice(0, -4)}AAAA`,
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `${header}..${signature}`,
      `${header}.${payload}.${signature}.${signature}`,
      `${encode({ alg: 'none', typ: 'at+jwt' })}.${payload}.`,
      `${encode({ alg: 'none', typ: 'at+jwt' })}.${changed}.x`,
    ])
      await expectInvalid(token);
  });

  it('BV2 keys that the token brings or points to: they are neither used nor fetched', async () => {
    const jwk = world.mobile.forgedJwk();
    const forged = `${world.mobile.issuer}/forged-jwks`;
    const real = world.mobile.jwks().keys[0]?.kid;
    const headers: Record<string, unknown>[] = [
      { jwk, kid: real },
      { jwk, kid: undefined },
      { jku: forged, kid: real },
      { jku: forged, kid: undefined },
      { x5u: forged, kid: real },
      { x5c: [Buffer.from('certificate').toString('base64')], kid: real },
      { jwk, jku: forged, x5u: forged, kid: forged },
      { jwk, jku: forged, kid: '../forged-jwks' },
    ];
    world.clock.advance(31_000);
    for (const header of headers) {
      const called = await world.call(world.mobile.accessToken({ alg: 'forged', header }));
      expect([401, 503], JSON.stringify(header)).toContain(called.status);
    }
    expect(world.upstream.requests).toEqual([]);
    const asked = [...world.mobile.requests, ...world.provider.requests].map(({ endpoint }) => endpoint);
    expect(asked.filter((endpoint) => endpoint !== 'jwks')).toEqual([]);
    expect(asked.length).toBeLessThanOrEqual(2);
  });

  it('BV2 one that is too long, before anything of it is read', async () => {
    const token = world.mobile.accessToken({ claims: { padding: randomBytes(7000).toString('base64url') } });
    expect(token.length).toBeGreaterThan(12 * 1024);
    world.log.clear();
    await expectInvalid(token);
    expect(world.log.lines.find(({ audit }) => audit === 'bearer_refused')).toMatchObject({
      reason: 'too long',
      issuer: 'none',
    });
    const shorter = world.mobile.accessToken({ claims: { padding: randomBytes(5500).toString('base64url') } });
    expect((await world.call(shorter)).status).toBe(200);
  });

  it('BV6 one that is bound to a key, with a word that says so', async () => {
    for (const cnf of [{ jkt: 'x'.repeat(43) }, { 'x5t#S256': 'y' }, {}, null, 'x'])
      await expectInvalid(world.mobile.accessToken({ claims: { cnf } }), { status: 401, code: 'BFF_BEARER_BOUND' });
  });

  it('leaves its reason in the log, and nothing of itself', async () => {
    world.log.clear();
    await world.call(world.mobile.accessToken({ sub: 'user-0815', audience: 'other-api' }));
    const [line] = world.log.lines.filter(({ audit }) => audit === 'bearer_refused');
    expect(line).toMatchObject({ api: 'both', issuer: 'mobile', reason: 'aud' });
    expect(world.log.text()).not.toMatch(/user-0815|other-api|mobile-app/);
  });
});

describe('a JWT that is accepted', () => {
  const cases: [what: string, options: () => AccessTokenOptions][] = [
    ['aud in a list', () => ({ audience: ['other', 'api'] })],
    ['typ application/at+jwt', () => ({ header: { typ: 'application/at+jwt' } })],
    ['typ AT+JWT', () => ({ header: { typ: 'AT+JWT' } })],
    ['PS256', () => ({ alg: 'PS256' })],
    ['exp within the tolerance', () => ({ claims: { exp: now() - 9 } })],
    ['nbf within the tolerance', () => ({ claims: { nbf: now() + 9 } })],
    ['no iat', () => ({ claims: { iat: undefined } })],
    ['no kid, as there is one key', () => ({ header: { kid: undefined } })],
    ['keys in the header that nobody looks at', () => ({ header: { jwk: { kty: 'oct', k: 'AAAA' }, x5c: ['x'] } })],
  ];
  for (const [what, options] of cases) {
    it(`BV2 has ${what}`, async () => {
      // PS256 is signed with the key of RS256: the key set says nothing about the algorithm then.
      if (what === 'PS256') {
        world.mobile.faults.jwks = {
          mutate: (json) => ({ keys: (json.keys as object[]).map((key) => ({ ...key, alg: undefined })) }),
        };
        world.clock.advance(301_000);
      }
      const token = world.mobile.accessToken(options());
      expect(await world.call(token)).toMatchObject({ status: 200 });
      expect(world.arrived()).toEqual([`Bearer ${token}`]);
    });
  }

  it('BV2 until exp plus the tolerance, and not a second longer', async () => {
    const token = world.mobile.accessToken({ claims: later(100) });
    world.clock.advance(109_000);
    expect((await world.call(token)).status).toBe(200);
    world.clock.advance(1000);
    expect(await world.call(token)).toMatchObject(invalid);
  });
});

describe('an API with a name of its own', () => {
  it('DT1 gets only tokens that are made for it, however good they are elsewhere', async () => {
    const forAll = world.mobile.accessToken({ audience: 'api' });
    expect((await world.call(forAll)).status).toBe(200);
    world.fresh();
    await expectInvalid(forAll, invalid, '/api/named/1');
    expect((await world.call(world.mobile.accessToken({ audience: 'urn:shop:orders' }), '/api/named/1')).status).toBe(
      200,
    );
    const both = world.mobile.accessToken({ audience: ['api', 'urn:shop:orders'] });
    expect((await world.call(both, '/api/named/1')).status).toBe(200);
  });

  it('DT1 is no name of another issuer: its audiences count too', async () => {
    const data = { audience: 'urn:shop:orders' };
    const opaque = world.opaque.issue({ aud: 'urn:shop:orders' });
    await expectInvalid(opaque, invalid, '/api/named/1');
    expect((await world.call(world.provider.accessToken(data), '/api/named/1')).status).toBe(200);
  });
});

describe('an issuer with types: [at+jwt, JWT]', () => {
  it('BV2 may leave the type out', async () => {
    for (const typ of ['JWT', undefined, 'at+jwt', 'jwt'])
      expect((await lax.call(lax.mobile.accessToken({ header: { typ } }))).status, String(typ)).toBe(200);
    const keycloak = lax.mobile.accessToken({ header: { typ: 'JWT' }, claims: { typ: 'Bearer' } });
    expect((await lax.call(keycloak)).status).toBe(200);
  });

  it('BV2 still gets no other kind of token in', async () => {
    const header = { typ: 'JWT' };
    const others: AccessTokenOptions[] = [
      { header: { typ: 'logout+jwt' } },
      { header: { typ: 'JWS' } },
      { header, claims: { nonce: 'n' } },
      { header, claims: { at_hash: 'h' } },
      { header, claims: { c_hash: 'h' } },
      { header: { typ: undefined }, claims: { events: {} } },
      { header, claims: { typ: 'ID' } },
      { header, claims: { typ: 'Refresh' } },
      { header, claims: { typ: 'Logout' } },
    ];
    for (const options of others)
      expect(await lax.call(lax.mobile.accessToken(options)), JSON.stringify(options)).toMatchObject(invalid);
    expect(lax.upstream.requests).toEqual([]);
    // The other issuers of the same frontend are as strict as they were.
    expect(await lax.call(lax.provider.accessToken({ header }))).toMatchObject(invalid);
  });
});

describe('a token without a user', () => {
  it('BV7 is the client’s: it may call, and satisfies no rule about a user', async () => {
    for (const options of [
      { sub: null },
      { sub: 'mobile-app' },
      { sub: null, claims: { client_id: undefined, azp: 'mobile-app' } },
    ]) {
      const token = world.mobile.accessToken(options);
      expect((await world.call(token)).status).toBe(200);
      expect(await world.call(token, '/api/self/1')).toMatchObject({ status: 403, code: 'BFF_POLICY_DENIED' });
    }
    const user = world.mobile.accessToken({ sub: 'mobile-app', clientId: 'another-app' });
    expect((await world.call(user, '/api/self/1')).status).toBe(200);
  });
});

describe('a rule about how the user authenticated', () => {
  it('PO7 is judged by the token, and says what it takes in the way of RFC 9470', async () => {
    const fresh = { acr: 'gold', auth_time: now() - 100 };
    expect((await world.call(world.mobile.accessToken({ claims: fresh }), '/api/strong/1')).status).toBe(200);
    for (const claims of [{}, { ...fresh, acr: 'silver' }, { ...fresh, auth_time: now() - 400 }, { acr: 'gold' }]) {
      const called = await world.call(world.mobile.accessToken({ claims }), '/api/strong/1');
      expect(called).toMatchObject({ status: 401, code: 'BFF_BEARER_TOO_WEAK' });
      expect(called.header('www-authenticate')).toBe(
        'Bearer realm="cloakroom", error="insufficient_user_authentication", acr_values="gold", max_age="300"',
      );
      expect(called.body).not.toContain('loginUrl');
    }
    expect(world.upstream.requests.length).toBe(1);
  });
});

describe('an event stream', () => {
  it('that a token opened ends with the token', async () => {
    let close: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      close = resolve;
    });
    async function* events() {
      yield 'data: one\n\n';
      await held;
    }
    world.upstream.respond = reply({ headers: [['Content-Type', 'text/event-stream']], body: events() });
    // Timers are real, also where the clock is not.
    const token = world.mobile.accessToken({ claims: { exp: now() + 1 } });
    const stream = await openStream(world, token);
    close();
    expect(stream).toMatchObject({ status: 200, closed: true });
    expect(stream.text).toContain('data: one');
    await until(() => world.upstream.active === 0);
  });

  it('does not keep the process from stopping', async () => {
    const own = await startBearerWorld();
    own.upstream.respond = reply({ headers: [['Content-Type', 'text/event-stream']], body: forever() });
    const stream = openStream(own, own.mobile.accessToken(), 60_000);
    await until(() => own.upstream.active === 1);
    await own.stop();
    expect(await stream).toMatchObject({ status: 200, closed: true });
  });
});

/** Reads until the other side ends the connection. */
function openStream({ port }: BearerWorld, token: string, timeoutMs = 15_000) {
  const head = `GET /api/both/1 HTTP/1.1\r\nHost: localhost:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  return rawRequest(port, head, { untilClose: true, timeoutMs });
}

async function* forever() {
  yield 'data: one\n\n';
  await new Promise(() => undefined);
}
