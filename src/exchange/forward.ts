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
} from '../problems/errors.ts';
import type { Target } from '../upstream/target.ts';
import type { Upstream } from '../upstream/upstreams.ts';
import { type Exchanged, type ExchangeOptions, exchange, NotSentError } from './exchange.ts';
import { TooLargeError } from './request-body.ts';

export interface ForwardOptions extends ExchangeOptions {
  upstream: Upstream;
}

/**
 * Sends one request to a target of its API, after a wait in line for a connection where it must. Problems are thrown.
 * Nothing is retried but a safe request whose connection failed before a byte was sent: once, and at another target
 * when there is one (S8, PX12).
 */
export function forward(options: ForwardOptions): Promise<Exchanged> {
  const { upstream } = options;
  const target = upstream.pick();
  if (target === undefined) return Promise.reject(unavailable(upstream));
  return target.line.enter() ? attempt(options, target, 0) : forwardLater(options, target);
}

async function forwardLater(options: ForwardOptions, target: Target): Promise<Exchanged> {
  const startedAt = performance.now();
  const outcome = await waitInLine(options, target);
  return outcome === 'left' ? 'left-by-browser' : attempt(options, target, performance.now() - startedAt);
}

async function waitInLine(options: ForwardOptions, target: Target): Promise<'entered' | 'left'> {
  const { upstream, response, timeouts } = options;
  const outcome = await target.line.wait(response, Math.min(timeouts.headers, timeouts.total ?? timeouts.headers));
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
function attempt(options: ForwardOptions, target: Target, spentMs: number, isSecond = false): Promise<Exchanged> {
  const sinceMs = performance.now();
  return new Promise((resolve, reject) => {
    const onOutcome = (outcome: Exchanged) => {
      target.count(outcome);
      if (outcome === 'left-by-browser') target.abandoned(sinceMs);
      target.line.leave();
      resolve(outcome);
    };
    const onError = (error: unknown) => {
      target.count('failed');
      const known = toProblem(error);
      const isItsFault = known instanceof UpstreamTimeout || known instanceof UpstreamUnreachable;
      if (isItsFault) target.failed(sinceMs, !(error instanceof NotSentError));
      else target.abandoned(sinceMs);
      target.line.leave();
      const other = error instanceof NotSentError && !isSecond ? otherTarget(options, target) : undefined;
      if (other?.line.enter() === true) resolve(attempt(options, other, spentMs + performance.now() - sinceMs, true));
      else reject(known);
    };
    exchange(options, target, spentMs, onOutcome, onError);
  });
}

/** Where to send it once more, if that can do no harm. */
function otherTarget(options: ForwardOptions, failed: Target): Target | undefined {
  return isSafe(options) ? (options.upstream.pick(failed) ?? (failed.isUp ? failed : undefined)) : undefined;
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
