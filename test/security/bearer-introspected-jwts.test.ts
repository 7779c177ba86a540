import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import type { AccessTokenOptions } from '../support/evil-provider/access-token.ts';
import { sendJson } from '../support/introspection-server.ts';

// W43: `introspection.for: all`. A JWT is good to its end for whoever only looks at its signature; its issuer knows better.

const invalid = { status: 401, code: 'BFF_BEARER_INVALID' };
const unavailable = { status: 503, code: 'BFF_BEARER_UNAVAILABLE' };

/** JWTs come from `mobile`, and `opaque` answers for it. */
function startAsking(asked: Record<string, unknown>, hasKeys = true): Promise<BearerWorld> {
  return startBearerWorld({
    config({ bearerIssuers }) {
      const { opaque, mobile } = bearerIssuers;
      const { issuer, introspection } = opaque;
      mobile.introspection = { ...introspection, endpoint: `${issuer}/introspect`, ...asked };
      if (hasKeys) mobile.jwksUri = `${mobile.issuer}/jwks`;
      delete bearerIssuers.opaque;
    },
  });
}

let world: BearerWorld;
const now = () => Math.floor(world.clock.now() / 1000);
/** A JWT, and what its issuer says about it. */
const issue = (answer: Record<string, unknown> = {}, options: AccessTokenOptions = {}) =>
  world.opaque.issue(
    { sub: undefined, client_id: undefined, aud: undefined, exp: undefined, ...answer },
    world.mobile.accessToken(options),
  );

describe('W43 introspection for all tokens', () => {
  beforeAll(async () => {
    world = await startAsking({ for: 'all' });
  });
  beforeEach(() => {
    world.fresh();
    world.clock.advance(31_000);
  });
  afterAll(() => world.stop());

  it('W43 asks about a JWT too, once in the time that an answer stands', async () => {
    const token = issue();
    for (let round = 0; round < 3; round++) expect((await world.call(token)).status).toBe(200);
    expect(world.opaque.requests).toMatchObject([{ token, hint: 'access_token' }]);
    expect(world.arrived()).toEqual(Array(3).fill(`Bearer ${token}`));
  });

  it('W43 refuses one that was revoked, once the answer is old', async () => {
    const token = issue();
    expect((await world.call(token)).status).toBe(200);
    world.opaque.revoke(token);
    expect((await world.call(token)).status).toBe(200);
    world.clock.advance(30_000);
    expect(await world.call(token)).toMatchObject(invalid);
    expect(await world.call(world.mobile.accessToken())).toMatchObject(invalid);
  });

  it('W43 still asks about opaque tokens', async () => {
    expect((await world.call(world.opaque.issue())).status).toBe(200);
    expect(await world.call('made-up')).toMatchObject(invalid);
  });

  it('W43 troubles the issuer with none that is forged, over or for others', async () => {
    for (const bad of [
      { alg: 'forged' },
      { alg: 'none' },
      { claims: { exp: now() - 60 } },
      { audience: 'other' },
      { header: { typ: 'JWT' } },
      { claims: { iss: 'https://unknown.example' } },
    ] as AccessTokenOptions[])
      expect(await world.call(issue({}, bad)), JSON.stringify(bad)).toMatchObject(invalid);
    expect(world.opaque.requests).toEqual([]);
  });

  it('W43 believes neither the token nor the answer where they name somebody else', async () => {
    for (const answer of [
      { sub: 'somebody-else' },
      { iss: 'https://evil.example' },
      { client_id: 'another-app' },
      { aud: 'other' },
      { exp: now() - 60 },
      { exp: String(now() + 60) },
      { nbf: now() + 60 },
      { token_type: 'refresh_token' },
      { sub: 7 },
    ])
      expect(await world.call(issue(answer)), JSON.stringify(answer)).toMatchObject(invalid);
    expect(world.upstream.requests).toEqual([]);
    expect((await world.call(issue({ sub: 'mobile-user', aud: 'api', sid: null, nbf: null }))).status).toBe(200);
  });

  it('W43 knows a bound token by either of the two', async () => {
    const bound = { status: 401, code: 'BFF_BEARER_BOUND' };
    const cnf = { jkt: 'x' };
    expect(await world.call(issue({ cnf }))).toMatchObject(bound);
    expect(await world.call(issue({}, { claims: { cnf } }))).toMatchObject(bound);
  });

  it('W43 has what the answer adds and what it takes away', async () => {
    const denied = { status: 403, code: 'BFF_POLICY_DENIED' };
    expect((await world.call(issue({ roles: ['admin'] }), '/api/admin/1')).status).toBe(200);
    const was = { claims: { roles: ['admin'] }, scope: 'orders:write' };
    expect((await world.call(issue({}, was), '/api/admin/1')).status).toBe(200);
    expect(await world.call(issue({ roles: [] }, was), '/api/admin/1')).toMatchObject(denied);
    expect((await world.call(issue({ scope: null }, was), '/api/scoped/1')).status).toBe(200);
    expect(await world.call(issue({ scope: 'orders:read' }, was), '/api/scoped/1')).toMatchObject(denied);
  });

  it('W43 lets a token live no longer than either says', async () => {
    const token = issue({ exp: now() + 3600 }, { claims: { exp: now() + 60 } });
    expect((await world.call(token)).status).toBe(200);
    world.clock.advance(71_000);
    expect(await world.call(token)).toMatchObject(invalid);
  });

  it('W43 lets nobody in while the issuer gives no answer', async () => {
    const token = issue();
    for (const active of ['true', 1, null, undefined]) {
      world.opaque.respond = (response) => sendJson(response, 200, { active });
      expect(await world.call(token), String(active)).toMatchObject(unavailable);
    }
    world.opaque.respond = undefined;
    expect((await world.call(token)).status).toBe(200);
  });
});

