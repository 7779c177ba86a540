import type { JWTHeaderParameters } from 'jose';
import * as oidc from 'openid-client';
import type { BearerIssuer } from '../config/config.ts';
import { type Caller, createCaller } from '../issuer/call.ts';
import { UntrustedAnswerError } from '../issuer/faults.ts';
import { createKeySet, type KeySet } from '../issuer/key-set.ts';
import { checkMetadata, createMetadata, discover, type MetadataLog } from '../issuer/metadata.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import type { Claims } from './claims.ts';
import type { Failures } from './failures.ts';
import { createIntrospection, type Introspect } from './introspection.ts';

/** One issuer of tokens that callers bring. */
export interface BearerPeer {
  config: BearerIssuer;
  /** None where nothing says where they are: then its JWTs have no signature that could be verified. */
  keys(): Promise<KeySet | undefined>;
  introspect?: Introspect;
  /** Reads the metadata ahead of the first token. */
  start(): void;
  close(): Promise<void>;
}

export interface BearerPeerOptions {
  proxies?: ForwardProxies;
  /** Instead of one of its own. */
  caller?: Caller;
  /** Epoch milliseconds. */
  nowMs: () => number;
  log: MetadataLog;
}

export function createBearerPeer(config: BearerIssuer, failures: Failures, options: BearerPeerOptions): BearerPeer {
  const { issuer, jwksUri, introspection } = config;
  const { proxies, nowMs, log } = options;
  const caller = options.caller ?? createCaller(config.timeout, { caFile: config.caFile, proxies });
  const authentication =
    introspection === undefined ? oidc.None() : oidc.ClientSecretBasic(introspection.clientSecret.reveal());
  const clientId = introspection?.clientId ?? 'cloakroom';
  // The configuration accepts http only on loopback.
  const isPlainHttp = (url: string) => url.startsWith('http:');
  const timeout = Math.ceil(config.timeout / 1000);

  /** Do the metadata name a key set? Noted when they are read: to ask them copies all of them, and each call wants to know. */
  let hasKeySet = true;
  // An issuer that was described completely needs no metadata, and may have none.
  const isDescribed = (introspection === undefined ? jwksUri : introspection.endpoint) !== undefined;
  const metadata = isDescribed
    ? undefined
    : createMetadata({
        issuer,
        async read(lastGood) {
          const { fetch } = caller;
          const configuration = await discover({ ...config, clientId, authentication, fetch });
          const needed = introspection === undefined ? 'jwks_uri' : 'introspection_endpoint';
          const endpoints = ['jwks_uri', 'introspection_endpoint'] as const;
          const server = configuration.serverMetadata();
          checkMetadata(server, issuer, endpoints, [needed], lastGood?.serverMetadata());
          hasKeySet = server.jwks_uri !== undefined;
          return configuration;
        },
        nowMs,
        log,
      });

  const keys = createKeySet(
    caller,
    async () => {
      const uri = jwksUri ?? (await metadata?.get())?.serverMetadata().jwks_uri;
      if (uri === undefined) throw new UntrustedAnswerError('the metadata has no jwks_uri');
      return uri;
    },
    nowMs,
  );

  const described = () => {
    const endpoint = introspection?.endpoint ?? '';
    const configuration = new oidc.Configuration(
      { issuer, introspection_endpoint: endpoint },
      clientId,
      undefined,
      authentication,
    );
    configuration[oidc.customFetch] = caller.fetch;
    configuration.timeout = timeout;
    if (isPlainHttp(endpoint)) oidc.allowInsecureRequests(configuration);
    return configuration;
  };
  const configuration = metadata?.get ?? (async () => described());

  return {
    config,
    async keys() {
      if (jwksUri !== undefined) return keys;
      await metadata?.get();
      return metadata !== undefined && hasKeySet ? keys : undefined;
    },
    ...(introspection === undefined
      ? {}
      : {
          introspect: createIntrospection(configuration, {
            cacheMs: introspection.cache,
            longestWaitMs: config.timeout,
            failures,
            nowMs,
          }),
        }),
    start() {
      metadata?.get().catch(() => undefined);
    },
    close() {
      metadata?.close();
      return caller.close();
    },
  };
}

/** What a JWT says about itself, unverified. */
export interface UnverifiedJwt {
  header: JWTHeaderParameters;
  claims: Claims;
}

/**
 * What is wrong with the header of an access token, or `undefined` (RFC 9068 §4, RFC 8725 §3); jose judges `alg`. Keys
 * that it brings or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at: only the issuer's own key set counts.
 */
export function headerFault({ header, claims }: UnverifiedJwt, { types }: BearerIssuer): string | undefined {
  if (header.crit !== undefined || header.b64 !== undefined) return 'crit';
  const { typ = 'JWT' } = header;
  const type = typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : '';
  if (!types.some((name) => name.toLowerCase() === type)) return 'typ';
  if (type === 'at+jwt') return undefined;
  // Without a type of its own an access token is told from ID tokens and logout tokens by what only those have, and
  // from Keycloak's other tokens by the type that it writes among the claims.
  const isOther = ['nonce', 'at_hash', 'c_hash', 's_hash', 'events'].some((name) => Object.hasOwn(claims, name));
  return isOther || (claims.typ !== undefined && claims.typ !== 'Bearer') ? 'typ' : undefined;
}

/** The claims of a JWT whose signature is the issuer's. Throws jose's errors, and those of the key set. */
export async function verifySignature(
  token: string,
  keys: KeySet,
  config: BearerIssuer,
  nowMs: number,
): Promise<Claims> {
  const rules = {
    algorithms: config.algorithms,
    clockTolerance: config.clockTolerance / 1000,
    currentDate: new Date(nowMs),
  };
  const { payload } = await keys.verify(token, rules, 'stranger');
  return payload;
}
