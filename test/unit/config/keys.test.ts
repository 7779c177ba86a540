import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Data, problemsOf, smallest } from './support.ts';

const bytes = randomBytes(32);
const spellings = [
  bytes.toString('hex'),
  bytes.toString('hex').toUpperCase(),
  bytes.toString('base64'),
  bytes.toString('base64').replace('=', ''),
  bytes.toString('base64url'),
];
const introspection = (clientSecret: string) => ({
  mobile: {
    issuer: 'https://id.example.com',
    audiences: ['https://api.example.com'],
    introspection: { clientId: 'api', clientSecret },
  },
});

/** Where a key or secret stands, and how it gets there. */
const places: Record<string, (data: Data, secret: string) => unknown> = {
  'session.keys.1': (data, secret) => data.session.keys.push(secret),
  'ops.adminKey': (data, secret) => Object.assign(data, { ops: { adminKey: secret } }),
  'forwardAuth.key': (data, secret) =>
    Object.assign(data, { trustedProxies: ['10.0.0.1'], forwardAuth: { key: secret } }),
  'session.redis.url': (data, secret) =>
    Object.assign(data.session.redis, { url: `redis://default:${encodeURIComponent(secret)}@redis:6379` }),
  'session.redis.password': (data, secret) => Object.assign(data.session.redis, { password: secret }),
  'session.redis.sentinel.password': (data, secret) =>
    Object.assign(data.session, {
      redis: { sentinel: { name: 'mymaster', nodes: ['redis://sentinel-1:26379'], password: secret } },
    }),
  'authorizationServer.extraParameters.audience': (data, secret) =>
    Object.assign(data.authorizationServer, { extraParameters: { audience: secret } }),
  'authorizationServer.extraLogoutParameters.audience': (data, secret) =>
    Object.assign(data.authorizationServer, { extraLogoutParameters: { audience: secret } }),
  'authorizationServer.clientSecret': (data, secret) =>
    Object.assign(data.authorizationServer, { clientSecret: secret }),
  'bearerIssuers.mobile.introspection.clientSecret': (data, secret) =>
    Object.assign(data, { bearerIssuers: introspection(secret) }),
};
const [, ...ours] = Object.keys(places).slice(0, 3);

describe('W16 one key, one purpose', () => {
  it('W16 refuses a key that is used twice, wherever the two stand and however each is written', () => {
    const pairs = Object.keys(places).flatMap((later, index) =>
      ['session.keys.0', ...ours.filter((key) => Object.keys(places).indexOf(key) < index)].map(
        (earlier) => [earlier, later] as const,
      ),
    );
    expect(pairs).toContainEqual(['session.keys.0', 'ops.adminKey']);
    expect(pairs).toContainEqual(['ops.adminKey', 'forwardAuth.key']);
    fc.assert(
      fc.property(
        fc.constantFrom(...pairs),
        fc.constantFrom(...spellings),
        fc.constantFrom(...spellings),
        ([earlier, later], one, other) => {
          const problems = problemsOf((data) => {
            if (earlier === 'session.keys.0') data.session.keys = [one];
            else places[earlier]?.(data, one);
            places[later]?.(data, other);
          });
          expect(problems, `${earlier} and ${later}`).toEqual([
            expect.stringMatching(new RegExp(`^${later}: is ${earlier.replaceAll('.', '\\.')} (too|once more): `)),
          ]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('W16 looks at every frontend, whose proxies may share a key', () => {
    const { authorizationServer } = smallest();
    const shared = randomBytes(32).toString('hex');
    const frontends = (key: string) => (data: Data) => {
      for (const name of ['publicUrl', 'authorizationServer', 'apis']) delete data[name];
      data.trustedProxies = ['10.0.0.1'];
      data.ops = { adminKey: bytes.toString('hex') };
      data.frontends = {
        shop: { publicUrl: 'https://a.example.com', authorizationServer, forwardAuth: { key: shared } },
        admin: { publicUrl: 'https://b.example.com', authorizationServer, forwardAuth: { key } },
      };
    };
    expect(problemsOf(frontends(shared))).toEqual([]);
    expect(problemsOf(frontends(bytes.toString('base64url')))).toEqual([
      expect.stringMatching(/^frontends\.admin\.forwardAuth\.key: is ops\.adminKey too: /),
    ]);
  });
});
