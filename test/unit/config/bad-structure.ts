import { randomBytes } from 'node:crypto';
import { type Case, each } from './bad-values.ts';
import { type Data, smallest } from './support.ts';

const words = (text: string) => text.split(' ');
const addApi = (path: string) => (data: Data) => Object.assign(data.apis, { more: { path, upstream: 'http://more' } });
const frontend = (publicUrl: string, more: object = {}) => ({
  ...more,
  publicUrl,
  authorizationServer: smallest().authorizationServer,
});
const frontends = (of: object) => (data: Data) => {
  for (const key of ['publicUrl', 'authorizationServer', 'apis']) delete data[key];
  Object.assign(data, { frontends: of });
};
const key = () => randomBytes(32).toString('base64url');
const forwardAuth = (block: object) => (data: Data) =>
  Object.assign(data, { trustedProxies: ['10.0.0.0/8'], forwardAuth: block });

export const badStructure: Record<string, Case[]> = {
  'tokens of APIs': [
    ...(['resource', 'audience', 'scopes', 'idTokenHeader'] as const).map((key): Case => {
      const value = { resource: 'https://api.example.com', audience: 'api', scopes: ['a'], idTokenHeader: 'x-id' }[key];
      return [
        `${key} without a token`,
        (d) => Object.assign(d.apis.orders, { token: 'none', [key]: value }),
        `apis.orders.${key}`,
        /no effect with token: none: remove one/,
      ];
    }),
    [
      'an exchange for nothing',
      (d) => Object.assign(d.apis.orders, { token: 'exchange' }),
      'apis.orders.token',
      /needs a target: add resource, audience or scopes/,
    ],
    [
      'the ID token of a user to an API that gets nothing of the user',
      (d) => Object.assign(d.apis.orders, { token: 'client', idTokenHeader: 'x-id-token' }),
      'apis.orders.idTokenHeader',
      /no effect with token: client.*remove one/,
    ],
    ...each(
      ['authorization', 'x-forwarded-user', 'x-id-*', 'x-shop-id', 'slug'],
      (d, idTokenHeader) => Object.assign(d.apis.orders, { idTokenHeader, forwardHeaders: ['x-shop-*'] }),
      'apis.orders.idTokenHeader',
      /a header of its own, such as x-id-token/,
    ),
  ],
  'a development server': [
    [
      'for a page on the Internet',
      (d) => Object.assign(d, { devServer: 'http://localhost:5173' }),
      'devServer',
      /is for development on this machine: write a publicUrl such as http:\/\/localhost:8080, or build the page and set files/,
    ],
    ...each(
      [
        'http://10.0.0.7:5173',
        'http://vite:5173',
        'https://localhost:5173',
        'http://localhost:5173/app',
        'localhost:5173',
      ],
      (d, devServer) => Object.assign(d, { publicUrl: 'http://localhost:8080', devServer }),
      'devServer',
      /must be an http origin of this machine, such as http:\/\/localhost:5173/,
    ),
    [
      'beside files',
      (d) =>
        Object.assign(d, { publicUrl: 'http://localhost:8080', devServer: 'http://localhost:5173', files: '/dist' }),
      'devServer',
      /stands beside files: remove one of them/,
    ],
    [
      'that is Cloakroom itself',
      (d) => Object.assign(d, { publicUrl: 'http://localhost:8080', devServer: 'http://localhost:8080' }),
      'devServer',
      /is publicUrl itself: give the development server a port of its own/,
    ],
    [
      'beside frontends',
      (d) => {
        frontends({ one: frontend('https://a.example.com') })(d);
        d.devServer = 'http://localhost:5173';
      },
      'devServer',
      /stands beside frontends/,
    ],
  ],
  'TLS of our own': [
    [
      'for an http publicUrl',
      (d) =>
        Object.assign(d, {
          publicUrl: 'http://localhost:8080',
          listen: { tls: { certFile: '/tls.crt', keyFile: '/tls.key' } },
        }),
      'publicUrl',
      /is http, and listen\.tls speaks https: write https:\/\/, or remove listen\.tls/,
    ],
    [
      'for one http publicUrl among others',
      (d) => {
        frontends({ one: frontend('https://a.example.com'), two: frontend('http://localhost:8080') })(d);
        d.listen = { tls: { certFile: '/tls.crt', keyFile: '/tls.key' } };
      },
      'frontends.two.publicUrl',
      /is http, and listen\.tls speaks https/,
    ],
    [
      'without a key',
      (d) => Object.assign(d, { listen: { tls: { certFile: '/a' } } }),
      'listen.tls.keyFile',
      /required/,
    ],
  ],
  'unknown keys': [
    ['at the top', (d) => Object.assign(d, { sesion: {} }), 'sesion', /did you mean session\?/],
    ['in a block', (d) => Object.assign(d.session, { keyz: [] }), 'session.keyz', /did you mean keys\?/],
    [
      'in an API',
      (d) => Object.assign(d.apis.orders, { upstreem: 'x' }),
      'apis.orders.upstreem',
      /did you mean upstream\?/,
    ],
    [
      'like nothing known',
      (d) => Object.assign(d.session, { zzzzzz: 1 }),
      'session.zzzzzz',
      /unknown key: remove it.*known here: .*idleTimeout/,
    ],
    ['of a prototype', (d) => Object.assign(d, { constructor: { x: 1 } }), 'constructor', /unknown key/],
  ],
  'API paths': [
    ['the same path twice', addApi('/api/orders'), 'apis.more.path', /is that of orders too: give each/],
    ...each(
      words('/bff /bff/x'),
      (d, path) => Object.assign(d.apis.orders, { path }),
      'apis.orders.path',
      /overlaps \/bff.*choose another/,
    ),
    ...each(
      ['/a b', ...words('api / /api/ /api/* /api//x /a/../b /a/. /.. /a%2fb /a?b /a#b /a:b //evil /a\\b')],
      (d, path) => Object.assign(d.apis.orders, { path }),
      'apis.orders.path',
      /must be a plain path|must not have \. or \.\./,
    ),
    [
      'an odd name',
      (d) => Object.assign(d.apis, { 'Or ders': { path: '/x', upstream: 'http://x' } }),
      'apis.Or ders',
      /lower-case name/,
    ],
    [
      'a method nobody allows',
      (d) => Object.assign(d.apis.orders, { methods: ['TRACE'] }),
      'apis.orders.methods.0',
      /must be one of GET/,
    ],
  ],
  'forwarded headers': [
    ...each(
      words(
        'authorization cookie host te x-forwarded-for x-forwarded-user forwarded x-request-id transfer-encoding proxy-authorization x-http-method-override via expect cookie2 client-cert client-cert-chain concealed-auth-export max-forwards sec-fetch-mode sec-c*',
      ),
      (d, name) => Object.assign(d.apis.orders, { forwardHeaders: [name] }),
      'apis.orders.forwardHeaders',
      /withheld by Cloakroom itself: remove it/,
    ),
    ...each(
      words('x-* auth* a* co* cookie* h* t* x-f* x-forwarded-u* proxy-* sec-fetch-* content-* set-*'),
      (d, name) => Object.assign(d.apis.orders, { forwardHeaders: [name] }),
      'apis.orders.forwardHeaders',
      /withheld by Cloakroom itself: remove it/,
    ),
    ...each(
      ['*', 'X-Shop', 'x_shop', 'x-*-shop', 'x shop', 'x:shop'],
      (d, name) => Object.assign(d.apis.orders, { forwardHeaders: [name] }),
      'apis.orders.forwardHeaders.0',
      /lower-case header name/,
    ),
    ...each(
      words(
        'set-cookie s* access-control-allow-origin access-* connection set-cookie2 x-content-type-options strict-transport-security alt-svc accept-ch nel report-to service-worker-allowed public-key-pins secure-session-registration str* public-* accept-*',
      ),
      (d, name) => Object.assign(d.apis.orders, { returnHeaders: [name] }),
      'apis.orders.returnHeaders',
      /remove it/,
    ),
  ],
  'W3 headers that steer caches': [
    ...each(
      words(
        'cache-control expires age pragma clear-site-data cdn-cache-control cloudflare-cdn-cache-control x-edge-cache-control surrogate-control surrogate-key edge-control x-accel-expires x-accel-redirect x-accel-buffering x-sendfile x-litespeed-cache-control netlify-vary cache-groups cache-group-invalidation no-vary-search use-as-dictionary cdn-* cdn-c* cloudflare-* surrogate* x-accel-* x-a* x-sendfile* edge* clear-* ag*',
      ),
      (d, name) => Object.assign(d.apis.orders, { returnHeaders: [name], cache: true }),
      'apis.orders.returnHeaders',
      /tells caches or a proxy in front what to do with an answer, .*: remove it/,
    ),
  ],
  'authentication that no login brings': [
    [
      'an acr beside those of the login',
      (d) => {
        Object.assign(d.authorizationServer, { acrValues: ['urn:mfa'] });
        Object.assign(d.apis.orders, { require: { acr: ['urn:gold'] } });
      },
      'apis.orders.require.acr',
      /has none of authorizationServer\.acrValues: no login satisfies both, add one/,
    ],
    [
      'the same in a route',
      (d) => {
        Object.assign(d.authorizationServer, { acrValues: ['urn:mfa'] });
        Object.assign(d.apis.orders, { routes: [{ path: '/x', require: { acr: ['urn:gold'] } }] });
      },
      'apis.orders.routes.0.require.acr',
      /has none of authorizationServer\.acrValues/,
    ],
    [
      'a route beside its API',
      (d) =>
        Object.assign(d.apis.orders, {
          require: { acr: ['urn:mfa'] },
          routes: [{ path: '/x', require: { acr: ['urn:gold'] } }],
        }),
      'apis.orders.routes.0.require.acr',
      /has none of the API’s own require\.acr/,
    ],
    ...each(
      ['a b', 'a"b', 'a\\b', 'é', '', 'a\n'],
      (d, value) => Object.assign(d.authorizationServer, { acrValues: [value] }),
      'authorizationServer.acrValues.0',
      /is not an acr value/,
    ),
  ],
  frontends: [
    [
      'beside the single form',
      (d) => Object.assign(d, { frontends: { shop: frontend('https://shop.example.com') } }),
      'publicUrl',
      /stands beside frontends: move it/,
    ],
    ['none', frontends({}), 'frontends', /is empty: add a frontend/],
    ['an odd name', frontends({ 'Shop 1': frontend('https://a.example.com') }), 'frontends.Shop 1', /lower-case name/],
    [
      'on the same host',
      frontends({ shop: frontend('https://a.example.com'), admin: frontend('https://a.example.com') }),
      'frontends.admin.publicUrl',
      /overlaps the publicUrl of shop/,
    ],
    [
      'one inside the other',
      frontends({ shop: frontend('https://a.example.com/s'), admin: frontend('https://a.example.com/s/a') }),
      'frontends.admin.publicUrl',
      /overlaps/,
    ],
    [
      'with the same cookie',
      frontends({
        shop: frontend('https://a.example.com/s', { cookie: { name: '__Host-c' } }),
        admin: frontend('https://a.example.com/a', { cookie: { name: '__Host-c' } }),
      }),
      'frontends.admin.cookie.name',
      /also the cookie of shop/,
    ],
  ],
  'forward-auth': [
    [
      'without trusted proxies',
      (d) => Object.assign(d, { forwardAuth: { key: key() } }),
      'forwardAuth',
      /list their addresses in trustedProxies/,
    ],
    [
      'missing for an API without upstream',
      (d) => delete d.apis.orders.upstream,
      'apis.orders.upstream',
      /is required: add it.*or set forwardAuth/,
    ],
    [
      'and an empty list of upstreams',
      (d) => {
        forwardAuth({ key: key() })(d);
        d.apis.orders.upstream = [];
      },
      'apis.orders.upstream',
      />=1 items: correct the value/,
    ],
    ['without a key', forwardAuth({}), 'forwardAuth.key', /is required: add it/],
    ...each(
      ['', 'change-me', 'a'.repeat(43), 'correct-horse-battery-staple-correct-horse'],
      (d, text) => forwardAuth({ key: text })(d),
      'forwardAuth.key',
      /make one with "cloakroom keygen"/,
    ),
    [
      'with a URL for a host',
      forwardAuth({ key: key(), hosts: ['http://cloakroom:8080/'] }),
      'forwardAuth.hosts.0',
      /such as cloakroom:8080/,
    ],
    [
      'beside frontends',
      (d) => {
        frontends({ shop: frontend('https://a.example.com') })(d);
        forwardAuth({ key: key() })(d);
      },
      'forwardAuth',
      /stands beside frontends: move it/,
    ],
    [
      'of two frontends under one host',
      (d) => {
        const both = { forwardAuth: { key: key(), hosts: ['cloakroom:8080'] } };
        const urls = ['https://a.example.com', 'https://b.example.com'];
        frontends({ a: frontend(urls[0] as string, both), b: frontend(urls[1] as string, both) })(d);
        d.trustedProxies = ['10.0.0.0/8'];
      },
      'frontends.b.forwardAuth.hosts',
      /leads to another frontend too/,
    ],
  ],
  'missing and misplaced parts': [
    ...each(words('publicUrl authorizationServer session'), (d, key) => delete d[key], '', /is required: add it/),
    [
      'no client id',
      (d) => delete d.authorizationServer.clientId,
      'authorizationServer.clientId',
      /is required: add it/,
    ],
    ['a list for a block', (d) => Object.assign(d, { session: [] }), 'session', /not a list/],
    ['an empty block', (d) => Object.assign(d, { listen: null }), 'listen', /not empty/],
    [
      'a port out of range',
      (d) => Object.assign(d, { listen: { port: 70_000 } }),
      'listen.port',
      /65535.*correct the value/,
    ],
    [
      'a reserved login parameter',
      (d) => Object.assign(d.authorizationServer, { extraParameters: { redirect_uri: 'x' } }),
      'authorizationServer.extraParameters.redirect_uri',
      /sets itself: remove it/,
    ],
  ],
};
