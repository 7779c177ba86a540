import { isIP } from 'node:net';
import { z } from 'zod';
import { duration, isLoopbackHost, secret, serverKey, size } from './values.ts';

// One schema is the type, the validation, the default, the reference page and the JSON Schema. Keys hold data only.

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

const url = (description: string, example: string) =>
  z
    .string()
    .refine(
      (text) => /^https?:$/.test(parseUrl(text)?.protocol ?? ''),
      `is not an http(s) URL: write it like ${example}`,
    )
    .refine((text) => !/[?#@]/.test(text), `must not have a query, fragment or user info: write it like ${example}`)
    .refine((text) => {
      const parsed = parseUrl(text);
      return parsed?.protocol !== 'http:' || isLoopbackHost(parsed.hostname);
    }, 'must be https: plain http is only accepted for loopback hosts (localhost, 127.0.0.1, [::1])')
    .meta({ description, examples: [example] });

const headerName = z
  .string()
  .regex(/^[a-z0-9-]+\*?$/, 'is not a lower-case header name (a final * stands for any ending)');
const method = z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);

const redis = z
  .strictObject({
    url: z
      .string()
      .regex(/^(rediss?):\/\/.+/, 'is not a Redis URL: write it like redis://redis:6379 or rediss://redis:6380')
      .meta({ description: 'Where Redis is; `rediss://` for TLS.', examples: ['redis://redis:6379'] }),
    username: z.string().optional().meta({ description: 'Redis ACL user.' }),
    password: secret('Password of the Redis user.').optional(),
    keyPrefix: z
      .string()
      .regex(/^[\w:.-]*$/, 'may only have letters, digits and : . - _')
      .prefault('cr:')
      .meta({
        description: 'What the names of all keys begin with. Two products may share a Redis when they differ here.',
      }),
    caFile: z.string().optional().meta({ description: 'PEM file with the CA of Redis; the system’s CAs when absent.' }),
    connectTimeout: duration('How long a connection to Redis may take to open.').prefault('2s'),
    commandTimeout: duration('How long Redis may take to answer a command; then the browser gets a 503.').prefault(
      '1s',
    ),
  })
  .meta({
    description:
      'The Redis that keeps the sessions. Without it they live in this process: for development and one replica only.',
  });

const session = z.strictObject({
  redis: redis.optional(),
  keys: z.array(serverKey('A server key.')).min(1, 'needs at least one key: make one with "cloakroom keygen"').meta({
    description:
      'Server keys, newest first. The first signs cookies and seals records; all of them are accepted, so that a key is rotated by putting a new one in front.',
  }),
  idleTimeout: duration('A session that no request used for this long is over.').prefault('30m'),
  absoluteTimeout: duration('A session is over this long after the login, however busy.').prefault('10h'),
  claims: z
    .array(z.string().min(1))
    .prefault([
      'sub',
      'name',
      'given_name',
      'family_name',
      'preferred_username',
      'email',
      'email_verified',
      'picture',
      'locale',
      'roles',
      'groups',
    ])
    .meta({ description: 'ID token claims that `GET /bff/session` shows to the browser.' }),
});

const tokens = z.strictObject({
  refreshAhead: duration(
    'An access token is refreshed this long before it expires, at most half its life ahead.',
  ).prefault('60s'),
  assumedLifetime: duration('Life of an access token whose response names none (RFC 6749 §5.1).').prefault('60s'),
  waitForRefresh: duration(
    'How long a request waits for a refresh that another replica runs; then 503 with Retry-After.',
  ).prefault('12s'),
});

const loginParameter = z
  .array(z.string().min(1))
  .min(1)
  .meta({ description: 'The values a browser may choose; `["*"]` accepts any value of up to 256 characters.' });

/** Parameters that Cloakroom sets itself: neither configuration nor a browser may replace them (LG9). */
const reservedParameters = [
  'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'redirect_uri', 'response_type', 'response_mode',
  'scope', 'state', 'nonce', 'code_challenge', 'code_challenge_method', 'request', 'request_uri', 'resource', 'return_to', 'iss',
]; // biome-ignore format: a list of names reads better in rows

const parameterName = z
  .string()
  .regex(/^[A-Za-z0-9_.-]+$/)
  .refine((name) => !reservedParameters.includes(name), {
    error: 'is a parameter that Cloakroom sets itself: remove it here',
  });

const resource = z
  .string()
  .refine(
    (text) => URL.canParse(text) && !text.includes('#'),
    'is not an absolute URI without a fragment (RFC 8707 §2)',
  );

const authorizationServer = z.strictObject({
  issuer: url(
    'The issuer identifier, exactly as the authorization server’s metadata gives it.',
    'https://id.example.com',
  ),
  clientId: z.string().min(1).meta({ description: 'The `client_id` registered for this frontend.' }),
  clientSecret: secret('The `client_secret`. Needed unless `privateKey` is set.').optional(),
  privateKey: secret(
    'PEM (PKCS #8) private key for `private_key_jwt`. Needed unless `clientSecret` is set.',
  ).optional(),
  privateKeyId: z.string().optional().meta({ description: 'The `kid` of `privateKey` in the registered key set.' }),
  privateKeyAlgorithm: z
    .enum(['RS256', 'PS256', 'ES256', 'EdDSA'])
    .prefault('RS256')
    .meta({ description: 'Signature algorithm of `privateKey`.' }),
  clientAuthentication: z
    .enum(['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt'])
    .optional()
    .meta({
      description:
        'How Cloakroom authenticates. Default: `private_key_jwt` with a `privateKey`, else `client_secret_basic`.',
    }),
  scopes: z
    .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'is not a scope'))
    .prefault(['openid'])
    .refine((scopes) => scopes.includes('openid'), 'must contain openid')
    .meta({ description: 'Scopes of the login. Many servers give a refresh token only for `offline_access`.' }),
  resources: z.array(resource).prefault([]).meta({ description: 'Resource indicators of the login (RFC 8707).' }),
  extraParameters: z
    .record(parameterName, z.string())
    .prefault({})
    .meta({ description: 'Fixed extra parameters of the authorization request, such as `audience` at Auth0.' }),
  loginParameters: z.record(parameterName, loginParameter).prefault({}).meta({
    description:
      'Parameters that `GET /bff/login` passes on from its query, each with the values allowed. All others are ignored.',
  }),
  acrValues: z.array(z.string().min(1)).prefault([]).meta({
    description: 'Authentication context classes to ask for; the `acr` of the ID token must then be one of them.',
  }),
  maxAge: duration('The login asks for an authentication no older than this and refuses an older one.').optional(),
  pushedAuthorizationRequests: z
    .enum(['auto', 'always', 'never'])
    .prefault('auto')
    .meta({ description: 'Push the authorization request (RFC 9126): `auto` when the server offers it.' }),
  responseMode: z.enum(['query', 'form_post']).prefault('query').meta({
    description: 'How the authorization response comes back. `form_post` needs a SameSite=None login cookie.',
  }),
  assumePkceS256: z
    .boolean()
    .prefault(false)
    .meta({ description: 'Log in although the metadata does not say that PKCE S256 is supported (RFC 9700 §4.7.1).' }),
  idTokenSigningAlgorithms: z
    .array(
      z.enum(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']),
    )
    .min(1)
    .prefault(['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'])
    .meta({ description: 'Signature algorithms accepted on ID tokens. Symmetric ones and `none` never are.' }),
  trustedAudiences: z
    .array(z.string())
    .prefault([])
    .meta({ description: 'Audiences that an ID token may name besides `clientId`.' }),
  timeout: duration('How long one call to the authorization server may take.').prefault('5s'),
  clockTolerance: duration('How far the authorization server’s clock may differ.').prefault('10s'),
  revokeOnLogout: z
    .boolean()
    .prefault(true)
    .meta({ description: 'Revoke the refresh token at logout (RFC 7009), in the background.' }),
  idTokenHint: z.boolean().prefault(false).meta({
    description:
      'Send `id_token_hint` at logout. It puts the ID token into a URL that the browser sees (docs/adr/0003).',
  }),
  postLogoutPath: z
    .string()
    .startsWith('/')
    .prefault('/')
    .meta({ description: 'Path under `publicUrl` that is registered as `post_logout_redirect_uri`.' }),
  caFile: z
    .string()
    .optional()
    .meta({ description: 'PEM file with the CA of the authorization server; the system’s CAs when absent.' }),
});