describe('W43 without keys', () => {
  it('W43 the answer alone counts: nothing of the token is believed', async () => {
    world = await startAsking({ for: 'all' }, false);
    try {
      const full = { sub: 'x', aud: 'api' };
      expect((await world.call(issue(full))).status).toBe(200);
      expect(await world.call(issue({ sub: 'x' }))).toMatchObject(invalid); // no aud
      expect((await world.call(issue({ ...full, roles: ['admin'] }), '/api/admin/1')).status).toBe(200);
      const own = { claims: { roles: ['admin'] } };
      expect(await world.call(issue(full, own), '/api/admin/1')).toMatchObject({ status: 403 });
      expect(await world.call(world.mobile.accessToken({ alg: 'forged' }))).toMatchObject(invalid);
      expect(world.mobile.requests).toEqual([]);
    } finally {
      await world.stop();
    }
  });

  it('W43 of an issuer whose metadata has no key set either', async () => {
    world = await startBearerWorld({
      config({ bearerIssuers }) {
        bearerIssuers.opaque.introspection.for = 'all';
      },
    });
    try {
      const { opaque, mobile } = world;
      const token = opaque.issue({}, mobile.accessToken({ claims: { iss: opaque.issuer } }));
      expect((await world.call(token)).status).toBe(200);
      expect(await world.call(mobile.accessToken({ claims: { iss: opaque.issuer } }))).toMatchObject(invalid);
    } finally {
      await world.stop();
    }
  });
});

describe('W43 introspection for opaque tokens, as by default', () => {
  it.each([{}, { for: 'opaque' }])('W43 asks about no JWT: %j', async (asked) => {
    world = await startAsking(asked);
    try {
      expect((await world.call(world.mobile.accessToken())).status).toBe(200);
      expect(world.opaque.requests).toEqual([]);
      expect((await world.call(world.opaque.issue())).status).toBe(200);
    } finally {
      await world.stop();
    }
  });
});
