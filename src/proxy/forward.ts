import {
  BodyTooLarge,
  isProblem,
  type Problem,
  problem,
  RequestMalformed,
  UpstreamBusy,
  UpstreamInvalid,
  UpstreamTimeout,
  UpstreamUnavailable,
  UpstreamUnreachable,
} from '../http/errors.ts';
import { type Exchanged, type ExchangeOptions, exchange, NotSentError } from './exchange.ts';
import { TooLargeError } from './request-body.ts';
import type { Target } from './target.ts';
import type { Upstream } from './upstreams.ts';

export interface ForwardOptions extends ExchangeOptions {
  upstream: Upstream;
}

/**
 * Sends one request to a target of its API, after a wait in line for a connection where it must. Problems are thrown.
 * Nothing is retried but a safe request whose connection failed before a byte was sent: once, and at another target
 * when there is one (S8, PX12).
 */
export async function forward(options: ForwardOptions): Promise<Exchanged> {
  const { upstream } = options;
  const target = upstream.pick();
  if (target === undefined) throw unavailable(upstream);
  let spentMs = 0;
  if (!target.line.enter()) {
    const startedAt = performance.now();
    const outcome = await waitInLine(options, target);
    if (outcome === 'left') return 'left-by-browser';
    spentMs = performance.now() - startedAt;
  }
  const sinceMs = performance.now();
  try {
    return await attempt(options, target, spentMs);
  } catch (error) {
    if (!(error instanceof NotSentError)) throw error;
    const other = isSafe(options) ? (upstream.pick(target) ?? (target.isUp ? target : undefined)) : undefined;
    if (other?.line.enter() !== true) throw toProblem(error);
    return await attempt(options, other, spentMs + performance.now() - sinceMs).catch((again: unknown) => {
      throw toProblem(again);
    });
  }
}

async function waitInLine(options: ForwardOptions, target: Target): Promise<'entered' | 'left'> {
  const { upstream, response, headersTimeout, totalTimeout } = options;
  const outcome = await target.line.wait(response, Math.min(headersTimeout, totalTimeout ?? headersTimeout));
  switch (outcome) {
    case 'left':
      target.count('left-by-browser');
      return outcome;
    case 'entered':
      if (target.isUp) return outcome;
      target.line.leave(); // it fell in this very moment
      throw unavailable(upstream);
    case 'dismissed':
      throw unavailable(upstream);
    case 'full':
      target.count('refused');
      throw problem(UpstreamBusy, { retryAfterSeconds: 1 });
    case 'late':
      target.count('failed');
      throw problem(UpstreamTimeout);
  }
}

/** One exchange, and what the target is thought of after it. */
async function attempt(options: ForwardOptions, target: Target, spentMs: number): Promise<Exchanged> {
  const sinceMs = performance.now();
  try {
    const outcome = await exchange(options, target, spentMs);
    target.count(outcome);
    if (outcome === 'left-by-browser') target.abandoned(sinceMs);
    return outcome;
  } catch (error) {
    target.count('failed');
    const known = toProblem(error);
    const isItsFault = known instanceof UpstreamTimeout || known instanceof UpstreamUnreachable;
    if (isItsFault) target.failed(sinceMs, !(error instanceof NotSentError));
    else target.abandoned(sinceMs);
    throw error instanceof NotSentError ? error : known;
  } finally {
    target.line.leave();
  }
}

function isSafe({ method, hasBody, response }: ForwardOptions): boolean {
  return (method === 'GET' || method === 'HEAD') && !hasBody && !response.destroyed;
}

function unavailable(upstream: Upstream): Problem {
  return problem(UpstreamUnavailable, { retryAfterSeconds: upstream.untilTrial() / 1000 });
}

/** Sorts undici's errors; their messages, which have addresses, go to the log only as a code. */
export function toProblem(error: unknown): Error {
  if (isProblem(error)) return error;
  if (error instanceof TooLargeError) return problem(BodyTooLarge);
  const cause = error instanceof NotSentError ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  switch (code) {
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return problem(UpstreamTimeout, { cause });
    case 'UND_ERR_INVALID_ARG':
    case 'UND_ERR_NOT_SUPPORTED':
    case 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH':
      return problem(RequestMalformed, { cause });
    case 'UND_ERR_HEADERS_OVERFLOW':
    case 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH':
    case 'ERR_INVALID_CHAR': // Node refuses to write what it was given
      return problem(UpstreamInvalid, { cause });
    default:
      return code.startsWith('HPE_') ? problem(UpstreamInvalid, { cause }) : problem(UpstreamUnreachable, { cause });
  }
}