const claimRule = z.union([z.string(), z.number(), z.boolean()]);

const require_ = z.strictObject({
  roles: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .meta({ description: 'The session’s `roles` claim must be an array with one of these.' }),
  scopes: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .meta({ description: 'All of these scopes must have been granted.' }),
  claims: z.record(z.string().min(1), claimRule).optional().meta({
    description:
      'Each claim (a path such as `realm_access.roles`) must equal the value, or be an array that has it. Types are compared too.',
  }),
});

const api = z.strictObject({
  path: z
    .string()
    .regex(
      /^(\/[A-Za-z0-9._~-]+)+$/,
      'must be a plain path such as /api/orders: no trailing slash, no wildcard, no escapes',
    )
    .refine((path) => !/\/\.\.?(\/|$)/.test(path), 'must not have . or .. segments')
    .meta({
      description: 'Path under `publicUrl` that belongs to this API, with everything below it.',
      examples: ['/api/orders'],
    }),
  upstream: z
    .string()
    .refine(
      (text) => /^https?:\/\/[^/?#@]+\/?$/.test(text) && URL.canParse(text),
      'must be an origin such as http://orders:8080: put a path into rewritePath',
    )
    .meta({ description: 'Origin of the API. Nothing in a request can change it.', examples: ['http://orders:8080'] }),
  rewritePath: z
    .string()
    .regex(/^\/([A-Za-z0-9._~-]+(\/[A-Za-z0-9._~-]+)*)?$/, 'must be a plain path such as /v1, or /')
    .prefault('/')
    .meta({ description: 'What `path` becomes at the upstream: with `/`, `/api/orders/7` arrives as `/7`.' }),
  token: z.enum(['user', 'none']).prefault('user').meta({
    description:
      '`user`: a session is needed and its access token is attached. `none`: no token is attached; public unless `require` is set.',
  }),
  require: require_.optional().meta({ description: 'What the session must have; otherwise 403.' }),
  methods: z
    .array(method)
    .min(1)
    .prefault(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])
    .meta({ description: 'Methods that are passed on; others get 405.' }),
  csrf: z.enum(['header', 'origin']).prefault('header').meta({
    description:
      '`header`: an unsafe request needs to be same-origin and carry `x-csrf: 1`. `origin`: same-origin is enough, for HTML forms.',
  }),
  forwardHeaders: z
    .array(headerName)
    .prefault([])
    .meta({ description: 'Request headers to pass on besides the standard ones, such as `x-shop-*`.' }),
  returnHeaders: z
    .array(headerName)
    .prefault([])
    .meta({ description: 'Response headers to pass back besides the standard ones, such as `x-total-count`.' }),
  cache: z
    .boolean()
    .prefault(false)
    .meta({ description: 'Let the upstream’s `Cache-Control` through. Otherwise answers are `no-store`.' }),
  timeouts: z
    .strictObject({
      connect: duration('Opening a connection.').prefault('2s'),
      headers: duration('From the request to the response headers.').prefault('60s'),
      body: duration('Between two pieces of the response body.').prefault('5m'),
    })
    .prefault({}),
  limits: z
    .strictObject({
      requestBody: size('Largest request body; more gets 413.').prefault('100MiB'),
      connections: z
        .number()
        .int()
        .min(1)
        .max(10_000)
        .prefault(256)
        .meta({ description: 'Connections to this upstream at the same time.' }),
    })
    .prefault({}),
  caFile: z
    .string()
    .optional()
    .meta({ description: 'PEM file with the CA of the upstream; the system’s CAs when absent.' }),
});

