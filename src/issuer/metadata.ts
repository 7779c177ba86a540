import * as oidc from 'openid-client';
import { isLoopbackHost } from '../config/schema/values.ts';
import type { Caller } from './call.ts';
import { difference, reasonOfClientError, sortFault, UntrustedAnswerError, unwrapCallFailure } from './faults.ts';
import { tellFault } from './mistakes.ts';

/** Metadata is read again after this long, in the background; the last good one serves meanwhile. Milliseconds. */
const usualAgeMs = 60 * 60_000;
/** Pause between attempts while it can't be read, doubling. Milliseconds. */
const firstPauseMs = 500;
const longestPauseMs = 5000;

export interface MetadataLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

export interface MetadataOptions {
  issuer: string;
  /** Reads and checks it, against the last good one. */
  read(lastGood: oidc.Configuration | undefined): Promise<oidc.Configuration>;
  nowMs: () => number;
  /** Read again after this long; an hour. 0: none is kept, whatever it says now counts (ADR 24). Milliseconds. */
  maxAgeMs?: number;
  log: MetadataLog;
  onStatus?: ((isUp: boolean) => void) | undefined;
}

/** What an issuer says about itself, as openid-client holds it. */
export interface Metadata {
  /** Throws what `sortFault` sorts while it was never readable. */
  get(): Promise<oidc.Configuration>;
  /** Asks nothing. */
  isKnown(): boolean;
  close(): void;
}

/**
 * Keeps an issuer's metadata. Starts while the issuer is down and recovers by itself; once known, metadata that turns
 * bad or weaker is refused and the last good one kept (OP10, T41).
 */
export function createMetadata({
  issuer,
  read,
  nowMs,
  maxAgeMs = usualAgeMs,
  log,
  onStatus,
}: MetadataOptions): Metadata {
  const isKept = maxAgeMs > 0;
  let good: { configuration: oidc.Configuration; readAt: number } | undefined;
  let reading: Promise<oidc.Configuration> | undefined;
  let retry: NodeJS.Timeout | undefined;
  let isClosed = false;
  let lastFailure: { error: unknown; until: number; pauseMs: number } | undefined;

  const attempt = async (): Promise<oidc.Configuration> => {
    try {
      const configuration = await read(isKept ? good?.configuration : undefined);
      if (good === undefined) log.info({ issuer }, 'authorization server metadata is known');
      good = { configuration, readAt: nowMs() };
      lastFailure = undefined;
      onStatus?.(true);
      return configuration;
    } catch (thrown) {
      const error = withMistake(thrown);
      clearTimeout(retry);
      const pauseMs = Math.min((lastFailure?.pauseMs ?? firstPauseMs / 2) * 2, longestPauseMs);
      lastFailure = { error, until: nowMs() + pauseMs, pauseMs };
      const keepsLastGood = isKept && good !== undefined;
      onStatus?.(keepsLastGood);
      log.warn(
        { issuer, reason: reasonOf(error), ...tellFault(sortFault(error)), keepsLastGood },
        'authorization server metadata is not usable',
      );
      // Recovers by itself, also when nobody asks: the next person finds a login that works.
      if (isKept && !isClosed) retry = setTimeout(() => readOnce().catch(() => undefined), pauseMs).unref();
      throw error;
    }
  };
  const readOnce = () => {
    reading ??= attempt().finally(() => {
      reading = undefined;
    });
    return reading;
  };
  const isPaused = () => lastFailure !== undefined && nowMs() < lastFailure.until;

  return {
    async get() {
      if (!isKept) return readOnce();
      if (good === undefined) {
        // During the pause nobody waits on a dead server.
        if (reading === undefined && isPaused()) throw lastFailure?.error;
        return readOnce();
      }
      if (nowMs() - good.readAt > maxAgeMs && !isPaused()) readOnce().catch(() => undefined);
      return good.configuration;
    },
    isKnown: () => good !== undefined,
    close() {
      isClosed = true;
      clearTimeout(retry);
    },
  };
}

