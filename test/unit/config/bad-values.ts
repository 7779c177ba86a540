import type { Data } from './support.ts';

/** One change, the key that it must be reported at, and the fix that the message names. */
export type Case = [name: string, change: (data: Data) => unknown, key: string, fix: RegExp];

/** The same for every value of a list. */
export function each(values: string[], set: (data: Data, value: string) => unknown, key: string, fix: RegExp): Case[] {
  return values.map((value) => [`"${value.slice(0, 60)}"`, (data) => set(data, value), key, fix]);
}

const words = (text: string) => text.split(' ');
const assign = (value: object) => (data: Data) => Object.assign(data, value);
const textKey = Buffer.from('this is only text, not random bytes at all').toString('base64url');

const isDuration = /write a duration .*500ms, 30s, 5m, 10h, 7d/;
const isSize = /64KiB, 10MiB, 1GiB/;

export const badValues: Record<string, Case[]> = {
  durations: [
    ...each(
      ['30 s', '', ...words('30 1.5h -5s 5S PT30S 1h30m soon')],
      (d, idleTimeout) => Object.assign(d.session, { idleTimeout }),
      'session.idleTimeout',
      isDuration,
    ),
    [
      'a number',
      (d) => Object.assign(d.session, { idleTimeout: 30 }),
      'session.idleTimeout',
      /write a duration with its unit/,
    ],
    [
      'longer than the absolute timeout',
      (d) => Object.assign(d.session, { idleTimeout: '11h' }),
      'session.idleTimeout',
      /longer than absoluteTimeout: shorten it/,
    ],
    [
      'a refresh that outlives any tombstone',
      (d) => Object.assign(d.authorizationServer, { refreshTimeout: '121s' }),
      'authorizationServer.refreshTimeout',
      /must be between 1ms and 120s/,
    ],
  ],
  sizes: each(
    words('10 10MB 1.5MiB -1B MiB'),
    (d, requestBody) => Object.assign(d.apis.orders, { limits: { requestBody } }),
    'apis.orders.limits.requestBody',
    isSize,
  ),
  'W65 content security policies': (
    [
      ["script-src 'self'\r\nset-cookie: a=b; img-src 'ü'", /control or non-ASCII character: write it in ASCII/],
      ["script-src 'self', img-src *", /a comma: separate directives by semicolons/],
      ["scrpt-src 'self'", /an unknown directive: correct the name of number 1/],
      ["img-src *; script-src 'self'; img-src 'self'", /has img-src twice.*join them/],
      ['script-src self', /a source in script-src that browsers take for a host: write 'self', with quotes/],
      ["script-src 'self", /no keyword, hash or .*: correct what stands in quotes/],
      ["script-src 'unsafe-inlin'", /no keyword, hash or /],
      ["script-src 'nonce-r4nd0m'", /a fixed nonce, which stops nobody: write 'nonce-\{\{nonce\}\}'/],
      ['script-src {{nonce}}', /correct what stands in quotes/],
      ["script-src 'sha256-???'", /no keyword, hash or /],
      ["script-src 'none' 'self'", /'none' beside other sources in script-src: keep one or the other/],
    ] as [string, RegExp][]
  ).flatMap(([policy, fix]) =>
    each(
      [policy],
      (d, contentSecurityPolicy) => Object.assign(d, { files: { folder: 'dist', contentSecurityPolicy } }),
      'files.contentSecurityPolicy',
      fix,
    ),
  ),
  'settings of files': [
    ['a list', assign({ files: ['dist'] }), 'files', /must be the folder of the built SPA, or settings with it/],
    [
      'no folder',
      assign({ files: { contentSecurityPolicy: "script-src 'self'" } }),
      'files',
      /settings with it as folder/,
    ],
    ['a key that there is not', assign({ files: { folder: 'dist', csp: '' } }), 'files.csp', /unknown key/i],
  ],
  'WebSocket origins': each(
    [
      'null',
      '*',
      'https://*.example.com',
      'https://app.example.com/',
      'https://app.example.com/chat',
      'https://APP.example.com',
      'https://app.example.com:443',
      'https://user@app.example.com',
      'app.example.com',
      'wss://app.example.com',
      '',
    ],
    (d, origin) => Object.assign(d.apis.orders, { websocket: { origins: [origin] } }),
    'apis.orders.websocket.origins.0',
    /write scheme, host and port and nothing else/,
  ),
  WebSockets: [
    [
      'a plain-http origin',
      (d) => Object.assign(d.apis.orders, { websocket: { origins: ['http://app.example.com'] } }),
      'apis.orders.websocket.origins.0',
      /must be https/,
    ],
    [
      'no origin',
      (d) => Object.assign(d.apis.orders, { websocket: { origins: [] } }),
      'apis.orders.websocket.origins',
      /correct the value/,
    ],
    ...each(
      words('0B 1023B 257MiB 2GiB'), // 0 and what overflows 32 bits would be no limit at all
      (d, maxMessage) => Object.assign(d.apis.orders, { websocket: { maxMessage } }),
      'apis.orders.websocket.maxMessage',
      /must be between 1024B and 268435456B/,
    ),
    [
      'without GET',
      (d) => Object.assign(d.apis.orders, { websocket: {}, methods: ['POST'] }),
      'apis.orders.websocket',
      /needs GET.*add it to methods/,
    ],
    [
      'switched on by true',
      (d) => Object.assign(d.apis.orders, { websocket: true }),
      'apis.orders.websocket',
      /must be a object|correct the value/,
    ],
  ],
  keys: [
    ...each(
      ['', 'short', 'change-me', 'a'.repeat(43), '0'.repeat(64), 'ab'.repeat(32), textKey],
      (d, key) => Object.assign(d.session, { keys: [key] }),
      'session.keys.0',
      /cloakroom keygen/,
    ),
    ['a bad second key', (d) => d.session.keys.push('weak'), 'session.keys.1', /cloakroom keygen/],
    ['no key', (d) => Object.assign(d.session, { keys: [] }), 'session.keys', /cloakroom keygen/],
  ],
  secrets: [
    ...each(
      [
        '',
        ...words(
          'changeme change_me_please <secret> secret client-secret client_secret password1 xxxx **** todo your-secret-here example replace-me',
        ),
      ],
      (d, clientSecret) => Object.assign(d.authorizationServer, { clientSecret }),
      'authorizationServer.clientSecret',
      /placeholder: put the real value|is empty: check/,
    ),
    [
      'no secret',
      (d) => delete d.authorizationServer.clientSecret,
      'authorizationServer.clientSecret',
      /is required for client_secret_basic: add it/,
    ],
    [
      'no private key',
      (d) => Object.assign(d.authorizationServer, { clientAuthentication: 'private_key_jwt' }),
      'authorizationServer.privateKey',
      /is required for private_key_jwt: add it/,
    ],
    [
      'an audience of assertions that are not made',
      (d) => Object.assign(d.authorizationServer, { clientAssertionAudience: 'token_endpoint' }),
      'authorizationServer.clientAssertionAudience',
      /no effect with client_secret_basic/,
    ],
  ],
  cookies: [
    [
      'no prefix on https',
      assign({ cookie: { name: 'shop' } }),
      'cookie.name',
      /must begin with __Host-.*write __Host-shop/,
    ],
    ['__Secure- on https', assign({ cookie: { name: '__Secure-shop' } }), 'cookie.name', /write __Host-shop/],
    [
      '__host- in lower case',
      assign({ cookie: { name: '__host-shop' } }),
      'cookie.name',
      /\(exactly so\).*write __Host-shop/,
    ],
    ...each(
      words('__Host-shop __HOST-shop __Secure-shop'),
      (d, name) => Object.assign(d, { publicUrl: 'http://localhost:8080', cookie: { name } }),
      'cookie.name',
      /leave it out/,
    ),
    ['a name that breaks the header', assign({ cookie: { name: '__Host-a;b' } }), 'cookie.name', /letters, digits/],
    ['SameSite none', assign({ cookie: { sameSite: 'none' } }), 'cookie.sameSite', /must be one of strict, lax/],
  ],
  URLs: [
    ...each(
      words(
        'http://app.example.com http://127.0.0.1.evil.example http://localhost.evil.example http://0.0.0.0 http://10.0.0.1 http://[::2] http://notlocalhost',
      ),
      (d, publicUrl) => Object.assign(d, { publicUrl }),
      'publicUrl',
      /must be https/,
    ),
    [
      'an http issuer',
      (d) => Object.assign(d.authorizationServer, { issuer: 'http://id.example.com' }),
      'authorizationServer.issuer',
      /must be https/,
    ],
    ...each(
      words('http://id.example.com/m ftp://id.example.com id.example.com/m'),
      (d, metadataUrl) => Object.assign(d.authorizationServer, { metadataUrl }),
      'authorizationServer.metadataUrl',
      /must be https|write it like https:/,
    ),
    ...each(
      words('https://id.example.com/m#x https://u:p@id.example.com/m?x'),
      (d, metadataUrl) => Object.assign(d.authorizationServer, { metadataUrl }),
      'authorizationServer.metadataUrl',
      /must not have a fragment or user info/,
    ),
    ...each(
      words('ftp://app.example.com app.example.com javascript:x'),
      (d, publicUrl) => Object.assign(d, { publicUrl }),
      'publicUrl',
      /write it like https:/,
    ),
    ...each(
      words('https://a.example.com/?x https://a.example.com/#x https://u@a.example.com'),
      (d, publicUrl) => Object.assign(d, { publicUrl }),
      'publicUrl',
      /must not have a query, fragment or user info/,
    ),
    ['an odd path', assign({ publicUrl: 'https://app.example.com/a%2fb' }), 'publicUrl', /plain path/],
    [
      'an upstream with a path',
      (d) => Object.assign(d.apis.orders, { upstream: 'http://orders:8080/v1' }),
      'apis.orders.upstream',
      /put a path into rewritePath/,
    ],
    ...each(
      words('http://u:p@orders orders:8080 //orders unix:x http://orders?x'),
      (d, upstream) => Object.assign(d.apis.orders, { upstream }),
      'apis.orders.upstream',
      /must be an origin/,
    ),
    [
      'a Redis of another scheme',
      (d) => Object.assign(d.session.redis, { url: 'http://redis' }),
      'session.redis.url',
      /redis:\/\/redis:6379/,
    ],
    ...each(
      words('redis://redis?db=2 redis://redis#x redis://:50%@redis redis://:%ff@redis'),
      (d, url) => Object.assign(d.session.redis, { url }),
      'session.redis.url',
      /leave query and fragment out, and percent-encode/,
    ),
    [
      'two Redis passwords',
      (d) => Object.assign(d.session.redis, { url: 'redis://:pw-4711@redis', password: 'other-4711' }),
      'session.redis.url',
      /keep one of them/,
    ],
    ...each(
      words('1 loopback 10.0.0.0/x 10.0.0/8 ::1/8/8 10.0.0.0/33 ::1/129'),
      (d, proxy) => Object.assign(d, { trustedProxies: [proxy] }),
      'trustedProxies.0',
      /10\.0\.0\.0\/8/,
    ),
  ],
  'the logout': [
    [
      'a hint that is none',
      (d) => Object.assign(d.authorizationServer, { idTokenHint: 'form' }),
      'authorizationServer.idTokenHint',
      /must be true, false or post/,
    ],
    [
      'a hint that is left out',
      (d) =>
        Object.assign(d.authorizationServer, { idTokenHint: 'post', logoutParameterNames: { id_token_hint: false } }),
      'authorizationServer.logoutParameterNames.id_token_hint',
      /is false, and idTokenHint is not: remove one of them/,
    ],
    [
      'an end-session page in plain http',
      (d) => Object.assign(d.authorizationServer, { endSessionEndpoint: 'http://id.example.com/logout' }),
      'authorizationServer.endSessionEndpoint',
      /must be https/,
    ],
    [
      'a name for a parameter that we don’t send',
      (d) => Object.assign(d.authorizationServer, { logoutParameterNames: { returnTo: 'x' } }),
      'authorizationServer.logoutParameterNames.returnTo',
      /unknown key: remove it or correct its spelling/,
    ],
    [
      'a name that is none',
      (d) => Object.assign(d.authorizationServer, { logoutParameterNames: { state: true } }),
      'authorizationServer.logoutParameterNames.state',
      /the name that your server gives this parameter, or false/,
    ],
    [
      'one name for two parameters',
      (d) => Object.assign(d.authorizationServer, { logoutParameterNames: { client_id: 'state' } }),
      'authorizationServer.logoutParameterNames.client_id',
      /is the name of state too: give each its own/,
    ],
    [
      'an extra parameter under a name of ours',
      (d) =>
        Object.assign(d.authorizationServer, {
          logoutParameterNames: { post_logout_redirect_uri: 'returnTo' },
          extraLogoutParameters: { returnTo: 'https://evil.example' },
        }),
      'authorizationServer.extraLogoutParameters.returnTo',
      /sets itself: remove it here/,
    ],
    [
      'an extra parameter that no form can have',
      (d) => Object.assign(d.authorizationServer, { extraLogoutParameters: { submit: 'x' } }),
      'authorizationServer.extraLogoutParameters.submit',
      /is no name for a parameter of a logout/,
    ],
  ],
};
