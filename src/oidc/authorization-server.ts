import * as oidc from 'openid-client';
import type { AuthorizationServerConfig } from '../config/config.ts';
import { createCaller } from '../issuer/call.ts';
import { buildClientAuthentication } from '../issuer/client-authentication.ts';
import { UntrustedAnswerError } from '../issuer/faults.ts';
import { createKeySet, type KeySet } from '../issuer/key-set.ts';
import { checkMetadata, createMetadata, type MetadataLog } from '../issuer/metadata.ts';

export type AuthorizationServerLog = MetadataLog;

export interface AuthorizationServerOptions {
  nowMs: () => number;
  log: AuthorizationServerLog;
  onStatus?: (isUp: boolean) => void;
}

/** One authorization server as one frontend's client sees it. */
export interface AuthorizationServer {
  config: AuthorizationServerConfig;
  keys: KeySet;
  nowMs: () => number;
  /** The openid-client configuration. Throws what `sortFault` sorts while the metadata was never readable. */
  configuration(): Promise<oidc.Configuration>;
  /** Is the metadata known? For readiness; asks nothing. */
  isKnown(): boolean;
  close(): Promise<void>;
}

/** Knows the server's metadata and keys. */
export function createAuthorizationServer(
  config: AuthorizationServerConfig,
  { nowMs, log, onStatus }: AuthorizationServerOptions,
): AuthorizationServer {
  const caller = createCaller(config.timeout, config.caFile);
  const metadata = createMetadata({
    issuer: config.issuer,
    read: (lastGood) => discover(config, caller.fetch, lastGood),
    nowMs,
    log,
    onStatus,
  });
  const jwksUri = async () => {
    const uri = (await metadata.get()).serverMetadata().jwks_uri;
    if (uri === undefined) throw new UntrustedAnswerError('the metadata has no jwks_uri');
    return uri;
  };

  return {
    config,
    keys: createKeySet(caller, jwksUri, nowMs),
    nowMs,
    configuration: metadata.get,
    isKnown: metadata.isKnown,
    close() {
      metadata.close();
      return caller.close();
    },
  };
}

async function discover(
  config: AuthorizationServerConfig,
  fetch: ReturnType<typeof createCaller>['fetch'],
  lastGood: oidc.Configuration | undefined,
): Promise<oidc.Configuration> {
  const issuer = new URL(config.issuer);
  const configuration = await oidc.discovery(
    issuer,
    config.clientId,
    // Time is judged in id-token.ts, by `clockTolerance` and after the signature. openid-client would throw away a whole
    // refresh answer, spent refresh token and all, because one replica's clock is wrong (T53).
    { [oidc.clockTolerance]: tenYears },
    await buildClientAuthentication(config),
    {
      [oidc.customFetch]: fetch,
      timeout: Math.ceil(config.timeout / 1000),
      // The configuration accepts http only on loopback.
      execute: issuer.protocol === 'http:' ? [oidc.allowInsecureRequests] : [],
    },
  );
  const metadata = configuration.serverMetadata();
  checkMetadata(metadata, config.issuer, endpoints, required, lastGood?.serverMetadata());
  const methods: unknown = metadata.code_challenge_methods_supported;
  if (!config.assumePkceS256 && !(Array.isArray(methods) && methods.includes('S256'))) {
    throw new UntrustedAnswerError(
      'the metadata does not offer PKCE S256: set assumePkceS256 if the server supports it all the same',
    );
  }
  return configuration;
}

/** Seconds. */
const tenYears = 315_360_000;

const required = ['authorization_endpoint', 'token_endpoint'] as const;
const endpoints = [
  ...required,
  'jwks_uri',
  'revocation_endpoint',
  'end_session_endpoint',
  'pushed_authorization_request_endpoint',
] as const;
