import { describe, expect, it } from 'vitest';
import { configOf, type Data, problemsOf, warningsOf } from './support.ts';

const issuer = { issuer: 'https://id.example.com', audiences: ['https://api.example.com'] };
const introspection = { clientId: 'api', clientSecret: 'k3Jx-9aLq_0pZr' };

/** A valid configuration with bearer callers, changed. */
const bearer = (change: (data: Data) => unknown) => (data: Data) => {
  data.apis.orders.accept = ['session', 'bearer'];
  data.bearerIssuers = { mobile: { ...issuer } };
  change(data);
};
const mobile = (values: object) => bearer((data) => Object.assign(data.bearerIssuers.mobile, values));
const orders = (values: object) => bearer((data) => Object.assign(data.apis.orders, values));

const cases: [what: string, change: (data: Data) => void, key: string, fix: RegExp][] = [
  [
    'bearer without an issuer',
    bearer((d) => delete d.bearerIssuers),
    'apis.orders.accept',
    /add one under bearerIssuers/,
  ],
  ['accept that is empty', orders({ accept: [] }), 'apis.orders.accept', /correct the value/],
  ['accept of something else', orders({ accept: ['basic'] }), 'apis.orders.accept.0', /one of session, bearer/],
  ['token: exchange', orders({ token: 'exchange', audience: 'x' }), 'apis.orders.accept', /use token: user or none/],
  ['token: client', orders({ token: 'client' }), 'apis.orders.accept', /use token: user or none/],
  ['token: user-or-client', orders({ token: 'user-or-client' }), 'apis.orders.accept', /use token: user or none/],
  ['idTokenHeader', orders({ idTokenHeader: 'x-id-token' }), 'apis.orders.idTokenHeader', /remove it, or bearer/],
  ['a public API', orders({ token: 'none' }), 'apis.orders.accept', /add require: \{\}/],
  ['a resource of nobody', orders({ resource: 'urn:orders' }), 'apis.orders.resource', /add it to the audiences/],
  ['an audience of nobody', orders({ audience: 'orders' }), 'apis.orders.audience', /add it to the audiences/],
  ['no issuer', mobile({ issuer: undefined }), 'bearerIssuers.mobile.issuer', /is required/],
  ['plain http', mobile({ issuer: 'http://id.example.com' }), 'bearerIssuers.mobile.issuer', /must be https/],
  ['jwksUri in plain http', mobile({ jwksUri: 'http://a.example/k' }), 'bearerIssuers.mobile.jwksUri', /must be https/],
  [
    'metadata that nobody needs',
    mobile({ metadataUrl: 'https://id.example.com/m?p=x', jwksUri: 'https://id.example.com/k' }),
    'bearerIssuers.mobile.metadataUrl',
    /no effect, because jwksUri/,
  ],
  [
    'metadata beside the endpoint for introspection',
    mobile({
      metadataUrl: 'https://id.example.com/m',
      introspection: { ...introspection, endpoint: 'https://id.example.com/i' },
    }),
    'bearerIssuers.mobile.metadataUrl',
    /no effect, because introspection.endpoint/,
  ],
  ['no audience', mobile({ audiences: [] }), 'bearerIssuers.mobile.audiences', /list what the tokens/],
  ['an empty audience', mobile({ audiences: [''] }), 'bearerIssuers.mobile.audiences.0', /correct the value/],
  ['HS256', mobile({ algorithms: ['HS256'] }), 'bearerIssuers.mobile.algorithms.0', /one of RS256/],
  ['alg none', mobile({ algorithms: ['none'] }), 'bearerIssuers.mobile.algorithms.0', /one of RS256/],
  ['no algorithm', mobile({ algorithms: [] }), 'bearerIssuers.mobile.algorithms', /correct the value/],
  ['another type', mobile({ types: ['logout+jwt'] }), 'bearerIssuers.mobile.types.0', /one of at\+jwt, JWT/],
  [
    'too much tolerance',
    mobile({ clockTolerance: '61s' }),
    'bearerIssuers.mobile.clockTolerance',
    /between 0ms and 60s/,
  ],
  ['an unknown key', mobile({ audience: 'x' }), 'bearerIssuers.mobile.audience', /did you mean audiences/],
  [
    'a placeholder as secret',
    mobile({ introspection: { ...introspection, clientSecret: 'changeme' } }),
    'bearerIssuers.mobile.introspection.clientSecret',
    /\$\{file:PATH\}/,
  ],
  [
    'introspection in plain http',
    mobile({ introspection: { ...introspection, endpoint: 'http://id.example.com/i' } }),
    'bearerIssuers.mobile.introspection.endpoint',
    /must be https/,
  ],
  [
    'answers that stand for an hour',
    mobile({ introspection: { ...introspection, cache: '1h' } }),
    'bearerIssuers.mobile.introspection.cache',
    /between 0ms and 600s/,
  ],
  [
    'two descriptions of one issuer',
    bearer((d) => Object.assign(d.bearerIssuers, { other: { ...issuer } })),
    'bearerIssuers.other.issuer',
    /also that of mobile: describe each issuer once/,
  ],
  [
    'two issuers of opaque tokens',
    bearer((d) => {
      d.bearerIssuers.mobile.introspection = introspection;
      d.bearerIssuers.other = { ...issuer, issuer: 'https://other.example.com', introspection };
    }),
    'bearerIssuers.other.introspection',
    /mobile has it already.*keep one of the two/,
  ],
  [
    'ID tokens of the login',
    mobile({ audiences: ['shop'], types: ['at+jwt', 'JWT'] }),
    'bearerIssuers.mobile.audiences',
    /ID tokens would pass.*leave JWT out of types/,
  ],
  [
    'bearerIssuers beside frontends',
    bearer((d) => {
      const { publicUrl, authorizationServer, apis } = d;
      for (const key of ['publicUrl', 'authorizationServer', 'apis']) delete d[key];
      d.frontends = { shop: { publicUrl, authorizationServer, apis } };
    }),
    'bearerIssuers',
    /move it into one of them/,
  ],
];

