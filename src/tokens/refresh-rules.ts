import { setTimeout as pause } from 'node:timers/promises';
import type { Refreshed } from '../oidc/refresh.ts';
import { StoreUnavailableError } from '../redis/client.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import type { Session } from '../session/session.ts';

// Small decisions of the refresh coordinator that need none of its state.

/** What a refresh came to. `unavailable` never ends a session. */
export type RefreshOutcome =
  | { kind: 'refreshed'; session: Session }
  | { kind: 'ended' }
  | { kind: 'unavailable'; retryAfterMs: number };

/** A refresh lease of this process. */
export interface Lease {
  owner: string;
  /** On this process's monotonic clock, milliseconds; Redis's ends no earlier. */
  leasedUntil: number;
}

export const rejected: Refreshed = { kind: 'failed', fault: { kind: 'rejected' } };

/**
 * A 400 whose body is no OAuth error. Some servers refuse a spent refresh token like that; twice for the same token
 * counts as `invalid_grant`.
 */
export function isMalformedRefusal(result: Refreshed): boolean {
  return result.kind === 'failed' && result.fault.kind === 'untrusted' && result.fault.status === 400;
}

/** The request may have reached the server, and its answer said nothing. */
export function isOutcomeUnknown(result: Refreshed): boolean {
  if (result.kind !== 'failed') return false;
  const { fault } = result;
  if (fault.kind === 'untrusted') return true;
  return fault.kind === 'unavailable' && fault.wasSent && !/^status (429|503)$/.test(fault.reason);
}

type CommitResult = Awaited<ReturnType<SealedSessions['commit']>>;

/** The result is in memory only: keep trying while the lease protects it. */
export async function commitUntil(
  deadline: number,
  commit: () => Promise<CommitResult>,
): Promise<CommitResult | 'orphaned'> {
  for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 1000)) {
    try {
      return await commit();
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      if (performance.now() + waitMs > deadline) return 'orphaned';
      await pause(waitMs);
    }
  }
}

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
