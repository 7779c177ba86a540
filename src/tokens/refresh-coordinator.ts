import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { refreshLease } from '../config/config.ts';
import type { Secret } from '../crypto/secret.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import { revokeRefreshToken } from '../oidc/logout.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { SessionChannel } from '../session/events.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import type { Session } from '../session/session.ts';
import { createLeasedGrant } from './leased-grant.ts';
import {
  type CoordinatorLog,
  createQueue,
  type Lease,
  type LeaseLost,
  type RefreshOutcome,
  untilAnswered,
  type Want,
  withinBudget,
} from './refresh-rules.ts';
import { type TokenDefaults, tokensOf } from './token-set.ts';

export interface CoordinatorOptions {
  frontend: string;
  sessions: SealedSessions;
  channel: SessionChannel;
  server: AuthorizationServer;
  defaults: TokenDefaults;
  /** How long a request waits for a flight. Milliseconds. */
  waitMs: number;
  log: CoordinatorLog;
  metrics: Metrics;
}

/** A revocation that is not to be at once; but `drain` waits for no delay. */
export interface Later {
  delayMs: number;
  /** Is it not to be any more, when its time has come? */
  unless(): Promise<boolean>;
}

export interface RefreshCoordinator {
  /**
   * Gets the session what is wanted, once, however many ask, in this process and others. A session that somebody else
   * moved on meanwhile comes back as it is: look again whether it has what you want.
   */
  refresh(session: Session, want?: Want): Promise<RefreshOutcome>;
  /** Revokes in the background; `drain` waits for it. A process that is killed revokes nothing. */
  revoke(refreshToken: Secret, later?: Later): void;
  /** Waits for everything that runs (RF19). */
  drain(): Promise<void>;
}

/**
 * Refreshes at a time in this process. They queue before they take the lease: in the queue of the connections (64, see
 * issuer/call.ts) the time limit of the call would run, end it right after it was sent, and lose the rotation (T119). What
 * is left of the connections is for logins.
 */
const refreshesAtOnce = 48;

/** One refresh token, one user of it at a time, over all replicas. The rules and their reasons: docs/sessions-and-tokens.md. */
export function createRefreshCoordinator(options: CoordinatorOptions): RefreshCoordinator {
  const { frontend, sessions, server, log, metrics } = options;
  const flights = new Map<string, Promise<RefreshOutcome>>();
  const background = new Set<Promise<unknown>>();
  const inTurn = createQueue(refreshesAtOnce);

  const { leaseMs } = refreshLease(server.config);

  const count = (outcome: string) => metrics.refreshes.inc({ frontend, outcome });
  const track = <T>(work: Promise<T>): Promise<T> => {
    background.add(work);
    const done = () => background.delete(work);
    work.then(done, done);
    return work;
  };
  const revoke = (refreshToken: Secret) => {
    void track(
      revokeRefreshToken(server, refreshToken).then((revoked) => {
        metrics.revocations.inc({ frontend, outcome: revoked.kind });
        if (revoked.kind === 'failed')
          log.warn({ frontend, fault: revoked.fault.kind }, 'refresh token was not revoked');
      }),
    );
  };

  const delayed = new Set<() => void>();
  const revokeLater = (refreshToken: Secret, { delayMs, unless }: Later) => {
    const run = () => {
      clearTimeout(timer);
      delayed.delete(run);
      const isKept = unless().catch(() => false);
      void track(
        isKept.then((kept) => (kept ? metrics.revocations.inc({ frontend, outcome: 'kept' }) : revoke(refreshToken))),
      );
    };
    const timer = setTimeout(run, delayMs).unref();
    delayed.add(run);
  };

  const runGrant = createLeasedGrant({ ...options, revoke });

  /** Steps 1 and 2: take the lease for this generation, or follow whoever has it. */
  async function fly(session: Session, want: Want): Promise<RefreshOutcome> {
    const giveUpAt = performance.now() + options.waitMs;
    for (;;) {
      const outcome = await inTurn(() => attempt(session, want));
      if (outcome.kind === 'lease-lost') continue;
      if (outcome.kind !== 'busy') return outcome;
      if (performance.now() >= giveUpAt) return { kind: 'unavailable', retryAfterMs: 1000 };
      await pause(Math.min(20 + Math.random() * 60, Math.max(outcome.retryAfterMs, 1)));
    }
  }

  async function attempt(
    session: Session,
    want: Want,
  ): Promise<RefreshOutcome | LeaseLost | { kind: 'busy'; retryAfterMs: number }> {
    const lease: Lease = { owner: randomUUID(), leasedUntil: performance.now() + leaseMs };
    const answer = await untilAnswered(lease.leasedUntil, () => sessions.acquire(session, lease.owner, leaseMs));
    switch (answer.kind) {
      case 'acquired': {
        const outcome = await runGrant(answer.session, lease, want);
        // What is left of it would only keep others waiting.
        if (outcome.kind === 'lease-lost')
          await untilAnswered(lease.leasedUntil, () => sessions.fail(session, lease.owner, 0));
        return outcome;
      }
      case 'newer':
        count('by-another');
        return { kind: 'refreshed', session: answer.session };
      case 'gone':
        return { kind: 'ended' };
      case 'backoff':
        return { kind: 'unavailable', retryAfterMs: answer.retryAfterMs, loginHelps: answer.isRefused };
      case 'busy':
        return { kind: 'busy', retryAfterMs: answer.retryAfterMs };
    }
  }

  return {
    async refresh(session, want = {}) {
      // Nothing to refresh with, and nothing wrong: the session lives as long as its access token does.
      const { refreshToken, expiresAt } = tokensOf(session);
      if (want.grant === undefined && refreshToken === undefined && session.now < expiresAt)
        return { kind: 'refreshed', session };
      const key = `${session.handle}/${session.generation}/${want.grant?.key ?? ''}`;
      let flight = flights.get(key);
      if (flight === undefined) {
        // Detached: whoever asked may leave, the rotation is finished and stored all the same (RF6).
        flight = track(fly(session, want).finally(() => flights.delete(key)));
        flights.set(key, flight);
      }
      return withinBudget(flight, options.waitMs);
    },
    revoke: (refreshToken, later) => (later === undefined ? revoke(refreshToken) : revokeLater(refreshToken, later)),
    async drain() {
      for (const run of delayed) run();
      while (background.size > 0) await Promise.allSettled(background);
    },
  };
}
