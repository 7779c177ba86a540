import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Secret } from '../config/secret.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import type { Fault } from '../oidc/faults.ts';
import { revokeRefreshToken } from '../oidc/logout.ts';
import { type Refreshed, refreshGrant } from '../oidc/refresh.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { SessionChannel } from '../session/events.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import { buildIdentity, type Session } from '../session/session.ts';
import {
  commitUntil,
  createPauses,
  createQueue,
  isMalformedRefusal,
  isOutcomeUnknown,
  type Lease,
  type LeaseLost,
  type RefreshOutcome,
  rejected,
  untilAnswered,
  withinBudget,
} from './refresh-rules.ts';
import {
  buildTokenSet,
  hardEnd,
  parseTokenSet,
  serializeTokenSet,
  type TokenDefaults,
  type TokenSet,
} from './token-set.ts';

export interface CoordinatorLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

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

export interface RefreshCoordinator {
  /** Refreshes the session's token set once, however many ask, in this process and others. */
  refresh(session: Session): Promise<RefreshOutcome>;
  /** Revokes in the background; `drain` waits for it. */
  revoke(refreshToken: Secret): void;
  /** Waits for everything that runs (RF19). */
  drain(): Promise<void>;
}

/** Between two tries with the same refresh token: inside every vendor's reuse window. Milliseconds. */
const secondTryAfterMs = 300;
/** Time to write the result, and for a process that was paused. Milliseconds. */
const commitBudgetMs = 2000;
const pauseMarginMs = 3000;
/**
 * Refreshes at a time in this process. They queue before they take the lease: in the queue of the connections (64, see
 * oidc/call.ts) the time limit of the call would run, end it right after it was sent, and lose the rotation (T119). What
 * is left of the connections is for logins.
 */
const refreshesAtOnce = 48;