const frontendShape = {
  publicUrl: url(
    'Where browsers find this frontend. Redirect URIs, cookies and the accepted Host follow from it.',
    'https://app.example.com',
  ),
  authorizationServer,
  cookie: z
    .strictObject({
      name: z
        .string()
        .regex(/^[A-Za-z0-9_-]{1,64}$/, 'may only have letters, digits, - and _')
        .optional()
        .meta({
          description: 'Name of the session cookie. Default `__Host-cloakroom`, or `cloakroom` on plain-http loopback.',
        }),
      sameSite: z
        .enum(['strict', 'lax'])
        .prefault('strict')
        .meta({ description: '`lax` when HTML pages need the session on navigations from other sites.' }),
    })
    .prefault({}),
  apis: z
    .record(z.string().regex(/^[a-z][a-z0-9-]*$/, 'must be a lower-case name such as orders'), api)
    .prefault({})
    .meta({ description: 'The APIs, by name. A path that belongs to none of them is not served.' }),
  files: z
    .string()
    .optional()
    .meta({ description: 'Folder of the built SPA to serve at `/`; navigations to unknown paths get its index.html.' }),
};

const frontend = z.strictObject(frontendShape);

const cidr = z.string().refine((text) => {
  const [address = '', bits, ...rest] = text.split('/');
  return isIP(address) !== 0 && rest.length === 0 && (bits === undefined || /^\d{1,3}$/.test(bits));
}, 'is not an address or CIDR range such as 10.0.0.0/8');

