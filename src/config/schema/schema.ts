import { z } from 'zod';
import { nonceMark, policyDefaults, policyFault } from '../../csp/policy.ts';
import { addressRange } from './address-range.ts';
import { api } from './api.ts';
import { authorizationServer } from './authorization-server.ts';
import { bearerIssuer } from './bearer.ts';
import { limits, listen, ops } from './listeners.ts';
import { duration, isLoopbackHost, oneYear, secret, serverKey, url } from './values.ts';

// One schema is the type, the validation, the default, the reference page and the JSON Schema. Keys hold data only.

const redisUrl = z
  .string()
  .regex(/^(rediss?):\/\/.+/, 'is not a Redis URL: write it like redis://redis:6379 or rediss://redis:6380');

export const redis = z
  .strictObject({
    url: redisUrl
      .optional()
      .meta({ description: 'Where a single Redis is; `rediss://` for TLS.', examples: ['redis://redis:6379'] }),
    sentinel: z
      .strictObject({
        name: z
          .string()
          .min(1)
          .meta({ description: 'What the Sentinels call the primary.', examples: ['mymaster'] }),
        nodes: z
          .array(redisUrl)
          .min(1, 'names no Sentinel: list them like redis://sentinel-1:26379')
          .meta({
            description: 'The Sentinels. With `rediss://` both they and the Redis servers are spoken to over TLS.',
            examples: [['redis://sentinel-1:26379', 'redis://sentinel-2:26379', 'redis://sentinel-3:26379']],
          }),
        username: z.string().optional().meta({ description: 'ACL user of the Sentinels.' }),
        password: secret('Password of the Sentinels, when they have one of their own.').optional(),
      })
      .optional()
      .meta({ description: 'A primary with replicas that Sentinels watch, instead of `url`.' }),
    cluster: z
      .array(redisUrl)
      .min(1, 'names no node: list some like redis://redis-1:6379')
      .optional()
      .meta({
        description:
          'Some nodes of a Redis Cluster (7.0 or later), instead of `url`; the others are found by asking these.',
        examples: [['redis://redis-1:6379', 'redis://redis-2:6379']],
      }),
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
  .superRefine((redis, context) => {
    const named = (['url', 'sentinel', 'cluster'] as const).filter((key) => redis[key] !== undefined);
    if (named.length === 1) return;
    const what = named.length === 0 ? 'does not say where Redis is' : `has ${named.join(' and ')}`;
    context.addIssue(`${what}: write exactly one of url, sentinel and cluster`);
  })
  .meta({
    description:
      'The Redis that keeps the sessions. Without it they live in this process: for development and one replica only.',
  });

const session = z.strictObject({
  redis: redis.optional(),
  keys: z.array(serverKey('A server key.')).min(1, 'needs at least one key: make one with "cloakroom keygen"').meta({
    description:
      'Server keys. The first signs cookies and seals records; all of them are accepted. A new one is added as the second first, and moved to the front once all replicas have it: docs/upgrading.md.',
  }),
  idleTimeout: duration('A session that no request used for this long is over.', 1000, oneYear).prefault('30m'),
  absoluteTimeout: duration('A session is over this long after the login, however busy.', 1000, oneYear).prefault(
    '10h',
  ),
  perUser: z
    .strictObject({
      max: z.number().int().min(1).optional().meta({
        description: 'Sessions that one user may have at the same time in one frontend; no limit when absent.',
      }),
      whenFull: z
        .enum(['evict-oldest', 'deny'])
        .prefault('evict-oldest')
        .meta({ description: 'What the login that is one too many does: end the oldest session, or be refused.' }),
    })
    .prefault({}),
  nearCache: z
    .strictObject({
      enabled: z.boolean().prefault(true).meta({
        description:
          'Answer calls without asking Redis when the session was read there a moment ago. Ends are heard of at once; should a message get lost, after `maxAge`.',
      }),
      maxAge: duration('How long a session may be used without asking Redis.', 1, 60_000).prefault('5s'),
      entries: z.number().int().min(1).max(1_000_000).prefault(5000).meta({
        description: 'Sessions that a process remembers, opened, in its memory (some 10 KiB each).',
      }),
    })
    .prefault({}),
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
    .meta({ description: 'Claims of the user that `GET /bff/session` shows to the browser.' }),
});

const tokens = z.strictObject({
  refreshAhead: duration(
    'An access token is refreshed this long before it expires, at most half its life ahead.',
    0,
  ).prefault('60s'),
  assumedLifetime: duration('Life of an access token whose response names none (RFC 6749 §5.1).').prefault('60s'),
  waitForRefresh: duration(
    'How long a request waits for a refresh that another replica runs; then 503 with Retry-After.',
  ).prefault('12s'),
});

const forwardAuth = z.strictObject({
  key: serverKey(
    'What the proxy proves itself with: the header `x-forward-auth-key`, or the parameter `key` of the address. A secret of its own, from "cloakroom keygen". Without it every browser behind a trusted proxy could fetch its own token.',
  ),
  hosts: z
    .array(z.string().regex(/^[a-z0-9.:[\]-]+$/, 'is not a host as in a Host header, such as cloakroom:8080'))
    .prefault([])
    .meta({
      description:
        'Host headers besides that of `publicUrl` under which `/bff/forward-auth`, and nothing else, may be asked. Traefik sends the host of its `address`.',
      examples: [['cloakroom:8080']],
    }),
});

const contentSecurityPolicy = z
  .string()
  .superRefine((text, context) => {
    const fault = policyFault(text);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
  })
  .meta({
    description: `The \`Content-Security-Policy\` of the files. What it leaves out of \`${policyDefaults}\` is added, and so are the hashes of a page’s inline scripts and styles. With \`'nonce-${nonceMark}'\` each answer has a nonce of its own, also where a page says \`${nonceMark}\`.`,
  });

const filesSettings = z.strictObject({
  folder: z.string().meta({ description: 'Folder of the built SPA.' }),
  contentSecurityPolicy: contentSecurityPolicy.optional(),
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
  forwardAuth: forwardAuth.optional().meta({
    description:
      'Answers `/bff/forward-auth`, where another proxy (nginx `auth_request`, Traefik, Caddy, Envoy) asks about each request that it forwards by itself. Only peers in `trustedProxies` that know the key get an answer.',
  }),
  bearerIssuers: z
    .record(z.string().regex(/^[a-z][a-z0-9-]*$/, 'must be a lower-case name such as mobile'), bearerIssuer)
    .prefault({})
    .meta({
      description:
        'Whose access tokens programs may bring to the APIs that `accept: [bearer]`, by a name for the logs.',
    }),
  files: z
    .union([z.string(), filesSettings], { error: 'must be the folder of the built SPA, or settings with it as folder' })
    .optional()
    .meta({
      description:
        'Folder of the built SPA to serve at `/`; navigations to unknown paths get its index.html. Or settings with the folder among them.',
    }),
  devServer: z
    .string()
    .refine(
      (text) => /^http:\/\/[^/?#@]+\/?$/.test(text) && URL.canParse(text) && isLoopbackHost(new URL(text).hostname),
      'must be an http origin of this machine, such as http://localhost:5173: start the development server here, without TLS and without a path',
    )
    .transform((text) => new URL(text).origin)
    .optional()
    .meta({
      description:
        'Instead of `files`, on a developer’s machine only: the bundler’s development server, which gets whatever is neither an API’s nor Cloakroom’s own, its WebSocket too (docs/apis.md).',
      examples: ['http://localhost:5173'],
    }),
};

const frontend = z.strictObject(frontendShape);

export const configSchema = z
  .strictObject({
    listen,
    ops,
    trustedProxies: z.array(addressRange).prefault([]).meta({
      description:
        'Addresses whose `X-Forwarded-For` is believed, and who may ask `/bff/forward-auth`: your TLS terminator. Scheme and host always come from `publicUrl`.',
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
    workers: z
      .union([z.literal('auto'), z.number().int().min(1).max(64)])
      .prefault(1)
      .meta({
        description:
          'Processes that share the listeners: `auto` is one for each core. More than one needs `session.redis`; `limits` count for each.',
      }),
    limits: limits.prefault({}),
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
        delay: duration('After SIGTERM, `/readyz` says 503 this long before connections are refused.', 0).prefault(
          '0s',
        ),
        grace: duration('After that, requests and refreshes in flight may take this long.').prefault('60s'),
      })
      .prefault({}),
  })
  .meta({ title: 'Cloakroom configuration' });

export type ConfigInput = z.output<typeof configSchema>;
export type SessionConfig = z.output<typeof session>;
export type RedisConfig = z.output<typeof redis>;
export type TokensConfig = z.output<typeof tokens>;
export type FrontendInput = z.output<typeof frontend>;
export type ForwardAuthConfig = z.output<typeof forwardAuth>;
export type FilesConfig = z.output<typeof filesSettings>;
