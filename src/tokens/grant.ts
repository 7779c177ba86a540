import type { Api, ExchangeConfig } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';
import type { GrantTarget } from '../oidc/api-grants.ts';

/** What a token for one API is asked for. Two APIs that ask for the same share the token. */
export interface ApiGrant {
  /** Names it in the session's record: made from all that is asked for, so that no token reaches another API (DT3). */
  key: string;
  resource?: string;
  audience?: string;
  /** Space-separated. */
  scope?: string;
  exchange?: ExchangeConfig;
}

const grants = new WeakMap<Api, ApiGrant | undefined>();

/** What to ask for; `undefined` when the API takes the login's own token. */
export function grantOf(api: Api): ApiGrant | undefined {
  if (!grants.has(api)) grants.set(api, buildGrant(api));
  return grants.get(api);
}

function buildGrant({ token, resource, audience, scopes, exchange }: Api): ApiGrant | undefined {
  const isPlain = resource === undefined && audience === undefined && scopes === undefined;
  if (token === 'none' || (isPlain && token !== 'exchange' && token !== 'client')) return undefined;
  const scope = scopes?.join(' ');
  const how = token === 'exchange' ? exchange : undefined;
  return {
    key: hashId(JSON.stringify([how ?? null, resource ?? null, audience ?? null, scope ?? null])).slice(0, 16),
    ...(resource === undefined ? {} : { resource }),
    ...(audience === undefined ? {} : { audience }),
    ...(scope === undefined ? {} : { scope }),
    ...(how === undefined ? {} : { exchange: how }),
  };
}

/** Only what is asked for, in the protocol's own names. */
export function targetOf(grant: ApiGrant): GrantTarget;
export function targetOf(grant: ApiGrant | undefined): GrantTarget | undefined;
export function targetOf(grant: ApiGrant | undefined): GrantTarget | undefined {
  if (grant === undefined) return undefined;
  const { resource, audience, scope } = grant;
  return {
    ...(resource === undefined ? {} : { resource }),
    ...(audience === undefined ? {} : { audience }),
    ...(scope === undefined ? {} : { scope }),
  };
}
