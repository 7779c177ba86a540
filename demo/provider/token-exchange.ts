import { createLocalJWKSet, jwtVerify } from 'jose';
import { errors, type JWKS, type default as Provider, type TokenEndpointGrantContext } from 'oidc-provider';
import type { Resources } from './resources.ts';
import { publicKeys } from './signing-keys.ts';
import type { Users } from './users.ts';

/** The `gty` of tokens that came from an exchange. */
export const EXCHANGED = 'exchange';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';

/** Grants that a client needs to be registered for: `token-exchange` (RFC 8693), and Microsoft's on-behalf-of. */
export const EXCHANGE_GRANT_TYPES = [TOKEN_EXCHANGE, JWT_BEARER];

interface ExchangeParameters {
  subject_token?: string;
  subject_token_type?: string;
  requested_token_type?: string;
  audience?: string | string[];
  assertion?: string;
  requested_token_use?: string;
}

type Context = TokenEndpointGrantContext<ExchangeParameters>;

/** Who a subject token is about, and the login that it belongs to; an ID token does not tell. */
interface Subject {
  accountId: string;
  grantId?: string;
}

/**
 * Adds the two grants that oidc-provider does not bring. Only a token that this provider issued to the same client, for
 * a login that has not ended, can be exchanged; what comes out is for one target and about the same user.
 */
export function registerTokenExchange(
  provider: Provider,
  { jwks, resources, users }: { jwks: JWKS; resources: Resources; users: Users },
): void {
  const keys = createLocalJWKSet(publicKeys(jwks));
  const issued = trackIssued(provider);

  provider.registerGrantType<ExchangeParameters>(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { params } = ctx.oidc;
      const wanted = params.requested_token_type ?? ACCESS_TOKEN;
      if (wanted !== ACCESS_TOKEN && wanted !== JWT) throw new errors.InvalidRequest('unknown requested_token_type');
      const subject = await readSubject(ctx, required(params, 'subject_token'), required(params, 'subject_token_type'));
      const targets = [params.resource ?? [], params.audience ?? []].flat();
      await answer(ctx, subject, targets, params.scope, wanted);
    },
    ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'audience', 'scope'],
    ['resource', 'audience'],
  );

  provider.registerGrantType<ExchangeParameters>(
    JWT_BEARER,
    async (ctx) => {
      const { params } = ctx.oidc;
      if (params.requested_token_use !== 'on_behalf_of') throw new errors.InvalidRequest('unknown requested_token_use');
      const subject = await readSubject(ctx, required(params, 'assertion'), ACCESS_TOKEN);
      // The target is in the scope: <resource>/.default means all that the client may do there.
      const [target, name] = /^(.+)\/([^/ ]+)$/.exec(required(params, 'scope'))?.slice(1) ?? [];
      if (target === undefined) throw new errors.InvalidScope('must be <resource>/<scope>', params.scope ?? '');
      await answer(ctx, subject, [target], name === '.default' ? undefined : name);
    },
    ['assertion', 'requested_token_use', 'scope'],
  );

  async function readSubject(ctx: Context, token: string, type: string): Promise<Subject> {
    const { client } = ctx.oidc;
    if (type === ID_TOKEN) {
      const { sub = '' } = await verify(token, { audience: client.clientId });
      return { accountId: sub };
    }
    if (type !== ACCESS_TOKEN && type !== JWT) throw new errors.InvalidRequest('unknown subject_token_type');
    const found = (await provider.AccessToken.find(token)) ?? issued.get((await verify(token, { typ: 'at+jwt' })).jti);
    if (found?.clientId !== client.clientId) throw new errors.InvalidGrant('another client’s token');
    const { accountId, grantId } = found;
    const grant = await provider.Grant.find(grantId);
    if (grant === undefined) throw new errors.InvalidGrant('the login of this token has ended');
    return { accountId, grantId };
  }

  async function verify(token: string, expected: { typ?: string; audience?: string }) {
    try {
      return (await jwtVerify(token, keys, { issuer: provider.issuer, ...expected })).payload;
    } catch (error) {
      throw new errors.InvalidGrant(`subject token: ${error instanceof Error ? error.message : error}`);
    }
  }

  async function answer(
    ctx: Context,
    { accountId, grantId }: Subject,
    targets: string[],
    scope: string | undefined,
    issuedTokenType?: string,
  ): Promise<void> {
    const { client } = ctx.oidc;
    const [target = resources.first, ...others] = new Set(targets);
    if (others.length > 0) throw new errors.InvalidTarget('one target at a time');
    const resourceServer = new provider.ResourceServer(target, resources.describe(target));

    const asked = scope === undefined ? [...resourceServer.scopes] : scope.split(' ');
    const unknown = asked.filter((name) => !resourceServer.scopes.has(name));
    if (unknown.length > 0) throw new errors.InvalidScope('unknown at this target', unknown.join(' '));
    if (users.get(accountId) === undefined) throw new errors.InvalidGrant('unknown subject');
    const token = new provider.AccessToken({
      client,
      accountId,
      grantId: grantId ?? (await new provider.Grant({ accountId, clientId: client.clientId }).save()),
      gty: EXCHANGED,
      resourceServer,
      scope: asked.join(' '),
    });
    ctx.oidc.entity('AccessToken', token);
    ctx.body = {
      access_token: await token.save(),
      token_type: token.tokenType,
      expires_in: token.expiration,
      scope: token.scope || undefined,
      issued_token_type: issuedTokenType,
    };
  }
}

function required(params: object, name: keyof ExchangeParameters | 'scope'): string {
  const value = (params as Record<string, unknown>)[name];
  if (typeof value !== 'string' || value === '') throw new errors.InvalidRequest(`missing required parameter ${name}`);
  return value;
}

interface IssuedJwt {
  clientId?: string | undefined;
  accountId: string;
  grantId: string;
  expiresAtMs: number;
}

/** A JWT is not stored by the provider that issued it, so what it belongs to is remembered here until it expires. */
function trackIssued(provider: Provider) {
  const issued = new Map<string, IssuedJwt>();
  provider.on('access_token.issued', ({ jti, clientId, accountId, grantId, expiration }) => {
    for (const [id, { expiresAtMs }] of issued) {
      if (expiresAtMs > Date.now()) break;
      issued.delete(id);
    }
    issued.set(jti, { clientId, accountId, grantId, expiresAtMs: Date.now() + expiration * 1000 });
  });
  return { get: (jti: string | undefined) => issued.get(jti ?? '') };
}
