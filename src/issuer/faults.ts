import * as oidc from 'openid-client';
import { isName } from '../crypto/shown.ts';
import { CallFailedError } from './call.ts';

/** What the server said when it did not do as asked, for operators: nothing in it decides anything. */
export interface Said {
  /** None in a redirect. */
  status?: number;
  /** The `error` code (RFC 6749 §5.2) as it came, if it is one that could be a code. */
  error?: string;
  /** Its `error_description`, without what may be a secret. */
  description?: string;
}

/** What is wrong with our registration at an issuer, or with how it is written down here (W41); cures in mistakes.ts. */
export type Mistake =
  | 'client-credentials'
  | 'client-not-allowed'
  | 'redirect-uri'
  | 'scope'
  | 'sender-constrained'
  | 'id-token-encrypted'
  | 'id-token-algorithm'
  | 'issuer-differs'
  | 'metadata-missing'
  | 'userinfo-missing'
  | 'userinfo-token'
  | 'userinfo-encrypted'
  | 'userinfo-algorithm';

/** What was expected and what came instead, where that says more than the reason: nothing secret, nothing long. */
export interface Difference {
  mistake?: Mistake;
  expected?: string;
  received?: string;
}

/** What became of a call that did not succeed. Closed: decided here once, never by the text of a message. */
export type Fault =
  /** The server refuses this grant: `invalid_grant`, or it wants the user to log in again. */
  | { kind: 'rejected'; said?: Said }
  /** It refuses us or our request: `invalid_client`, `unauthorized_client`, another 4xx. Operators must look. */
  | { kind: 'misconfigured'; code: string; said?: Said }
  /** It could not be asked, or says "later". `wasSent`: it may have acted on the request. */
  | {
      kind: 'unavailable';
      reason: string;
      wasSent: boolean;
      isTimeout?: true;
      retryAfterSeconds?: number;
      said?: Said;
    }
  /** It answered with something that can't be trusted or understood. */
  | ({ kind: 'untrusted'; reason: string; said?: Said } & Difference);

/**
 * Error codes that mean "the user must log in again" (RFC 6749 §5.2, OpenID Connect Core §3.1.2.6; Microsoft and others
 * answer a refresh with the latter, W23).
 */
const loginCodes = [
  'invalid_grant',
  'login_required',
  'interaction_required',
  'consent_required',
  'account_selection_required',
];

/** Sorts every error that openid-client, our caller or our own checks throw. */
export function sortFault(thrown: unknown): Fault {
  const error = unwrapCallFailure(thrown);
  if (error instanceof KeysUnavailableError) return { kind: 'unavailable', reason: error.reason, wasSent: false };
  if (error instanceof UntrustedAnswerError) return { kind: 'untrusted', reason: error.reason, ...error.difference };
  if (error instanceof CallFailedError) {
    const { message: reason, wasSent, isTimeout } = error;
    return { kind: 'unavailable', reason, wasSent, ...(isTimeout ? { isTimeout } : {}) };
  }
  if (error instanceof oidc.ResponseBodyError) {
    const said = { status: error.status, ...saidIn(error.error, error.error_description) };
    if (isLater(error.status) || ['temporarily_unavailable', 'server_error', 'slow_down'].includes(error.error))
      return later(error.response, said);
    if (loginCodes.includes(error.error)) return { kind: 'rejected', said };
    return { kind: 'misconfigured', code: knownCode(error.error), said };
  }
  if (error instanceof oidc.WWWAuthenticateChallengeError) {
    if (isLater(error.status)) return later(error.response, { status: error.status });
    return { kind: 'misconfigured', code: 'invalid_client', said: { status: error.status } };
  }
  if (error instanceof oidc.ClientError) {
    if (error.code === 'OAUTH_TIMEOUT')
      return { kind: 'unavailable', reason: 'timeout', wasSent: true, isTimeout: true };
    const response = error.cause instanceof Response ? error.cause : undefined;
    if (response !== undefined && isLater(response.status)) return later(response, { status: response.status });
    return {
      kind: 'untrusted',
      reason: reasonOfClientError(error),
      ...differenceIn(error),
      ...(response === undefined ? {} : { said: { status: response.status } }),
    };
  }
  return { kind: 'unavailable', reason: error instanceof Error ? error.name : 'unknown', wasSent: true };
}

