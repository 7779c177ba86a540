import { z } from 'zod';
import { affinity, balance, breaker, clientCertificate, connections, health, upstream } from './upstream.ts';
import { acrValue, apiMethods, duration, oneYear, resource, scope, size } from './values.ts';
import { websocket } from './websocket.ts';

const headerName = z
  .string()
  .regex(/^[a-z0-9-]+\*?$/, 'is not a lower-case header name (a final * stands for any ending)');
const method = z.enum(apiMethods);

const claimRule = z.union([z.string(), z.number(), z.boolean()]);

const require_ = z.strictObject({
  roles: z.array(z.string().min(1)).min(1).optional().meta({
    description: 'The `roles` claim (of the session, or of a caller’s own token) must be an array with one of these.',
  }),
  scopes: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .meta({ description: 'All of these scopes must have been granted to the token that is sent.' }),
  claims: z.record(z.string().min(1), claimRule).optional().meta({
    description:
      'Each claim (a path such as `realm_access.roles`) must equal the value, or be an array that has it. Types are compared too.',
  }),
  acr: z.array(acrValue).min(1).optional().meta({
    description:
      'The user must have authenticated in one of these ways (the `acr` claim); otherwise 401 with a `loginUrl` that asks for it.',
  }),
  maxAge: duration('The user must have authenticated no longer ago than this.', 10_000, oneYear).optional(),
});

const route = z.strictObject({
  path: z
    .string()
    .regex(
      /^(\/([A-Za-z0-9._~-]+|\*))+$/,
      'must be a plain path below the API’s own, such as /refunds or /*/refunds: * stands for one segment',
    )
    .refine((path) => !/\/\.\.?(\/|$)/.test(path), 'must not have . or .. segments')
    .meta({
      description:
        'Path below the API’s `path`, with everything under it; `*` stands for exactly one segment. However it is written: in any case, with escapes, parameters (`/refunds;v=1`) or a format (`/refunds.json`, `/refunds.tar.gz`: whatever begins with a dot).',
      examples: ['/*/refunds'],
    }),
  methods: z
    .array(method)
    .min(1)
    .optional()
    .meta({ description: 'The methods that this is about; all when absent. `GET` includes `HEAD`.' }),
  require: require_.meta({ description: 'What the session must have there, besides the API’s own `require`.' }),
});

const exchange = z.strictObject({
  form: z.enum(['token-exchange', 'on-behalf-of']).prefault('token-exchange').meta({
    description: '`token-exchange`: RFC 8693. `on-behalf-of`: the form that Microsoft Entra ID speaks.',
  }),
  subjectToken: z
    .enum(['access_token', 'id_token'])
    .prefault('access_token')
    .meta({ description: 'What is exchanged: the session’s access token or its ID token.' }),
  requestedTokenType: z
    .enum(['access_token', 'jwt'])
    .prefault('access_token')
    .meta({ description: 'The `requested_token_type`; an answer of another type is refused.' }),
});

