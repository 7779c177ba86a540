import { z } from 'zod';
import { acrValue, duration, metadataUrl, oneYear, resource, scope, secret, signingAlgorithm, url } from './values.ts';

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

/** A session must stay refused for longer than any lease after its end. Milliseconds. */
const maximumRefreshTimeoutMs = 120_000;

/** What ID tokens may be signed with where the configuration does not say. */
export const usualSigningAlgorithms: z.output<typeof signingAlgorithm>[] = [
  'RS256',
  'PS256',
  'ES256',
  'EdDSA',
  'Ed25519',
];

/** What an end-session request says (RP-Initiated Logout §2). */
export const logoutParameters = [
  'client_id',
  'post_logout_redirect_uri',
  'state',
  'logout_hint',
  'id_token_hint',
] as const;

/** Of a form, too, where a field of the name `submit` would be taken for the function. */
const logoutParameterName = z.string().regex(/^(?!submit$)[A-Za-z0-9_.-]+$/, 'is no name for a parameter of a logout');

/** One authorization server, and Cloakroom’s registration there. */
export const authorizationServer = z.strictObject({
  issuer: url(
    'The issuer identifier, exactly as the authorization server’s metadata gives it.',
    'https://id.example.com',
  ),
  metadataUrl: metadataUrl.optional(),
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
  clientAssertionAudience: z.enum(['issuer', 'token_endpoint', 'called_endpoint']).prefault('issuer').meta({
    description:
      'The `aud` of the assertions of `private_key_jwt` and `client_secret_jwt`: the issuer, always the token endpoint (older servers), or the endpoint that is called (Okta).',
  }),
  scopes: z
    .array(scope)
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
  silentLoginFrame: z.boolean().prefault(false).meta({
    description:
      'Let pages of this site log in silently in a hidden frame: `/bff/login?prompt=none`, which is allowed then. Answers by `postMessage`.',
  }),
  thirdPartyInitiatedLogin: z.boolean().prefault(false).meta({
    description:
      'Let other sites begin a login (OpenID Connect Core §4): register `/bff/login` as `initiate_login_uri`. They choose a path of this site to land on and a `login_hint`, nothing else.',
  }),
  acrValues: z.array(acrValue).prefault([]).meta({
    description: 'Authentication context classes to ask for; the `acr` of the ID token must then be one of them.',
  }),
  maxAge: duration(
    'The login asks for an authentication no older than this and refuses an older one.',
    0,
    oneYear,
  ).optional(),
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
  idTokenSigningAlgorithms: z.array(signingAlgorithm).min(1).prefault(usualSigningAlgorithms).meta({
    description:
      'Signature algorithms accepted on ID tokens and signed UserInfo answers. Symmetric ones and `none` never are. Logout tokens must have one of them too; as long as this is the default, one that the ID tokens of their sessions, or else of this client, had.',
  }),
  idTokenMaxAge: duration(
    'How long ago an ID token may have been made (`iat`) when it comes. More is for servers that hand out the same one for a while; how long ago the user authenticated is `maxAge`.',
    1000,
    oneYear,
  ).prefault('10m'),
  metadataMaxAge: duration(
    'After this long the metadata is read again, in the background; the last good one serves meanwhile. `0s` keeps none, for conformance tests: each login waits for what it says now (docs/conformance.md).',
    0,
  ).prefault('1h'),
  userInfo: z.enum(['never', 'login', 'always']).prefault('never').meta({
    description:
      'Ask UserInfo for claims that the ID token does not have: never, once at the `login`, or `always`, that is at every refresh too. A claim of the ID token wins (docs/adr/0018-userinfo-is-asked-when-told-to.md).',
  }),
  userInfoRequired: z.boolean().prefault(true).meta({
    description:
      'Refuse a login whose UserInfo can’t be had. With `false` it begins with the claims of the ID token, and a warning. UserInfo of somebody else is refused in any case.',
  }),
  trustedAudiences: z
    .array(z.string())
    .prefault([])
    .meta({ description: 'Audiences that an ID token may name besides `clientId`.' }),
  timeout: duration('How long one call to the authorization server may take.').prefault('5s'),
  refreshTimeout: duration(
    'How long one refresh may take. A server that is restarting may answer late, and it has rotated by then: with strict rotation a call that is cut off costs the session. Nobody waits longer than `tokens.waitForRefresh`.',
    1,
    maximumRefreshTimeoutMs,
  ).prefault('30s'),
  clockTolerance: duration('How far the authorization server’s clock may differ.', 0).prefault('10s'),
  revokeOnLogout: z.boolean().prefault(true).meta({
    description:
      'Revoke the refresh token at logout (RFC 7009), in the background: after `timeout`, while the browser is at the end-session page; at once where there is none, and when the process stops.',
  }),
  revocationEndpoint: url(
    'Where refresh tokens are revoked. Default: the `revocation_endpoint` of its metadata.',
    'https://id.example.com/o/revoke_token/',
  ).optional(),
  strictLogoutTokenType: z.boolean().prefault(false).meta({
    description:
      'Accept logout tokens of type `logout+jwt` only. Many servers do not set it yet (Back-Channel Logout §4.1).',
  }),
  endSessionEndpoint: url(
    'Where browsers log out at the server. Default: the `end_session_endpoint` of its metadata.',
    'https://shop.eu.auth0.com/v2/logout',
  ).optional(),
  idTokenHint: z
    .union([z.boolean(), z.literal('post')], { error: 'must be true, false or post' })
    .prefault(false)
    .meta({
      description:
        'Send the ID token as `id_token_hint` at logout, so that the server need not ask whether to log out. `post`: by a form, for servers that take one. `true`: in the URL, which puts it into histories and logs, and may be too long for them (docs/adr/0003-no-id-token-hint-by-default.md).',
    }),
  logoutParameterNames: z
    .partialRecord(
      z.enum(logoutParameters),
      z.union([logoutParameterName, z.literal(false)], {
        error: 'must be the name that your server gives this parameter, or false to leave it out',
      }),
    )
    .prefault({})
    .meta({
      description:
        'What the server calls the parameters `client_id`, `post_logout_redirect_uri`, `state`, `logout_hint` and `id_token_hint` of a logout, where it has names of its own; `false` leaves one out.',
      examples: [{ post_logout_redirect_uri: 'logout_uri' }],
    }),
  extraLogoutParameters: z.record(logoutParameterName, z.string()).prefault({}).meta({
    description: 'Fixed extra parameters of a logout, such as `federated` at Auth0.',
  }),
  postLogoutPath: z
    .string()
    .regex(/^\/(?![/\\])[\x21-\x7e]*$/, 'must be a path of this site, such as /')
    .prefault('/')
    .meta({ description: 'Path under `publicUrl` that is registered as `post_logout_redirect_uri`.' }),
  caFile: z
    .string()
    .optional()
    .meta({ description: 'PEM file with the CA of the authorization server; the system’s CAs when absent.' }),
});

export type AuthorizationServerConfig = z.output<typeof authorizationServer>;

/** Time to write the result of a refresh. Milliseconds. */
export const commitBudgetMs = 2000;
/** For a process that was paused. Milliseconds. */
const pauseMarginMs = 3000;

/**
 * How long one use of a refresh token may keep its session's lease, in milliseconds: the call, the key set behind it
 * (read once more where a signature fails), UserInfo and the key set behind that where it is asked, the commit, and a
 * pause of the process. A lease that is lost before would lead to a second use of the token while the first is
 * unresolved (RF7).
 */
export function refreshLease({ refreshTimeout, timeout, userInfo }: AuthorizationServerConfig): {
  callMs: number;
  leaseMs: number;
} {
  const userInfoMs = userInfo === 'always' ? 3 * timeout : 0;
  const callMs = refreshTimeout + 2 * timeout + userInfoMs + commitBudgetMs;
  return { callMs, leaseMs: callMs + pauseMarginMs };
}
