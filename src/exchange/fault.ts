import { isConnectFailure, isOwnShortage } from '../outbound/connect-failure.ts';
import {
  BodyTooLarge,
  isProblem,
  problem,
  RequestMalformed,
  UpstreamInvalid,
  UpstreamTimeout,
  UpstreamUnreachable,
} from '../problems/errors.ts';
import { TooLargeError } from './request-body.ts';

/** The connection failed; the target has not seen the request. */
export class NotSentError extends Error {}

/** A kept connection was closed before a byte of the answer: nobody knows whether the target has seen the request. */
export class StaleConnectionError extends Error {}

/** Time was up, but most of it had gone by in line or with the upload: the target did not have it. */
export class LateError extends Error {}

/** `quietMs`: how much of the time the target alone was waited for. */
export function lateness(quietMs: number, limitMs: number): Error {
  return 2 * quietMs >= limitMs ? problem(UpstreamTimeout) : new LateError();
}

/** What went wrong with one request for a target. */
export interface Fault {
  /** What the browser is told. Whatever is no problem of ours is a bug of ours. */
  answer: Error;
  /**
   * It speaks against the target: its connection failed, it speaks no HTTP, or it kept us waiting. Only what is known to
   * come from there does: any browser can bring about an error on our side, and must not be able to make a target look dead (W1).
   */
  isOfTarget: boolean;
}

/** Sorts errors of undici, Node and our own; their messages, which have addresses, go to the log only as a code. */
export function sortFault(error: unknown): Fault {
  if (error instanceof UpstreamTimeout) return { answer: error, isOfTarget: true };
  if (isProblem(error)) return { answer: error, isOfTarget: false };
  if (error instanceof LateError) return { answer: problem(UpstreamTimeout), isOfTarget: false };
  if (error instanceof TooLargeError) return { answer: problem(BodyTooLarge), isOfTarget: false };
  if (error instanceof StaleConnectionError) {
    // Idle connections are closed by targets that are well; of one that is not, new ones are closed too.
    return { answer: problem(UpstreamUnreachable, { cause: error.cause }), isOfTarget: false };
  }
  const cause = error instanceof NotSentError ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (isConnectFailure(cause)) {
    const type = code.endsWith('UND_ERR_CONNECT_TIMEOUT') ? UpstreamTimeout : UpstreamUnreachable;
    return { answer: problem(type, { cause }), isOfTarget: !isOwnShortage(code) };
  }
  if (lostConnection.test(code)) return { answer: problem(UpstreamUnreachable, { cause }), isOfTarget: true };
  if (stopped.test(code)) return { answer: problem(UpstreamUnreachable, { cause }), isOfTarget: false };
  // undici has a code for some of its parser's errors only.
  if ((cause instanceof Error && cause.name === 'HTTPParserError') || noHttp.test(code))
    return { answer: problem(UpstreamInvalid, { cause }), isOfTarget: true };
  if (refusedRequest.test(code)) return { answer: problem(RequestMalformed, { cause }), isOfTarget: false };
  if (badAnswer.test(code)) return { answer: problem(UpstreamInvalid, { cause }), isOfTarget: false };
  return { answer: cause instanceof Error ? cause : new Error('not an error', { cause }), isOfTarget: false };
}

/** The other end closed the connection, with FIN or RST. */
export function isClosing(error: Error): boolean {
  return 'code' in error && /^(UND_ERR_SOCKET|ECONNRESET|ECONNABORTED|EPIPE)$/.test(String(error.code));
}

/** A connection that was there: cut, reset, or the network behind it is gone. */
const lostConnection =
  /^(UND_ERR_SOCKET|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN)|EPROTO|ERR_SSL_\w+)$/;
/** We gave the connection up ourselves, or this process ends. */
const stopped = /^UND_ERR_(DESTROYED|CLOSED|ABORTED|INFO)$/;
const noHttp = /^HPE_(?!HEADER_OVERFLOW$)\w+$/;
/** undici does not send it: characters that no header or path may have, or a body of another length than announced. */
const refusedRequest = /^UND_ERR_(INVALID_ARG|NOT_SUPPORTED|REQ_CONTENT_LENGTH_MISMATCH)$/;
/** It answered, so it is there, and the request may have been what led it to that: too long, or not to be passed on. */
const badAnswer =
  /^(HPE_HEADER_OVERFLOW|UND_ERR_HEADERS_OVERFLOW|UND_ERR_RES_CONTENT_LENGTH_MISMATCH|ERR_INVALID_CHAR|ERR_ASSERTION)$/;
