import { setTimeout as pause } from 'node:timers/promises';
import type { Fault } from '../issuer/faults.ts';
import type { Refreshed } from '../oidc/refresh.ts';
import { StoreUnavailableError } from '../redis/client.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import type { Session } from '../session/session.ts';
import type { ApiGrant } from './grant.ts';

// Small decisions of the refresh coordinator that need none of its state.

/** What a refresh came to. `unavailable` never ends a session. */
export type RefreshOutcome =
  /** `missed`: the session moved on without what was wanted. The login's tokens came instead, or nothing at all. */
  | { kind: 'refreshed'; session: Session; missed?: 'grant' | 'everything' }
  | { kind: 'ended' }
  | { kind: 'unavailable'; retryAfterMs: number; loginHelps?: boolean };

/** What a flight is for. */
export interface Want {
  /** A token for one API; absent: the login's own token set. */
  grant?: ApiGrant;
  /** `refused`: an API did not take the token that is there. `asked`: somebody wants everything new. */
  reason?: 'refused' | 'asked';
  /** The refresh token has just proved to be good: a refusal is about this API. */
  isSecondTry?: boolean;
}

export interface CoordinatorLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Between two tries with the same refresh token: inside every vendor's reuse window. Milliseconds. */
export const secondTryAfterMs = 300;
/** A refresh lease of this process. */
export interface Lease {
  owner: string;
  /** On this process's monotonic clock, milliseconds; Redis's ends no earlier. */
  leasedUntil: number;
}

/** The lease was over before its holder had sent anything. */
export interface LeaseLost {
  kind: 'lease-lost';
}

/** Milliseconds. */
const misconfiguredPauseMs = 30_000;
const longestPauseMs = 10_000;

/** How long nobody tries again after a refresh that failed: growing, and what the server says if it says something. */
export interface Pauses {
  /** Milliseconds. */
  after(fault: Fault): number;
  reset(): void;
}

export function createPauses(nowMs: () => number): Pauses {
  let failuresInARow = 0;
  let nextCountsAt = Number.NEGATIVE_INFINITY;
  return {
    after(fault) {
      if (fault.kind === 'misconfigured') return misconfiguredPauseMs;
      if (fault.kind === 'unavailable' && fault.retryAfterSeconds !== undefined) return fault.retryAfterSeconds * 1000;
      const base = fault.kind === 'unavailable' && !fault.wasSent ? 1000 : 2000;
      // A hundred sessions that fail in one outage are one failure: a short outage must not cost them half a minute (T119).
      const counts = nowMs() >= nextCountsAt;
      if (counts) failuresInARow++;
      const pauseMs = Math.min(base * 2 ** Math.min(failuresInARow - 1, 5), longestPauseMs);
      if (counts) nextCountsAt = nowMs() + pauseMs;
      return pauseMs + Math.random() * 250;
    },
    reset() {
      failuresInARow = 0;
      nextCountsAt = Number.NEGATIVE_INFINITY;
    },
  };
}

/**
 * May the same token be sent once more at once? The request may have reached the server and its answer was cut off, or
 * is one that no rule knows. Not after a timeout: a server that answers late has rotated, and whoever asks it again in
 * the meantime has the whole family revoked (W40).
 */
export function isWorthOneMoreTry(result: Refreshed): boolean {
  if (result.kind !== 'failed') return false;
  const { fault } = result;
  if (fault.kind === 'untrusted') return true;
  return fault.kind === 'unavailable' && fault.wasSent && fault.isTimeout !== true && fault.said === undefined;
}

/**
 * Asks the store until it answers, while the lease lasts. A reply that was lost (T110) or a Redis that hung must leave
 * neither a lease that nobody knows of, nor a result that is in memory only. Every call here may be sent twice.
 */
export async function untilAnswered<T>(deadline: number, call: () => Promise<T>): Promise<T> {
  for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 1000)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) || performance.now() + waitMs > deadline) throw error;
      await pause(waitMs);
    }
  }
}

/** A commit whose reply never came is not an error of the request: its tokens are good. */
export async function commitUntil(
  deadline: number,
  commit: () => Promise<CommitResult>,
): Promise<CommitResult | 'orphaned'> {
  try {
    return await untilAnswered(deadline, commit);
  } catch (error) {
    if (error instanceof StoreUnavailableError) return 'orphaned';
    throw error;
  }
}

type CommitResult = Awaited<ReturnType<SealedSessions['commit']>>;

export async function withinBudget(flight: Promise<RefreshOutcome>, waitMs: number): Promise<RefreshOutcome> {
  const timer = new AbortController();
  const late = pause(waitMs, { kind: 'unavailable', retryAfterMs: 1000 } as const, {
    signal: timer.signal,
    ref: false,
  }).catch(() => ({ kind: 'unavailable', retryAfterMs: 1000 }) as const);
  try {
    return await Promise.race([flight, late]);
  } finally {
    timer.abort();
  }
}

/** Runs at most so many at a time; all others wait for their turn. */
export function createQueue(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running < most) running++;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next(); // takes over this place
    }
  };
}