/** One refresh token, one user of it at a time, over all replicas. The rules and their reasons: docs/sessions-and-tokens.md. */
export function createRefreshCoordinator(options: CoordinatorOptions): RefreshCoordinator {
  const { frontend, sessions, server, defaults, log, metrics } = options;
  const flights = new Map<string, Promise<RefreshOutcome>>();
  const background = new Set<Promise<unknown>>();
  const inTurn = createQueue(refreshesAtOnce);
  const pauses = createPauses(server.nowMs);

  // A lost lease must not lead to a second use of the token while the first is unresolved: so it outlives two calls
  // of the token endpoint with the key set behind each, the pause between, the commit and a pause of the process (RF7).
  const leaseMs = 4 * server.config.timeout + secondTryAfterMs + commitBudgetMs + pauseMarginMs;

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

  /** Steps 1 and 2: take the lease for this generation, or follow whoever has it. */
  async function fly(session: Session): Promise<RefreshOutcome> {
    const giveUpAt = performance.now() + options.waitMs;
    for (;;) {
      const outcome = await inTurn(() => attempt(session));
      if (outcome.kind === 'lease-lost') continue;
      if (outcome.kind !== 'busy') return outcome;
      if (performance.now() >= giveUpAt) return { kind: 'unavailable', retryAfterMs: 1000 };
      await pause(Math.min(20 + Math.random() * 60, Math.max(outcome.retryAfterMs, 1)));
    }
  }

  async function attempt(
    session: Session,
  ): Promise<RefreshOutcome | LeaseLost | { kind: 'busy'; retryAfterMs: number }> {
    const lease: Lease = { owner: randomUUID(), leasedUntil: performance.now() + leaseMs };
    const answer = await untilAnswered(lease.leasedUntil, () => sessions.acquire(session, lease.owner, leaseMs));
    switch (answer.kind) {
      case 'acquired': {
        const outcome = await hold(answer.session, lease);
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
        return { kind: 'unavailable', retryAfterMs: answer.retryAfterMs };
      case 'busy':
        return { kind: 'busy', retryAfterMs: answer.retryAfterMs };
    }
  }

  /** Step 3: we hold the lease, and `session` was read inside it (RF5). */
  async function hold(session: Session, lease: Lease): Promise<RefreshOutcome | LeaseLost> {
    const tokens = parseTokenSet(session.tokens);
    const { refreshToken } = tokens;
    if (refreshToken === undefined) return endUnlessMoved(session, lease, 'no-refresh-token');

    // A process that slept may wake up after its lease: then another one uses the token, and this one must not (T112).
    if (!protectsCall(lease)) return { kind: 'lease-lost' };
    let result = await refreshGrant(server, refreshToken, session.identity);
    if (isOutcomeUnknown(result)) {
      // The server may have rotated already: one more try with the same token, with fresh credentials.
      await pause(secondTryAfterMs);
      if (protectsCall(lease)) {
        const second = await refreshGrant(server, refreshToken, session.identity);
        result = isMalformedRefusal(result) && isMalformedRefusal(second) ? rejected : second;
      }
    }
    if (result.kind === 'refreshed') {
      pauses.reset();
      if (result.unverified !== undefined)
        log.warn(
          { frontend, reason: result.unverified },
          'a refreshed ID token could not be verified: its claims are not taken over',
        );
      return store(session, lease, tokens, result);
    }
    if (result.kind === 'foreign') {
      log.error(
        { frontend, session: session.handle.slice(0, 12), reason: result.reason, audit: 'refresh_foreign_subject' },
        'a refresh brought tokens that are not this user’s: the session is ended',
      );
      revoke(result.response?.refreshToken ?? refreshToken);
      return endUnlessMoved(session, lease, 'foreign');
    }
    return result.fault.kind === 'rejected'
      ? endUnlessMoved(session, lease, 'rejected')
      : backOff(session, lease, result.fault);
  }

  /** Is there time for one more call with the key set behind it, and for the commit? */
  function protectsCall({ leasedUntil }: Lease): boolean {
    return performance.now() + 2 * server.config.timeout + commitBudgetMs <= leasedUntil;
  }

  /** Step 4: commit by compare-and-set. What lost to a logout is revoked and thrown away (RF8, RF9). */
  async function store(
    session: Session,
    { owner, leasedUntil }: Lease,
    previous: TokenSet,
    { response, claims }: Extract<Refreshed, { kind: 'refreshed' }>,
  ): Promise<RefreshOutcome> {
    const tokenSet = buildTokenSet(response, session.now, defaults, previous);
    const identity =
      claims === undefined
        ? session.identity
        : { ...session.identity, ...buildIdentity(claims, session.identity.issuer) };
    const tokens = serializeTokenSet(tokenSet);
    const endsAt = hardEnd(response, session.now, claims);
    const expiresAt = Math.min(session.expiresAt, endsAt ?? Number.POSITIVE_INFINITY);
    if (expiresAt <= session.now) {
      // The provider says that it is over (SE2): these tokens are used by nobody.
      if (tokenSet.refreshToken !== undefined) revoke(tokenSet.refreshToken);
      return endUnlessMoved(session, { owner, leasedUntil }, 'over');
    }
    const next: Session = { ...session, generation: session.generation + 1, tokens, identity, expiresAt };
    const committed = await commitUntil(leasedUntil, () => sessions.commit(session, owner, tokens, identity, endsAt));
    switch (committed) {
      case 'committed':
        count('refreshed');
        if (!isDeepStrictEqual(identity.claims, session.identity.claims)) {
          options.channel.publish({ kind: 'claims_changed', handle: session.handle });
        }
        return { kind: 'refreshed', session: next };
      case 'orphaned':
        count('orphaned');
        log.error({ frontend, session: session.handle.slice(0, 12) }, 'a refreshed token set could not be stored');
        return { kind: 'refreshed', session: next };
      case 'gone':
        count('lost-to-logout');
        if (tokenSet.refreshToken !== undefined) revoke(tokenSet.refreshToken);
        return { kind: 'ended' };
      case 'stale': {
        count('lost-to-another');
        const newer = await sessions.peek(session.id);
        // Both token sets came from one refresh token: many servers end the whole grant with one of them (RFC 7009
        // §2.1), the winner's too. So ours is revoked only if the session is over.
        if (newer === undefined && tokenSet.refreshToken !== undefined) revoke(tokenSet.refreshToken);
        return newer === undefined ? { kind: 'ended' } : { kind: 'refreshed', session: newer };
      }
    }
  }

  /** `rejected` after a second look: if another replica rotated meanwhile, its result is used and nobody is logged out (RF10). */
  async function endUnlessMoved(session: Session, { leasedUntil }: Lease, outcome: string): Promise<RefreshOutcome> {
    const ended = await untilAnswered(leasedUntil, () =>
      sessions.end(session.handle, 'refresh-rejected', session.generation),
    );
    if (ended.kind === 'moved') {
      const newer = await sessions.peek(session.id);
      if (newer !== undefined) return { kind: 'refreshed', session: newer };
    }
    count(outcome);
    metrics.logouts.inc({ frontend, kind: 'refresh-rejected' });
    log.info(
      { frontend, session: session.handle.slice(0, 12), outcome },
      'session ended: it can’t be refreshed any more',
    );
    return { kind: 'ended' };
  }

  /** Step 5: nothing is decided. Free the lease and keep others from queueing on a dead server (RF11, RF12). */
  async function backOff(session: Session, { owner, leasedUntil }: Lease, fault: Fault): Promise<RefreshOutcome> {
    count(fault.kind);
    const backoffMs = pauses.after(fault);
    const facts = {
      frontend,
      fault: fault.kind,
      ...('code' in fault ? { code: fault.code } : {}),
      ...('reason' in fault ? { reason: fault.reason } : {}),
    };
    if (fault.kind === 'misconfigured')
      log.error(facts, 'the authorization server refuses this client: check its registration. Sessions are kept');
    else log.warn(facts, 'refresh did not succeed; the session is kept');
    await untilAnswered(leasedUntil, () => sessions.fail(session, owner, backoffMs));
    return { kind: 'unavailable', retryAfterMs: backoffMs };
  }

  return {
    async refresh(session) {
      // Nothing to refresh with, and nothing wrong: the session lives as long as its access token does.
      const { refreshToken, expiresAt } = parseTokenSet(session.tokens);
      if (refreshToken === undefined && session.now < expiresAt) return { kind: 'refreshed', session };
      const key = `${session.handle}/${session.generation}`;
      let flight = flights.get(key);
      if (flight === undefined) {
        // Detached: whoever asked may leave, the rotation is finished and stored all the same (RF6).
        flight = track(fly(session).finally(() => flights.delete(key)));
        flights.set(key, flight);
      }
      return withinBudget(flight, options.waitMs);
    },
    revoke,
    async drain() {
      while (background.size > 0) await Promise.allSettled(background);
    },
  };
}