/**
 * Did the server itself say no, once and for all? Not when it was too busy, nor when nothing was said (W24).
 */
export function isRefusedByServer(fault: Fault): boolean {
  const { status = 0 } = fault.said ?? {};
  return fault.kind !== 'unavailable' && status >= 400 && status < 500;
}

/** openid-client's code, with the claim or member that it is about: its own words alone, nothing that was sent. */
export function reasonOfClientError({ code = 'OAUTH_INVALID_RESPONSE', cause }: oidc.ClientError): string {
  const text = cause instanceof Error ? cause.message : '';
  const [, about] = /\b(?:JWT|ID Token|body) "(\w{1,40})"/.exec(text) ?? [];
  return about === undefined ? code : `${code}: ${about}`;
}

/** What openid-client expected of an ID token, as it keeps it beside its error. */
function differenceIn({ cause }: oidc.ClientError): Difference {
  if (!(cause instanceof Error)) return {};
  if (cause.message.startsWith('JWE')) return { mistake: 'id-token-encrypted' };
  const { header, expected } = (cause.cause ?? {}) as { header?: { alg?: unknown }; expected?: unknown };
  if (expected === undefined || typeof header !== 'object') return {};
  return { mistake: 'id-token-algorithm', ...difference(expected, header.alg) };
}

export function difference(expected: unknown, received: unknown): Pick<Difference, 'expected' | 'received'> {
  const shown = (value: unknown) =>
    [value]
      .flat()
      .map((one) =>
        String(one)
          .replace(/[^\x20-\x7e]/g, '?')
          .slice(0, 100),
      )
      .join(' ')
      .slice(0, 300);
  return { expected: shown(expected), received: shown(received) };
}

/** Of an answer whose status says that there is nothing in it to be used. */
export function faultOfStatus(response: Response, said: Said & { status: number }, mistake?: Mistake): Fault {
  if (isLater(said.status)) return later(response, said);
  return { kind: 'untrusted', reason: `status ${said.status}`, said, ...(mistake === undefined ? {} : { mistake }) };
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
  readonly difference: Difference;
  constructor(reason: string, cause?: unknown, difference: Difference = {}) {
    super(reason, { cause });
    this.reason = reason;
    this.difference = difference;
  }
}

/** Too early, too many, too slow, or broken: the same may succeed later. */
function isLater(status: number): boolean {
  return [408, 425, 429].includes(status) || status >= 500;
}

function later(response: Response, said: Said & { status: number }): Fault {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return {
    kind: 'unavailable',
    reason: `status ${said.status}`,
    wasSent: true,
    ...(Number.isFinite(seconds) && seconds > 0 ? { retryAfterSeconds: Math.min(seconds, 300) } : {}),
    said,
  };
}

/** Error codes go into metrics: only registered ones as they are. */
function knownCode(code: string): string {
  return /^(invalid_(client|request|scope|target|dpop_proof)|unauthorized_client|unsupported_grant_type|access_denied)$/.test(
    code,
  )
    ? code
    : 'other';
}

/** Characters. */
const longestDescription = 200;

/** A server may give back whatever it was sent, the code and our secret too (T39): only what reads like words is kept. */
export function saidIn(error: string, description: string | null | undefined): Said {
  // Nor is markup shown: who reads logs in a browser has not asked for it (T19).
  const text = (/[<>]/.test(description ?? '') ? '(markup not shown)' : (description ?? ''))
    .slice(0, 4 * longestDescription)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/\S{12,}/g, (word) => (word.split(/[^A-Za-z0-9]+/).every(isPlain) ? word : '(not shown)'))
    .slice(0, longestDescription);
  return {
    ...(/^[a-z][a-z_]{1,63}$/.test(error) ? { error } : {}),
    ...(text.trim() === '' ? {} : { description: text }),
  };
}

function isPlain(part: string): boolean {
  return part === '' || /^\d{1,5}$/.test(part) || isName(part);
}
