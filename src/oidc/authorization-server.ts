import * as oidc from 'openid-client';
import { type AuthorizationServerConfig, signingAlgorithm } from '../config/config.ts';
import { type Caller, type CallOptions, createCaller } from '../issuer/call.ts';
import { buildClientAuthentication } from '../issuer/client-authentication.ts';
import { UntrustedAnswerError } from '../issuer/faults.ts';
import { createKeySet, type KeySet } from '../issuer/key-set.ts';
import { checkMetadata, createMetadata, discover, type MetadataLog } from '../issuer/metadata.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';

export type AuthorizationServerLog = MetadataLog;

export interface AuthorizationServerOptions {
  proxies?: ForwardProxies;
  /** Instead of one of its own. */
  caller?: Caller;
  nowMs: () => number;
  log: AuthorizationServerLog;
  onStatus?: (isUp: boolean) => void;
}

/** One authorization server as one frontend's client sees it. */
export interface AuthorizationServer {
  config: AuthorizationServerConfig;
  keys: KeySet;
  /** What this client's ID tokens were signed with, as far as this process has seen them. */
  idTokenAlgorithms: Set<string>;
  nowMs: () => number;
  /** The openid-client configuration. Throws what `sortFault` sorts while the metadata was never readable. */
  configuration(): Promise<oidc.Configuration>;
  /** The same for one call, with a time limit of its own; it can be told how far it came. */
  configurationFor(call: Pick<CallOptions, 'timeoutMs' | 'onStatus' | 'onAnswer'>): Promise<oidc.Configuration>;
  /** Is the metadata known? For readiness; asks nothing. */
  isKnown(): boolean;
  close(): Promise<void>;
}

/** Knows the server's metadata and keys. */
export function createAuthorizationServer(
  config: AuthorizationServerConfig,
  options: AuthorizationServerOptions,
): AuthorizationServer {
  const { proxies, nowMs, log, onStatus } = options;
  const caller = options.caller ?? createCaller(config.timeout, { caFile: config.caFile, proxies });
  const authentication = buildClientAuthentication(config);
  authentication.catch(() => undefined); // whoever asks for the configuration is told
  const metadata = createMetadata({
    issuer: config.issuer,
    read: async (lastGood) => readMetadata(config, await authentication, caller, lastGood),
    nowMs,
    maxAgeMs: config.metadataMaxAge,
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
    idTokenAlgorithms: new Set(),
    keys: createKeySet(caller, jwksUri, nowMs),
    nowMs,
    configuration: metadata.get,
    async configurationFor(call) {
      const server = (await metadata.get()).serverMetadata();
      if (config.revocationEndpoint !== undefined)
        Object.assign(server, { revocation_endpoint: config.revocationEndpoint });
      const configuration = new oidc.Configuration(server, config.clientId, clientMetadata, await authentication);
      configuration[oidc.customFetch] = (url, options) => caller.fetch(url, { ...options, ...call });
      configuration.timeout = Math.ceil((call.timeoutMs ?? config.timeout) / 1000);
      if (isPlainHttp(config)) oidc.allowInsecureRequests(configuration);
      return configuration;
    },
    isKnown: metadata.isKnown,
    close() {
      metadata.close();
      return caller.close();
    },
  };
}

/** Seconds. */
const tenYears = 315_360_000;

/**
 * Time is judged in id-token.ts, by `clockTolerance` and after the signature. openid-client would throw away a whole
 * refresh answer, spent refresh token and all, because one replica's clock is wrong (T53). So is the algorithm: what the
 * metadata announce is up to an hour old, and a server may sign with another one by now (W20). openid-client takes a list
 * there, though its type does not say so.
 */
const clientMetadata = {
  [oidc.clockTolerance]: tenYears,
  id_token_signed_response_alg: signingAlgorithm.options as unknown as string,
};

/** The configuration accepts http only on loopback. */
function isPlainHttp({ issuer }: AuthorizationServerConfig): boolean {
  return new URL(issuer).protocol === 'http:';
}

async function readMetadata(
  config: AuthorizationServerConfig,
  authentication: oidc.ClientAuth,
  { fetch }: Caller,
  lastGood: oidc.Configuration | undefined,
): Promise<oidc.Configuration> {
  const configuration = await discover({ ...config, clientMetadata, authentication, fetch });
  const metadata = configuration.serverMetadata();
  const asksUserInfo = config.userInfo !== 'never';
  const used = asksUserInfo ? [...endpoints, 'userinfo_endpoint' as const] : endpoints;
  checkMetadata(metadata, config.issuer, used, required, lastGood?.serverMetadata());
  if (asksUserInfo && metadata.userinfo_endpoint === undefined)
    throw new UntrustedAnswerError('the metadata has no userinfo_endpoint', undefined, { mistake: 'userinfo-missing' });
  const methods: unknown = metadata.code_challenge_methods_supported;
  if (!config.assumePkceS256 && !(Array.isArray(methods) && methods.includes('S256'))) {
    throw new UntrustedAnswerError(
      'the metadata does not offer PKCE S256: set assumePkceS256 if the server supports it all the same',
    );
  }
  return configuration;
}

const required = ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const;
const endpoints = [
  ...required,
  'revocation_endpoint',
  'end_session_endpoint',
  'pushed_authorization_request_endpoint',
] as const;