/** One API behind a frontend. */
export const api = z.strictObject({
  path: z
    .string()
    .regex(
      /^(\/[A-Za-z0-9._~-]+)+$/,
      'must be a plain path such as /api/orders: no trailing slash, no wildcard, no escapes',
    )
    .refine((path) => !/\/\.\.?(\/|$)/.test(path), 'must not have . or .. segments')
    .meta({
      description:
        'Path under `publicUrl` that belongs to this API, with everything below it, but what is below the longer path of another one.',
      examples: ['/api/orders'],
    }),
  upstream,
  balance,
  affinity,
  rewritePath: z
    .string()
    .regex(/^\/([A-Za-z0-9._~-]+(\/[A-Za-z0-9._~-]+)*)?$/, 'must be a plain path such as /v1, or /')
    .prefault('/')
    .meta({ description: 'What `path` becomes at the upstream: with `/`, `/api/orders/7` arrives as `/7`.' }),
  token: z.enum(['user', 'exchange', 'client', 'user-or-client', 'none']).prefault('user').meta({
    description:
      '`user`: a session is needed and its token is attached. `exchange`: a token that the session’s is exchanged for. `client`: a session is needed and the application’s own token is attached. `user-or-client`: as `user`, and for whoever has no session cookie the application’s token. `none`: no token is attached; public unless `require` is set.',
  }),
  resource: resource.optional().meta({
    description: 'The resource indicator of this API (RFC 8707): it gets tokens made for it.',
    examples: ['https://api.example.com/orders'],
  }),
  audience: z
    .string()
    .min(1)
    .optional()
    .meta({ description: 'The `audience` to ask tokens for, where the authorization server knows no `resource`.' }),
  scopes: z.array(scope).min(1).optional().meta({
    description:
      'Scopes to ask tokens of this API for. With none of `resource`, `audience` and `scopes` the login’s token is sent.',
  }),
  exchange: exchange.prefault({}).meta({ description: 'How `token: exchange` asks.' }),
  idTokenHeader: headerName.optional().meta({
    description: 'Send the ID token to this API too, in this header. Without it the ID token goes nowhere.',
    examples: ['x-id-token'],
  }),
  accept: z
    .array(z.enum(['session', 'bearer']))
    .min(1)
    .prefault(['session'])
    .meta({
      description:
        'Who may call: a browser with its session, a program that brings an access token of one of the `bearerIssuers`, or both. Never both in one request.',
    }),
  require: require_
    .optional()
    .meta({ description: 'What the session, or a caller’s own token, must have; otherwise 403.' }),
  routes: z
    .array(route)
    .prefault([])
    .meta({ description: 'Paths and methods below this API that need more. All that match must be satisfied.' }),
  methods: z.array(method).min(1).prefault(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']).meta({
    description:
      'Methods that are passed on, such as `QUERY`, or `PROPFIND` and the others of WebDAV; all others get 405. Where APIs lie below each other, the one with the longest path decides alone.',
  }),
  encodedSlashes: z.boolean().prefault(false).meta({
    description:
      'Pass paths with an encoded slash on as they came, for ids such as `group%2Fproject`; otherwise they get 400. `routes` then hold for both readings of such a path.',
  }),
  csrf: z.enum(['header', 'origin']).prefault('header').meta({
    description:
      '`header`: an unsafe request needs to be same-origin and carry `x-csrf: 1`. `origin`: same-origin is enough, for HTML forms.',
  }),
  forwardHeaders: z.array(headerName).prefault([]).meta({
    description: 'Request headers to pass on besides the standard ones (docs/headers.md), such as `x-shop-*`.',
  }),
  returnHeaders: z.array(headerName).prefault([]).meta({
    description:
      'Response headers to pass back besides the standard ones (docs/headers.md), such as `x-total-count`; none that steers caches or is about the whole origin.',
  }),
  websocket,
  cache: z.boolean().prefault(false).meta({
    description:
      'Let browsers keep answers as the upstream says, each for its own user (docs/apis.md). Otherwise they are `no-store`.',
  }),
  timeouts: z
    .strictObject({
      connect: duration('Opening a connection.').prefault('2s'),
      headers: duration('From the request to the response headers, waiting for a free connection included.').prefault(
        '60s',
      ),
      body: duration('Between two pieces of the response body, and for a browser that stops reading it.').prefault(
        '5m',
      ),
      total: duration(
        'The whole exchange, both bodies included; no limit when absent. Not for APIs with event streams or long downloads.',
      ).optional(),
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
        .prefault(1024)
        .meta({ description: 'Connections to each target at the same time.' }),
      queue: z
        .number()
        .int()
        .min(0)
        .max(100_000)
        .prefault(1024)
        .meta({ description: 'Requests that may wait for a connection to a target; more get 503 at once.' }),
    })
    .prefault({}),
  connections: connections.prefault({}).meta({ description: 'How long connections to a target are kept.' }),
  breaker: breaker.prefault({}).meta({
    description: 'Leaves out a target that does not answer, so that nobody waits for it.',
  }),
  health: health
    .optional()
    .meta({ description: 'Asks each target whether it can do its work; not asked when absent.' }),
  forwardProxy: z.boolean().prefault(false).meta({
    description:
      'Reach the upstream through the forward proxy that `HTTPS_PROXY` (for http `HTTP_PROXY`) names, except as `NO_PROXY` says.',
  }),
  caFile: z
    .string()
    .optional()
    .meta({ description: 'PEM file with the CA of the upstream; the system’s CAs when absent.' }),
  clientCertificate: clientCertificate.optional().meta({
    description: 'What we show to an upstream that asks for a certificate (mutual TLS).',
  }),
});

export type ApiConfig = z.output<typeof api>;
export type RequireConfig = z.output<typeof require_>;
export type ExchangeConfig = z.output<typeof exchange>;
