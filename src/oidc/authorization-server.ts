import * as oidc from 'openid-client';
import type { AuthorizationServerConfig } from '../config/config.ts';
import { isLoopbackHost } from '../config/values.ts';
import { createCaller } from './call.ts';
import { buildClientAuthentication } from './client-authentication.ts';
import { UntrustedAnswerError, unwrapCallFailure } from './faults.ts';
import { createKeySet, type KeySet } from './key-set.ts';

/** Metadata is read again after this long, in the background; the last good one serves meanwhile. Milliseconds. */
const metadataAgeMs = 60 * 60_000;
/** Pause between attempts while it can't be read, doubling. Milliseconds. */
const firstPauseMs = 500;
const longestPauseMs = 5000;

export interface AuthorizationServerLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

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

/**
 * Knows the server's metadata and keys. Starts while the server is down and recovers by itself; once known, metadata
 * that turns bad or weaker is refused and the last good one kept (OP10, T41).
 */
export function createAuthorizationServer(
  config: AuthorizationServerConfig,
  { nowMs, log, onStatus }: AuthorizationServerOptions,
): AuthorizationServer {
  const caller = createCaller(config.timeout, config.caFile);
  let good: { configuration: oidc.Configuration; readAt: number } | undefined;
  let reading: Promise<oidc.Configuration> | undefined;
  let retry: NodeJS.Timeout | undefined;
  let isClosed = false;
  let lastFailure: { error: unknown; until: number; pauseMs: number } | undefined;

  const read = async (): Promise<oidc.Configuration> => {
    try {
      const configuration = await discover(config, caller.fetch, good?.configuration);
      if (good === undefined) log.info({ issuer: config.issuer }, 'authorization server metadata is known');
      good = { configuration, readAt: nowMs() };
      lastFailure = undefined;
      onStatus?.(true);
      return configuration;
    } catch (error) {
      clearTimeout(retry);
      const pauseMs = Math.min((lastFailure?.pauseMs ?? firstPauseMs / 2) * 2, longestPauseMs);
      lastFailure = { error, until: nowMs() + pauseMs, pauseMs };
      onStatus?.(good !== undefined);
      log.warn(
        { issuer: config.issuer, reason: reasonOf(error), keepsLastGood: good !== undefined },
        'authorization server metadata is not usable',
      );
      // Recovers by itself, also when nobody asks: the next person finds a login that works.
      if (!isClosed) retry = setTimeout(() => readOnce().catch(() => undefined), pauseMs).unref();
      throw error;
    }
  };
  const readOnce = () => {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  };
  const isPaused = () => lastFailure !== undefined && nowMs() < lastFailure.until;

  const configuration = async () => {
    if (good === undefined) {
      // During the pause nobody waits on a dead server.
      if (reading === undefined && isPaused()) throw lastFailure?.error;
      return readOnce();
    }
    if (nowMs() - good.readAt > metadataAgeMs && !isPaused()) readOnce().catch(() => undefined);
    return good.configuration;
  };
  const jwksUri = async () => {
    const uri = (await configuration()).serverMetadata().jwks_uri;
    if (uri === undefined) throw new UntrustedAnswerError('the metadata has no jwks_uri');
    return uri;
  };

  return {
    config,
    keys: createKeySet(caller, jwksUri, nowMs),
    nowMs,
    configuration,
    isKnown: () => good !== undefined,
    close() {
      isClosed = true;
      clearTimeout(retry);
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
  // The configuration accepts http only on loopback.
  const isPlainHttp = issuer.protocol === 'http:';
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
      execute: isPlainHttp ? [oidc.allowInsecureRequests] : [],
    },
  );
  checkMetadata(configuration.serverMetadata(), config, isPlainHttp, lastGood?.serverMetadata());
  return configuration;
}

/** Seconds. */
const tenYears = 315_360_000;

const endpointNames = [
  'authorization_endpoint',
  'token_endpoint',
  'jwks_uri',
  'revocation_endpoint',
  'end_session_endpoint',
  'pushed_authorization_request_endpoint',
] as const;

function checkMetadata(
  metadata: Readonly<oidc.ServerMetadata>,
  config: AuthorizationServerConfig,
  isPlainHttp: boolean,
  lastGood: Readonly<oidc.ServerMetadata> | undefined,
): void {
  // openid-client forgives a missing slash; ID tokens and RFC 9207 compare the exact string (LG6).
  if (metadata.issuer !== config.issuer) throw new UntrustedAnswerError('the issuer in the metadata is another one');
  const methods: unknown = metadata.code_challenge_methods_supported;
  if (!config.assumePkceS256 && !(Array.isArray(methods) && methods.includes('S256'))) {
    throw new UntrustedAnswerError(
      'the metadata does not offer PKCE S256: set assumePkceS256 if the server supports it all the same',
    );
  }
  for (const name of endpointNames) {
    const endpoint = metadata[name];
    if (endpoint === undefined) {
      if (name === 'authorization_endpoint' || name === 'token_endpoint')
        throw new UntrustedAnswerError(`the metadata has no ${name}`);
      continue;
    }
    if (!URL.canParse(endpoint)) throw new UntrustedAnswerError(`${name} is not a URL`);
    const { protocol, host, hostname } = new URL(endpoint);
    // Plain http stays on the machine, as in the configuration (OP7).
    if (protocol !== 'https:' && !(isPlainHttp && protocol === 'http:' && isLoopbackHost(hostname)))
      throw new UntrustedAnswerError(`${name} is not https`);
    const before = lastGood?.[name];
    if (before !== undefined && new URL(before).host !== host) {
      throw new UntrustedAnswerError(`${name} moved to another host: restart Cloakroom if that is intended`);
    }
  }
}

/** Says why without foreign text. */
function reasonOf(thrown: unknown): string {
  const error = unwrapCallFailure(thrown);
  if (error instanceof UntrustedAnswerError) return error.reason;
  if (error instanceof oidc.ClientError) return error.code ?? error.name;
  return error instanceof Error && error.name === 'CallFailedError' ? error.message : 'failed';
}
