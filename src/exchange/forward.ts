import { type Problem, problem, UpstreamBusy, UpstreamTimeout, UpstreamUnavailable } from '../problems/errors.ts';
import type { Target } from '../upstream/target.ts';
import type { Upstream } from '../upstream/upstreams.ts';
import { type Exchanged, type ExchangeOptions, exchange } from './exchange.ts';
import { NotSentError, StaleConnectionError, sortFault } from './fault.ts';

export interface ForwardOptions extends ExchangeOptions {
  upstream: Upstream;
  /** Whose calls go to the same target (`Upstream.pick`). */
  affinity: string | undefined;
  /** It went out twice, for whatever reason: never a third time (W54). */
  isRepeated: boolean;
}

/**
 * Sends one request to a target of its API, after a wait in line for a connection where it must. Problems are thrown.
 * Nothing is retried but a safe request, once: whose connection failed before a byte was sent (S8, PX12), or was a kept
 * one that was closed before a byte came back (W54).
 */
export function forward(options: ForwardOptions): Promise<Exchanged> {
  const { upstream } = options;
  const target = upstream.pick(options.affinity);
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
      const { answer, isOfTarget } = sortFault(error);
      const isStale = error instanceof StaleConnectionError;
      const isSent = !(error instanceof NotSentError);
      target.count(isStale ? 'stale-connection' : 'failed');
      if (isOfTarget) target.failed(sinceMs, isSent);
      else target.abandoned(sinceMs);
      const isRepeatable = !options.isRepeated && (isStale || (isOfTarget && !isSent)) && isSafe(options);
      const next = isRepeatable ? nextTarget(options, target, isStale) : undefined;
      if (next !== target) target.line.leave();
      if (next === target || next?.line.enter() === true) {
        options.isRepeated = true;
        resolve(attempt(options, next, spentMs + performance.now() - sinceMs, true));
      } else reject(answer);
    };
    exchange(options, isSecond ? target.onNewConnection() : target, spentMs, onOutcome, onError);
  });
}

/** Where to send it once more: to another target if one has room at once, else to the same. */
function nextTarget({ upstream, affinity }: ForwardOptions, failed: Target, isStale: boolean): Target | undefined {
  // What is bound to a target is lost at another one, and a connection's end is not the target's.
  const other = isStale && affinity !== undefined ? undefined : upstream.pick(affinity, failed);
  if (other?.line.hasFree === true) return other;
  return failed.isUp ? failed : undefined;
}

function isSafe({ method, hasBody, response }: ForwardOptions): boolean {
  return (method === 'GET' || method === 'HEAD') && !hasBody && !response.destroyed;
}

function unavailable(upstream: Upstream): Problem {
  return problem(UpstreamUnavailable, { retryAfterSeconds: upstream.untilTrial() / 1000 });
}