export const configSchema = z
  .strictObject({
    listen: z
      .strictObject({
        host: z.string().prefault('0.0.0.0').meta({ description: 'Address to listen on.' }),
        port: z.number().int().min(0).max(65535).prefault(8080),
      })
      .prefault({})
      .meta({ description: 'Where browsers (or the TLS terminator in front) connect.' }),
    ops: z
      .strictObject({
        host: z
          .string()
          .prefault('127.0.0.1')
          .meta({ description: 'Address of the ops listener; keep it off the public network.' }),
        port: z.number().int().min(0).max(65535).prefault(9090),
      })
      .prefault({})
      .meta({ description: 'The second listener: `/livez`, `/readyz`, `/metrics`.' }),
    trustedProxies: z.array(cidr).prefault([]).meta({
      description: 'Addresses whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: your TLS terminator.',
    }),
    ...frontendShape,
    publicUrl: frontendShape.publicUrl.optional(),
    authorizationServer: authorizationServer
      .optional()
      .meta({ description: 'The OpenID provider, and Cloakroom’s registration there.' }),
    frontends: z
      .record(z.string().regex(/^[a-z][a-z0-9-]*$/, 'must be a lower-case name such as shop'), frontend)
      .optional()
      .meta({
        description:
          'Several frontends by host name or path, each with its own client, cookie and APIs. Instead of the same keys at the top.',
      }),
    session,
    tokens: tokens.prefault({}),
    limits: z
      .strictObject({
        requestTimeout: duration(
          'A request must have arrived completely after this long; slower ones get 408.',
        ).prefault('5m'),
        headersTimeout: duration('Its headers must have arrived after this long.').prefault('30s'),
        connections: z
          .number()
          .int()
          .min(1)
          .prefault(20_000)
          .meta({ description: 'Connections of browsers at the same time.' }),
        loginsPerMinute: z
          .number()
          .int()
          .min(1)
          .prefault(120)
          .meta({ description: 'Login starts, and callbacks, per address and minute; more get 429.' }),
      })
      .prefault({}),
    log: z
      .strictObject({
        level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).prefault('info'),
        requests: z
          .boolean()
          .prefault(true)
          .meta({ description: 'One line for every finished request, without query string.' }),
      })
      .prefault({}),
    shutdown: z
      .strictObject({
        delay: duration('After SIGTERM, `/readyz` says 503 this long before connections are refused.').prefault('0s'),
        grace: duration('After that, requests and refreshes in flight may take this long.').prefault('30s'),
      })
      .prefault({}),
  })
  .meta({ title: 'Cloakroom configuration' });

export type ConfigInput = z.output<typeof configSchema>;
export type ApiConfig = z.output<typeof api>;
export type RequireConfig = z.output<typeof require_>;
export type AuthorizationServerConfig = z.output<typeof authorizationServer>;
export type SessionConfig = z.output<typeof session>;
export type RedisConfig = z.output<typeof redis>;
export type TokensConfig = z.output<typeof tokens>;
export type FrontendInput = z.output<typeof frontend>;