export interface DiscoverOptions {
  issuer: string;
  /** When it is not at the issuer. */
  metadataUrl?: string | undefined;
  clientId: string;
  clientMetadata?: Partial<oidc.ClientMetadata>;
  authentication: oidc.ClientAuth;
  fetch: Caller['fetch'];
  /** Milliseconds. */
  timeout: number;
}

/** Reads the metadata once. Who the issuer is and what belongs to it is for `checkMetadata` to judge. */
export async function discover(options: DiscoverOptions): Promise<oidc.Configuration> {
  const { issuer, metadataUrl = issuer, clientId, clientMetadata, authentication, fetch, timeout } = options;
  const isPlainHttp = [issuer, metadataUrl].some((url) => url.startsWith('http:')); // accepted on loopback only
  const configuration = await oidc.discovery(new URL(issuer), clientId, clientMetadata, authentication, {
    // openid-client would take the issuer from another URL's document as it is: so it asks at the issuer, we look elsewhere.
    [oidc.customFetch]: options.metadataUrl === undefined ? fetch : (_url, request) => fetch(metadataUrl, request),
    timeout: Math.ceil(timeout / 1000),
    execute: isPlainHttp ? [oidc.allowInsecureRequests] : [],
  });
  configuration[oidc.customFetch] = fetch;
  return configuration;
}

export type EndpointName =
  | 'authorization_endpoint'
  | 'token_endpoint'
  | 'jwks_uri'
  | 'userinfo_endpoint'
  | 'revocation_endpoint'
  | 'end_session_endpoint'
  | 'pushed_authorization_request_endpoint'
  | 'introspection_endpoint';

/** That the metadata is of this issuer, exactly, and that its endpoints are where they may be. */
export function checkMetadata(
  metadata: Readonly<oidc.ServerMetadata>,
  issuer: string,
  endpoints: readonly EndpointName[],
  required: readonly EndpointName[],
  lastGood: Readonly<oidc.ServerMetadata> | undefined,
): void {
  // openid-client forgives a missing slash; tokens and RFC 9207 compare the exact string (LG6).
  if (metadata.issuer !== issuer) throw otherIssuer(issuer, metadata.issuer);
  // The configuration accepts http only on loopback.
  const isPlainHttp = new URL(issuer).protocol === 'http:';
  for (const name of endpoints) {
    const endpoint = metadata[name];
    if (endpoint === undefined) {
      if (required.includes(name)) throw new UntrustedAnswerError(`the metadata has no ${name}`);
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

function otherIssuer(expected: string, received: unknown): UntrustedAnswerError {
  return new UntrustedAnswerError('the issuer in the metadata is another one', undefined, {
    mistake: 'issuer-differs',
    ...difference(expected, received),
  });
}

/** What openid-client says of a document that is another issuer's, or none at all. */
function withMistake(thrown: unknown): unknown {
  const error = unwrapCallFailure(thrown);
  if (!(error instanceof oidc.ClientError)) return thrown;
  const { cause } = error;
  if (cause instanceof Response && cause.status < 500 && cause.status !== 429) {
    return new UntrustedAnswerError(`the metadata is answered with ${cause.status} and is no JSON`, error, {
      mistake: 'metadata-missing',
      ...difference('200 application/json', `${cause.status} ${cause.headers.get('content-type') ?? ''}`.trim()),
    });
  }
  const { attribute, expected, body } = (cause ?? {}) as {
    attribute?: unknown;
    expected?: string;
    body?: { issuer?: unknown };
  };
  return attribute === 'issuer' ? otherIssuer(String(expected), body?.issuer) : thrown;
}

/** Says why without foreign text. */
function reasonOf(thrown: unknown): string {
  const error = unwrapCallFailure(thrown);
  if (error instanceof UntrustedAnswerError) return error.reason;
  if (error instanceof oidc.ClientError) return reasonOfClientError(error);
  return error instanceof Error && error.name === 'CallFailedError' ? error.message : 'failed';
}
