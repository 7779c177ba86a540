import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createBearerVerifier } from '../../src/bearer/bearer.ts';
import { Secret } from '../../src/crypto/secret.ts';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { sendJson } from '../support/introspection-server.ts';
import { until } from '../support/wait.ts';

// BV3: opaque tokens. The issuer is asked (RFC 7662), its answers stand for a short while, and no answer is no.

let world: BearerWorld;

beforeAll(async () => {
  world = await startBearerWorld();
});
beforeEach(() => {
  world.fresh();
  world.clock.advance(31_000); // answers that were kept are forgotten
});
afterAll(() => world.stop());

const invalid = { status: 401, code: 'BFF_BEARER_INVALID' };
const unavailable = { status: 503, code: 'BFF_BEARER_UNAVAILABLE' };
const now = () => Math.floor(world.clock.now() / 1000);

describe('an opaque token', () => {
  it('BV3 is asked about with our credentials, and goes on unchanged', async () => {
    const token = world.opaque.issue();
    expect((await world.call(token)).status).toBe(200);
    expect(world.arrived()).toEqual([`Bearer ${token}`]);
    const [asked] = world.opaque.requests;
    expect(asked).toMatchObject({
      method: 'POST',
      path: '/introspect',
      contentType: expect.stringMatching(/^application\/x-www-form-urlencoded/),
      authorization: expect.stringMatching(/^Basic /),
      token,
      hint: 'access_token',
    });
    expect(world.opaque.metadataRequests).toBe(1);
  });

  it('BV3 is subject to the same rules as a JWT', async () => {
    const admin = world.opaque.issue({ roles: ['admin'] });
    expect((await world.call(admin, '/api/admin/1')).status).toBe(200);
    const denied = { status: 403, code: 'BFF_POLICY_DENIED' };
    expect(await world.call(world.opaque.issue(), '/api/admin/1')).toMatchObject(denied);
    expect((await world.call(world.opaque.issue({ scope: 'a orders:write' }), '/api/scoped/1')).status).toBe(200);
    expect(await world.call(world.opaque.issue({ scope: 'a' }), '/api/scoped/1')).toMatchObject(denied);
  });

  const refused: [what: string, claims: () => Record<string, unknown>][] = [
    ['for another audience', () => ({ aud: 'other' })],
    ['for no audience', () => ({ aud: undefined })],
    ['for an audience that is no text', () => ({ aud: { api: true } })],
    ['of another issuer', () => ({ iss: 'https://evil.example' })],
    ['that is over', () => ({ exp: now() - 11 })],
    ['with an exp that is text', () => ({ exp: String(now() + 300) })],
    ['that is not valid yet', () => ({ nbf: now() + 60 })],
    ['that was made in the future', () => ({ iat: now() + 60 })],
    ['of nobody', () => ({ sub: undefined, client_id: undefined })],
    ['that is a refresh token', () => ({ token_type: 'refresh_token' })],
    ['of a type that is no text', () => ({ token_type: ['Bearer'] })],
    ['of type DPoP', () => ({ token_type: 'DPoP' })],
  ];
  for (const [what, claims] of refused) {
    it(`BV3 ${what} is refused, active or not`, async () => {
      expect(await world.call(world.opaque.issue(claims()))).toMatchObject(invalid);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('BV6 that is bound to a key is refused with a word that says so', async () => {
    const token = world.opaque.issue({ cnf: { jkt: 'x' }, token_type: 'Bearer' });
    expect(await world.call(token)).toMatchObject({ status: 401, code: 'BFF_BEARER_BOUND' });
  });

  it('BV3 may come without issuer, type and end; a client’s too', async () => {
    for (const claims of [
      { exp: undefined },
      { token_type: 'bearer', iss: world.opaque.issuer },
      { sub: undefined },
      { aud: ['other', 'api'] },
    ])
      expect((await world.call(world.opaque.issue(claims))).status, JSON.stringify(claims)).toBe(200);
  });

  it('W25 may come with members that are null: each is as if it were not there', async () => {
    const nulls = { iss: null, nbf: null, iat: null, token_type: null, cnf: null, scope: null, acr: null, exp: null };
    expect((await world.call(world.opaque.issue(nulls))).status).toBe(200);
    expect((await world.call(world.opaque.issue({ ...nulls, sub: null }))).status).toBe(200); // the client's own
    for (const missing of [{ aud: null }, { sub: null, client_id: null }])
      expect(await world.call(world.opaque.issue(missing)), JSON.stringify(missing)).toMatchObject(invalid);
  });

  it('W25 may come with its scopes as a list', async () => {
    const scope = ['a', 'orders:write'];
    expect((await world.call(world.opaque.issue({ scope }), '/api/scoped/1')).status).toBe(200);
    const denied = { status: 403, code: 'BFF_POLICY_DENIED' };
    expect(await world.call(world.opaque.issue({ scope: ['a orders:write', 7] }), '/api/scoped/1')).toMatchObject(
      denied,
    );
  });

  it('BV3 that the issuer does not know is refused', async () => {
    const token = world.opaque.issue();
    world.opaque.revoke(token);
    const called = await world.call(token);
    expect(called).toMatchObject(invalid);
    expect(called.header('www-authenticate')).toBe('Bearer realm="cloakroom", error="invalid_token"');
  });

  it('BV3 of no JWT form goes to its issuer only, and a JWT never does', async () => {
    for (const token of ['a.b.c', 'eyJ.eyJ.', 'v4.public.x.y', 'made-up==', '....'])
      expect(await world.call(token), token).toMatchObject(invalid);
    expect(world.opaque.requests.length).toBe(5);
    await world.call(world.mobile.accessToken({ claims: { iss: 'https://unknown.example' } }));
    await world.call(world.mobile.accessToken({ alg: 'forged' }));
    await world.call(world.mobile.accessToken({ claims: { iss: world.opaque.issuer } }));
    expect(world.opaque.requests.length).toBe(5);
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('what an issuer may answer', () => {
  const answers: [what: string, status: number, json: unknown][] = [
    ['active as text', 200, { active: 'true', aud: 'api', sub: 'x' }],
    ['active as a number', 200, { active: 1, aud: 'api', sub: 'x' }],
    ['no active', 200, { aud: 'api', sub: 'x' }],
    ['active as null', 200, { active: null, aud: 'api', sub: 'x' }],
    ['an empty object', 200, {}],
    ['a list', 200, [{ active: true }]],
    ['null', 200, null],
    ['active, with 201', 201, { active: true, aud: 'api', sub: 'x' }],
    ['that our secret is wrong', 401, { error: 'invalid_client' }],
    ['that we may not ask', 403, { error: 'access_denied' }],
    ['that it does not understand', 400, { error: 'invalid_request' }],
    ['a failure', 500, { error: 'server_error' }],
    ['too many requests', 429, { error: 'slow_down' }],
  ];
  for (const [what, status, json] of answers) {
    it(`BV3 ${what}: then nothing is known, 503, and the next call asks again`, async () => {
      const token = world.opaque.issue();
      world.opaque.respond = (response) => sendJson(response, status, json);
      const called = await world.call(token);
      expect(called).toMatchObject(unavailable);
      expect(Number(called.header('retry-after'))).toBeGreaterThan(0);
      expect(world.upstream.requests).toEqual([]);
      world.opaque.respond = undefined;
      expect((await world.call(token)).status).toBe(200);
    });
  }

  const wild: [what: string, body: string, headers: Record<string, string>][] = [
    ['HTML', '<h1>active: true</h1>', { 'content-type': 'text/html' }],
    ['JSON that is none', '{"active": true', { 'content-type': 'application/json' }],
    ['nothing', '', { 'content-type': 'application/json' }],
  ];
  for (const [what, body, headers] of wild) {
    it(`BV3 ${what}: 503`, async () => {
      world.opaque.respond = (response) => response.writeHead(200, headers).end(body);
      expect(await world.call(world.opaque.issue())).toMatchObject(unavailable);
    });
  }

  it('BV3 a redirect: our secret does not follow it', async () => {
    world.opaque.respond = (response) => response.writeHead(307, { location: '/elsewhere' }).end();
    expect(await world.call(world.opaque.issue())).toMatchObject(unavailable);
    expect(world.opaque.requests.map(({ path }) => path)).toEqual(['/introspect']);
  });

  it('BV3 nothing in time: 503, after the configured second', async () => {
    world.opaque.respond = () => undefined;
    const startedAt = performance.now();
    expect(await world.call(world.opaque.issue())).toMatchObject(unavailable);
    expect(performance.now() - startedAt).toBeGreaterThan(900);
  });

  it('BV3 nothing at all: 503, also where the token was good a moment ago; and then it recovers', async () => {
    const token = world.opaque.issue();
    expect((await world.call(token)).status).toBe(200);
    await world.opaque.down();
    expect((await world.call(token)).status).toBe(200); // still within the time that an answer stands
    world.clock.advance(30_000);
    expect(await world.call(token)).toMatchObject(unavailable);
    expect((await world.call(world.mobile.accessToken())).status).toBe(200); // JWTs do not need it
    await world.opaque.up();
    expect((await world.call(token)).status).toBe(200);
  });
});

describe('answers that are kept', () => {
  it('BV3 save the next questions for 30 s: yes and no', async () => {
    const good = world.opaque.issue();
    const bad = 'made-up-token';
    for (let index = 0; index < 3; index++) {
      expect((await world.call(good)).status).toBe(200);
      expect(await world.call(bad)).toMatchObject(invalid);
      world.clock.advance(9000);
    }
    expect(world.opaque.requests.length).toBe(2);
    world.clock.advance(3000);
    world.opaque.revoke(good);
    expect(await world.call(good)).toMatchObject(invalid);
    expect(await world.call(bad)).toMatchObject(invalid);
    expect(world.opaque.requests.length).toBe(4);
    // A no that followed a yes is kept as well.
    expect(await world.call(good)).toMatchObject(invalid);
    expect(world.opaque.requests.length).toBe(4);
  });

  it('BV3 do not outlive the token', async () => {
    const token = world.opaque.issue({ exp: now() + 5 });
    expect((await world.call(token)).status).toBe(200);
    world.clock.advance(6000);
    expect((await world.call(token)).status).toBe(200); // the issuer says so, and the tolerance allows it
    expect(world.opaque.requests.length).toBe(2);
    world.clock.advance(10_000);
    expect(await world.call(token)).toMatchObject(invalid);
  });

  it('BV3 are of one token only', async () => {
    const [one, two] = [world.opaque.issue({ roles: ['admin'] }), world.opaque.issue()];
    const status = async (token: string) => (await world.call(token, '/api/admin/1')).status;
    for (let round = 0; round < 2; round++) expect([await status(one), await status(two)]).toEqual([200, 403]);
    expect(world.opaque.requests.length).toBe(2);
  });

  it('BV3 are not read into another API: each judges the audience for itself', async () => {
    const token = world.opaque.issue();
    expect((await world.call(token)).status).toBe(200);
    expect(await world.call(token, '/api/named/1')).toMatchObject(invalid);
    expect(world.opaque.requests.length).toBe(1);
  });

  it('BV3 are asked for once for all calls that wait for the same token', async () => {
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const token = world.opaque.issue();
    world.opaque.respond = async (response) => {
      await released;
      sendJson(response, 200, { active: true, aud: 'api', sub: 'x' });
    };
    const calls = Array.from({ length: 20 }, () => world.call(token));
    await until(() => world.opaque.requests.length > 0);
    release();
    for (const called of await Promise.all(calls)) expect(called.status).toBe(200);
    expect(world.opaque.requests.length).toBe(1);
  });

  it('BV3 are the newest 10,000: made-up tokens fill no memory, and push out no good answer', async () => {
    const { issuer, clientId, clientSecret } = world.opaque;
    const verifier = createBearerVerifier(
      [
        {
          ...{ name: 'opaque', issuer, audiences: ['api'], algorithms: ['RS256'], types: ['at+jwt'] },
          ...{ clockTolerance: 0, timeout: 60_000 },
          introspection: { clientId, clientSecret: new Secret(clientSecret), for: 'opaque', cache: 30_000 },
        },
      ],
      { nowMs: world.clock.now, log: { info: () => undefined, warn: () => undefined } },
    );
    try {
      const good = world.opaque.issue();
      const ask = async (token: string) => (await verifier.verify(token, [])).kind;
      expect(await ask(good)).toBe('valid');
      for (let from = 0; from <= 10_000; from += 73)
        await Promise.all(Array.from({ length: 73 }, (_, index) => ask(`made-up-${from + index}`)));
      const asked = async (token: string) => {
        world.opaque.requests.length = 0;
        await ask(token);
        return world.opaque.requests.length;
      };
      expect(await asked('made-up-0')).toBe(1);
      expect(await asked('made-up-10000')).toBe(0);
      expect(await asked(good)).toBe(0);
    } finally {
      await verifier.close();
    }
  }, 60_000);
});

describe('without introspection', () => {
  it('BV3 an opaque token is nothing, and nobody is asked', async () => {
    const plain = await startBearerWorld({
      config: ({ bearerIssuers }) => {
        delete bearerIssuers.opaque;
      },
    });
    try {
      expect(await plain.call(plain.opaque.issue())).toMatchObject(invalid);
      expect(plain.opaque.requests).toEqual([]);
    } finally {
      await plain.stop();
    }
  });

  it('BV3 with an endpoint of its own no metadata is read, and with cache: 0s every call asks', async () => {
    const plain = await startBearerWorld({
      config: ({ bearerIssuers }) => {
        Object.assign(bearerIssuers.opaque.introspection, {
          endpoint: `${bearerIssuers.opaque.issuer}/introspect`,
          cache: '0s',
        });
      },
    });
    try {
      const token = plain.opaque.issue();
      for (let index = 0; index < 3; index++) expect((await plain.call(token)).status).toBe(200);
      plain.opaque.revoke(token);
      expect(await plain.call(token)).toMatchObject(invalid);
      expect(plain.opaque.requests.length).toBe(4);
      // It has no keys then, so its JWTs are nothing.
      const jwt = plain.mobile.accessToken({ claims: { iss: plain.opaque.issuer } });
      expect(await plain.call(jwt)).toMatchObject(invalid);
      expect(plain.opaque.metadataRequests).toBe(0);
    } finally {
      await plain.stop();
    }
  });
});
