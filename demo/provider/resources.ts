import { errors, type ResourceServer } from 'oidc-provider';

/** Something that access tokens can be made for (RFC 8707). */
export interface DemoResource {
  /** The resource indicator, and the `aud` of its tokens. */
  identifier: string;
  /** Space-separated. Default: `orders catalog`. */
  scopes?: string;
  /** Default `jwt`; an opaque token is checked by introspection. */
  format?: 'jwt' | 'opaque';
}

export interface Resources {
  /** Taken when a request names none. */
  first: string;
  /** @throws {errors.InvalidTarget} when no token is made for it */
  describe(identifier: string): ResourceServer;
}

export const ORDERS_RESOURCE = 'urn:cloakroom:demo:orders';
export const CATALOG_RESOURCE = 'urn:cloakroom:demo:catalog';

/** The demo's: each API has its own. */
export const DEMO_RESOURCES: readonly DemoResource[] = [
  { identifier: ORDERS_RESOURCE, scopes: 'orders' },
  { identifier: CATALOG_RESOURCE, scopes: 'catalog' },
];

export function createResources(
  resources: readonly (string | DemoResource)[],
  { ttlSeconds, alg }: { ttlSeconds: number; alg: 'ES256' | 'RS256' },
): Resources {
  const known = new Map(
    resources
      .map((each) => (typeof each === 'string' ? { identifier: each } : each))
      .map((resource): [string, DemoResource] => [resource.identifier, resource]),
  );
  const [first] = known.keys();
  if (first === undefined) throw new Error('a provider without a resource can issue no access token');
  return {
    first,
    describe(identifier) {
      const resource = known.get(identifier);
      if (resource === undefined) throw new errors.InvalidTarget();
      return {
        scope: resource.scopes ?? 'orders catalog',
        audience: identifier,
        accessTokenTTL: ttlSeconds,
        accessTokenFormat: resource.format ?? 'jwt',
        jwt: { sign: { alg } },
      };
    },
  };
}