describe('bearer callers in the configuration', () => {
  it.each(cases)('%s is a problem at its key, with the fix', (_what, change, key, fix) => {
    const problems = problemsOf(change);
    const atKey = problems.filter((problem) => problem.startsWith(`${key}: `));
    expect(atKey.length, problems.join('\n')).toBeGreaterThanOrEqual(1);
    expect(atKey.join('\n')).toMatch(fix);
  });

  it('BV1 are off unless an API accepts them', () => {
    expect(configOf().frontends[0]?.apis[0]?.accept).toEqual(['session']);
    expect(configOf().frontends[0]?.bearerIssuers).toEqual([]);
    const unused = (data: Data) => Object.assign(data, { bearerIssuers: { mobile: issuer } });
    expect(warningsOf(unused).join()).toContain('no API has bearer in accept');
    expect(warningsOf(bearer(() => undefined)).join()).not.toContain('bearer');
  });

  it('has strict defaults', () => {
    const [mobileIssuer] = configOf(mobile({ introspection })).frontends[0]?.bearerIssuers ?? [];
    expect(mobileIssuer).toMatchObject({
      name: 'mobile',
      types: ['at+jwt'],
      algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'],
      clockTolerance: 10_000,
      introspection: { cache: 30_000 },
    });
  });

  it('accepts APIs for programs only, APIs that get no token, and audiences of one of several issuers', () => {
    for (const change of [
      orders({ accept: ['bearer'] }),
      orders({ token: 'none', require: {} }),
      orders({ token: 'none', routes: [{ path: '/refunds', require: { roles: ['admin'] } }] }),
      orders({ resource: 'https://api.example.com' }),
      mobile({ audiences: ['shop'] }),
      mobile({
        introspection: { ...introspection, endpoint: 'https://id.example.com/i' },
        jwksUri: 'https://k.example/j',
      }),
    ])
      expect(problemsOf(change)).toEqual([]);
  });

  it('compares rules about acr with the login only where sessions are accepted', () => {
    const change = (accept: string[]) =>
      bearer((data) => {
        data.authorizationServer.acrValues = ['silver'];
        Object.assign(data.apis.orders, { accept, require: { acr: ['gold'] } });
      });
    expect(problemsOf(change(['session', 'bearer'])).join()).toContain('authorizationServer.acrValues');
    expect(problemsOf(change(['bearer']))).toEqual([]);
  });

  it('asks the login for no resource of an API that only programs call', () => {
    const resource = 'https://api.example.com';
    expect(configOf(orders({ resource })).frontends[0]?.loginResources).toEqual([resource]);
    expect(configOf(orders({ resource, accept: ['bearer'] })).frontends[0]?.loginResources).toEqual([]);
  });

  it('warns of an issuer on loopback in plain http', () => {
    expect(warningsOf(mobile({ issuer: 'http://localhost:9000' })).join()).toMatch(/mobile is plain http on loopback/);
  });
});
