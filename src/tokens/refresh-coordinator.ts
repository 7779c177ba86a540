import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Secret } from '../config/secret.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import type { Fault } from '../oidc/faults.ts';
import { revokeRefreshToken } from '../oidc/logout.ts';
import { type Refreshed, refreshGrant } from '../oidc/refresh.ts';
import type { Metrics } from '../ops/metrics.ts';
import { StoreUnavailableError } from '../redis/client.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import { buildIdentity, type Session } from '../session/session.ts';
import { buildTokenSet, parseTokenSet, serializeTokenSet, type TokenDefaults, type TokenSet } from './token-set.ts';

/** What a refresh came to. `unavailable` never ends a session. */
export type RefreshOutcome =
  | { kind: 'refreshed'; session: Session }
  | { kind: 'ended' }
  | { kind: 'unavailable'; retryAfterMs: number };

export interface CoordinatorLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface CoordinatorOptions {
  frontend: string;
  sessions: SealedSessions;
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
const misconfiguredBackoffMs = 30_000;
const longestBackoffMs = 30_000;

/** One refresh token, one user of it at a time, over all replicas. The rules and their reasons: docs/sessions-and-tokens.md. */
export function createRefreshCoordinator(options: CoordinatorOptions): RefreshCoordinator {
  const { frontend, sessions, server, defaults, log, metrics } = options;
  const flights = new Map<string, Promise<RefreshOutcome>>();
  const background = new Set<Promise<unknown>>();
  let failuresInARow = 0;

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
    const owner = randomUUID();
    const giveUpAt = performance.now() + options.waitMs;
    for (;;) {
      const answer = await sessions.acquire(session, owner, leaseMs);
      switch (answer.kind) {
        case 'acquired':
          return hold(answer.session, owner);
        case 'newer':
          count('by-another');
          return { kind: 'refreshed', session: answer.session };
        case 'gone':
          return { kind: 'ended' };
        case 'backoff':
          return { kind: 'unavailable', retryAfterMs: answer.retryAfterMs };
        case 'busy':
          if (performance.now() >= giveUpAt) return { kind: 'unavailable', retryAfterMs: 1000 };
          await pause(Math.min(20 + Math.random() * 60, Math.max(answer.retryAfterMs, 1)));
      }
    }
  }

  /** Step 3: we hold the lease, and `session` was read inside it (RF5). */
  async function hold(session: Session, owner: string): Promise<RefreshOutcome> {
    const startedAt = performance.now();
    const tokens = parseTokenSet(session.tokens);
    if (tokens.refreshToken === undefined) return endUnlessMoved(session, 'no-refresh-token');

    let result = await grant(tokens.refreshToken, session);
    if (isOutcomeUnknown(result)) {
      // The server may have rotated already: one more try with the same token, with fresh credentials.
      await pause(secondTryAfterMs);
      result = await grant(tokens.refreshToken, session);
    }
    if (result.kind === 'refreshed') {
      failuresInARow = 0;
      if (result.unverified !== undefined)
        log.warn(
          { frontend, reason: result.unverified },
          'a refreshed ID token could not be verified: its claims are not taken over',
        );
      return store(session, owner, tokens, result, startedAt);
    }
    if (result.kind === 'foreign') {
      log.error(
        { frontend, session: session.handle.slice(0, 12), reason: result.reason, audit: 'refresh_foreign_subject' },
        'a refresh brought tokens that are not this user’s: the session is ended',
      );
      revoke(result.response?.refreshToken ?? tokens.refreshToken);
      return endUnlessMoved(session, 'foreign');
    }
    return result.fault.kind === 'rejected'
      ? endUnlessMoved(session, 'rejected')
      : backOff(session, owner, result.fault);
  }

  function grant(refreshToken: Secret, { identity }: Session): Promise<Refreshed> {
    return refreshGrant(server, refreshToken, identity);
  }

  /** Step 4: commit by compare-and-set. What lost to a logout is revoked and thrown away (RF8, RF9). */
  async function store(
    session: Session,
    owner: string,
    previous: TokenSet,
    { response, claims }: Extract<Refreshed, { kind: 'refreshed' }>,
    startedAt: number,
  ): Promise<RefreshOutcome> {
    const tokenSet = buildTokenSet(response, session.now, defaults, previous);
    const identity =
      claims === undefined
        ? session.identity
        : { ...session.identity, ...buildIdentity(claims, session.identity.issuer) };
    const tokens = serializeTokenSet(tokenSet);
    const next: Session = { ...session, generation: session.generation + 1, tokens, identity };
    const committed = await commitUntil(startedAt + leaseMs, () => sessions.commit(session, owner, tokens, identity));
    switch (committed) {
      case 'committed':
        count('refreshed');
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
        const kept = newer && parseTokenSet(newer.tokens).refreshToken;
        if (tokenSet.refreshToken !== undefined && kept?.reveal() !== tokenSet.refreshToken.reveal())
          revoke(tokenSet.refreshToken);
        return newer === undefined ? { kind: 'ended' } : { kind: 'refreshed', session: newer };
      }
    }
  }

  /** `rejected` after a second look: if another replica rotated meanwhile, its result is used and nobody is logged out (RF10). */
  async function endUnlessMoved(session: Session, outcome: string): Promise<RefreshOutcome> {
    const ended = await sessions.end(session.handle, session.generation);
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
  async function backOff(session: Session, owner: string, fault: Fault): Promise<RefreshOutcome> {
    count(fault.kind);
    const backoffMs = backoffFor(fault);
    const facts = {
      frontend,
      fault: fault.kind,
      ...('code' in fault ? { code: fault.code } : {}),
      ...('reason' in fault ? { reason: fault.reason } : {}),
    };
    if (fault.kind === 'misconfigured')
      log.error(facts, 'the authorization server refuses this client: check its registration. Sessions are kept');
    else log.warn(facts, 'refresh did not succeed; the session is kept');
    await sessions.fail(session, owner, backoffMs);
    return { kind: 'unavailable', retryAfterMs: backoffMs };
  }

  function backoffFor(fault: Fault): number {
    if (fault.kind === 'misconfigured') return misconfiguredBackoffMs;
    if (fault.kind === 'unavailable' && fault.retryAfterSeconds !== undefined) return fault.retryAfterSeconds * 1000;
    const base = fault.kind === 'unavailable' && !fault.wasSent ? 1000 : 2000;
    return Math.min(base * 2 ** Math.min(failuresInARow++, 5), longestBackoffMs) + Math.random() * 250;
  }

  return {
    async refresh(session) {
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

/** The request may have reached the server, and its answer said nothing. */
function isOutcomeUnknown(result: Refreshed): boolean {
  if (result.kind !== 'failed') return false;
  const { fault } = result;
  if (fault.kind === 'untrusted') return true;
  return fault.kind === 'unavailable' && fault.wasSent && !/^status (429|503)$/.test(fault.reason);
}

type CommitResult = Awaited<ReturnType<SealedSessions['commit']>>;

/** The result is in memory only: keep trying while the lease protects it. */
async function commitUntil(deadline: number, commit: () => Promise<CommitResult>): Promise<CommitResult | 'orphaned'> {
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

async function withinBudget(flight: Promise<RefreshOutcome>, waitMs: number): Promise<RefreshOutcome> {
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
