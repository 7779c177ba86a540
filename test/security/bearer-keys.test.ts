import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { createCertificates } from '../support/certificates.ts';
import { startEvilProvider } from '../support/evil-provider.ts';
import { until } from '../support/wait.ts';

// BV2, CB13, T32, T33: the keys of a bearer issuer. Whatever is wrong with them is 503, never 401, and never let through.

const unavailable = { status: 503, code: 'BFF_BEARER_UNAVAILABLE' };

let world: BearerWorld;
afterEach(() => world.stop());

const fetches = () => world.mobile.requestsTo('jwks').length;

describe('keys of a bearer issuer', () => {
  it('BV2 that is down when Cloakroom starts: 503, and it recovers by itself', async () => {
    world = await startBearerWorld({ isMobileDown: true });
    const called = await world.call(world.mobile.accessToken());
    expect(called).toMatchObject(unavailable);
    expect(Number(called.header('retry-after'))).toBeGreaterThan(0);
    expect(called.header('www-authenticate')).toBeUndefined();
    expect((await world.call(world.provider.accessToken())).status).toBe(200); // the other issuer is well
    expect(world.upstream.requests.length).toBe(1);

    await world.mobile.up();
    // Nobody calls meanwhile.
    const isKnown = () =>
      world.log.lines.some(({ issuer, msg }) => issuer === world.mobile.issuer && /is known$/.test(msg ?? ''));
    await until(isKnown, { timeoutMs: 15_000 });
    world.clock.advance(2000); // between two looks for keys
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    expect(world.mobile.requestsTo('discovery').length).toBe(1);
  });

  it('T32 are found with one more fetch after a rotation, and the old ones are gone then', async () => {
    world = await startBearerWorld();
    const old = world.mobile.accessToken();
    expect((await world.call(old)).status).toBe(200);
    world.clock.advance(31_000);
    world.mobile.rotateKeys();
    expect((await world.call(old)).status).toBe(200); // nobody has looked yet
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    expect(fetches()).toBe(2);
    world.clock.advance(31_000);
    expect(await world.call(old)).toMatchObject({ status: 401, code: 'BFF_BEARER_INVALID' });
  });

  it('T32 that changed a moment after they were fetched: the caller keeps its token and tries again', async () => {
    world = await startBearerWorld();
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    world.mobile.rotateKeys();
    const token = world.mobile.accessToken();
    expect(await world.call(token)).toMatchObject(unavailable);
    expect(fetches()).toBe(1);
    world.clock.advance(30_000);
    expect((await world.call(token)).status).toBe(200);
  });

  it('T33 are fetched at most once in 30 s, however many made-up key ids arrive', async () => {
    world = await startBearerWorld();
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    const madeUp = (index: number) => world.mobile.accessToken({ alg: 'forged', header: { kid: `made-up-${index}` } });
    await Promise.all(Array.from({ length: 30 }, (_, index) => world.call(madeUp(index))));
    expect(fetches()).toBe(1);
    world.clock.advance(31_000);
    const after = await Promise.all(Array.from({ length: 30 }, (_, index) => world.call(madeUp(index))));
    expect(fetches()).toBe(2);
    for (const { status } of after) expect([401, 503]).toContain(status);
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
  });

  it('T33 are not looked up for tokens that are over, or meant for others', async () => {
    world = await startBearerWorld();
    const header = { kid: 'made-up' };
    const invalid = { status: 401, code: 'BFF_BEARER_INVALID' };
    expect(await world.call(world.mobile.accessToken({ header, claims: { exp: 1 } }))).toMatchObject(invalid);
    expect(await world.call(world.mobile.accessToken({ header, audience: 'other' }))).toMatchObject(invalid);
    expect(await world.call(world.mobile.accessToken({ header: { ...header, typ: 'JWT' } }))).toMatchObject(invalid);
    expect(fetches()).toBe(0);
  });

  const broken: [what: string, fault: NonNullable<BearerWorld['mobile']['faults']['jwks']>][] = [
    ['fail', { status: 500 }],
    ['are HTML', { body: '<h1>Hello</h1>', headers: { 'content-type': 'text/html' } }],
    ['are none', { body: { keys: [] } }],
    ['are symmetric', { body: { keys: [{ kty: 'oct', k: 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA' }] } }],
    ['lead elsewhere', { redirectTo: 'http://127.0.0.1:9/jwks' }],
    ['never come', { hang: true }],
    ['break off', { truncate: 'connection' }],
  ];
  it('T32 that are broken: 503, and soon afterwards all is well again', async () => {
    world = await startBearerWorld();
    for (const [what, fault] of broken) {
      world.mobile.rotateKeys();
      world.clock.advance(31_000);
      world.mobile.faults.jwks = fault;
      const refused = await world.call(world.mobile.accessToken());
      expect([401, 503], what).toContain(refused.status);
      if (what !== 'are symmetric') expect(refused, what).toMatchObject(unavailable);
      world.mobile.faults = {};
      world.clock.advance(31_000);
      expect((await world.call(world.mobile.accessToken())).status, what).toBe(200);
    }
    expect(world.upstream.requests.length).toBe(broken.length);
  });
});

describe('metadata of a bearer issuer', () => {
  it('BV2 must be of exactly this issuer, with keys where they may be', async () => {
    world = await startBearerWorld({ isMobileDown: true });
    const bad = [
      { issuer: `${world.mobile.issuer}/` },
      { issuer: 'https://evil.example' },
      { mutate: (json: Record<string, unknown>) => ({ ...json, jwks_uri: undefined }) },
      { mutate: (json: Record<string, unknown>) => ({ ...json, jwks_uri: 'http://keys.example/jwks' }) },
      { mutate: (json: Record<string, unknown>) => ({ ...json, jwks_uri: 'jwks' }) },
      { mutate: (json: Record<string, unknown>) => ({ ...json, jwks_uri: 'file:///etc/passwd' }) },
    ];
    world.mobile.faults.discovery = bad.map((fault) => ({ ...fault, times: 1 }));
    await world.mobile.up();
    for (let count = 1; count <= bad.length; count++) {
      world.clock.advance(10_000); // the pause after a failure is over
      await until(
        async () => {
          expect(await world.call(world.mobile.accessToken())).toMatchObject(unavailable);
          return world.mobile.requestsTo('discovery').length >= count;
        },
        { timeoutMs: 15_000 },
      );
    }
    expect(fetches()).toBe(0);
    await until(
      async () => {
        world.clock.advance(10_000);
        return (await world.call(world.mobile.accessToken())).status === 200;
      },
      { timeoutMs: 15_000 },
    );
  });

  it('BV2 is not asked for where the configuration says where the keys are', async () => {
    world = await startBearerWorld({
      config: ({ bearerIssuers }) => {
        bearerIssuers.mobile.jwksUri = `${bearerIssuers.mobile.issuer}/jwks`;
      },
    });
    expect((await world.call(world.mobile.accessToken())).status).toBe(200);
    expect(world.mobile.requests.map(({ endpoint }) => endpoint)).toEqual(['jwks']);
  });
});

describe('an https issuer', () => {
  it('T121 must show a certificate that is trusted: the system’s CAs, or its caFile', async () => {
    const certificates = await createCertificates();
    const folder = await mkdtemp(join(tmpdir(), 'cloakroom-bearer-'));
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, certificates.ca);
    const trusted = await startEvilProvider({ tls: certificates.good });
    const stranger = await startEvilProvider({ tls: certificates.good });
    const expired = await startEvilProvider({ tls: certificates.expired });
    try {
      world = await startBearerWorld({
        config: ({ bearerIssuers }) => {
          bearerIssuers.trusted = { issuer: trusted.issuer, audiences: ['api'], caFile };
          bearerIssuers.stranger = { issuer: stranger.issuer, audiences: ['api'] };
          bearerIssuers.expired = { issuer: expired.issuer, audiences: ['api'], caFile };
        },
      });
      expect((await world.call(trusted.accessToken())).status).toBe(200);
      expect(await world.call(stranger.accessToken())).toMatchObject(unavailable);
      expect(await world.call(expired.accessToken())).toMatchObject(unavailable);
      expect([...stranger.requests, ...expired.requests]).toEqual([]);
    } finally {
      await Promise.all([trusted.stop(), stranger.stop(), expired.stop(), rm(folder, { recursive: true })]);
    }
  });
});
