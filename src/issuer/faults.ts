import * as oidc from 'openid-client';
import { CallFailedError } from './call.ts';

/** What became of a call that did not succeed. Closed: decided here once, never by the text of a message. */
export type Fault =
  /** The server refuses this grant: `invalid_grant`. */
  | { kind: 'rejected' }
  /** It refuses us or our request: `invalid_client`, `unauthorized_client`, another 4xx. Operators must look. */
  | { kind: 'misconfigured'; code: string }
  /** It could not be asked, or says "later". `wasSent`: it may have acted on the request. */
  | { kind: 'unavailable'; reason: string; wasSent: boolean; retryAfterSeconds?: number }
  /** It answered with something that can't be trusted or understood. */
  | { kind: 'untrusted'; reason: string; status?: number };

/** Sorts every error that openid-client, our caller or our own checks throw. */
export function sortFault(thrown: unknown): Fault {
  const error = unwrapCallFailure(thrown);
  if (error instanceof KeysUnavailableError) return { kind: 'unavailable', reason: error.reason, wasSent: false };
  if (error instanceof UntrustedAnswerError) return { kind: 'untrusted', reason: error.reason };
  if (error instanceof CallFailedError) {
    return { kind: 'unavailable', reason: error.message, wasSent: error.wasSent };
  }
  if (error instanceof oidc.ResponseBodyError) {
    if (error.error === 'invalid_grant') return { kind: 'rejected' };
    if (
      isLater(error.status) ||
      error.error === 'temporarily_unavailable' ||
      error.error === 'server_error' ||
      error.error === 'slow_down'
    ) {
      return later(error.status, error.response);
    }
    return { kind: 'misconfigured', code: knownCode(error.error) };
  }
  if (error instanceof oidc.WWWAuthenticateChallengeError) return { kind: 'misconfigured', code: 'invalid_client' };
  if (error instanceof oidc.ClientError) {
    if (error.code === 'OAUTH_TIMEOUT') return { kind: 'unavailable', reason: 'timeout', wasSent: true };
    const response = error.cause instanceof Response ? error.cause : undefined;
    if (response !== undefined && isLater(response.status)) return later(response.status, response);
    return {
      kind: 'untrusted',
      reason: error.code ?? 'OAUTH_INVALID_RESPONSE',
      ...(response === undefined ? {} : { status: response.status }),
    };
  }
  return { kind: 'unavailable', reason: error instanceof Error ? error.name : 'unknown', wasSent: true };
}

/** openid-client wraps what our caller throws; an unreachable server must not look like one that answered nonsense. */
export function unwrapCallFailure(error: unknown): unknown {
  return error instanceof oidc.ClientError && error.cause instanceof CallFailedError ? error.cause : error;
}

/** The issuer's signing keys can't be had, or not the one that is needed: nothing is known about the token. */
export class KeysUnavailableError extends Error {
  override readonly name = 'KeysUnavailableError';
  readonly reason: string;
  /** The keys were fetched for this one, and it is not among them. */
  readonly isUnknownKey: boolean;
  constructor(reason: string, details: { cause?: unknown; isUnknownKey?: boolean } = {}) {
    super(reason, { cause: details.cause });
    this.reason = reason;
    this.isUnknownKey = details.isUnknownKey ?? false;
  }
}

/** An answer that broke a rule of ours on top of openid-client's. */
export class UntrustedAnswerError extends Error {
  override readonly name = 'UntrustedAnswerError';
  readonly reason: string;
  constructor(reason: string, cause?: unknown) {
    super(reason, { cause });
    this.reason = reason;
  }
}

function isLater(status: number): boolean {
  return status === 429 || status >= 500;
}

function later(status: number, response: Response): Fault {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return {
    kind: 'unavailable',
    reason: `status ${status}`,
    wasSent: true,
    ...(Number.isFinite(seconds) && seconds > 0 ? { retryAfterSeconds: Math.min(seconds, 300) } : {}),
  };
}

/** Error codes go into logs and metrics: only registered ones as they are. */
function knownCode(code: string): string {
  return /^(invalid_(client|request|scope|target|dpop_proof)|unauthorized_client|unsupported_grant_type|access_denied)$/.test(
    code,
  )
    ? code
    : 'other';
}
