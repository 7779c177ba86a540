import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Secret } from '../crypto/secret.ts';
import type { Fault } from '../issuer/faults.ts';
import { exchangeGrant, type Granted, isRefusal } from '../oidc/api-grants.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import { type Refreshed, refreshGrant } from '../oidc/refresh.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { SessionChannel } from '../session/events.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import { buildIdentity, type Session } from '../session/session.ts';
import type { ApiGrant } from './grant.ts';
import {
  type CoordinatorLog,
  commitBudgetMs,
  commitUntil,
  createPauses,
  isMalformedRefusal,
  isOutcomeUnknown,
  type Lease,
  type LeaseLost,
  type RefreshOutcome,
  rejected,
  secondTryAfterMs,
  untilAnswered,
} from './refresh-rules.ts';
import {
  addApiToken,
  buildTokenSet,
  hardEnd,
  issuedToken,
  serializeTokenSet,
  type TokenDefaults,
  type TokenSet,
  tokensOf,
} from './token-set.ts';

/** What a flight is for. */
export interface Want {
  /** A token for one API; absent: the login's own token set. */
  grant?: ApiGrant;
  /** `refused`: an API did not take the token that is there. `asked`: somebody wants everything new. */
  reason?: 'refused' | 'asked';
}

export interface LeasedGrantOptions {
  frontend: string;
  sessions: SealedSessions;
  channel: SessionChannel;
  server: AuthorizationServer;
  defaults: TokenDefaults;
  log: CoordinatorLog;
  metrics: Metrics;
  /** Revokes in the background. */
  revoke: (refreshToken: Secret) => void;
}

export type RunGrant = (session: Session, lease: Lease, want: Want) => Promise<RefreshOutcome | LeaseLost>;

/** How long a refusal of one API's token stands. Seconds. */
const refusalSeconds = 15;

/**
 * What the holder of a session's lease does: one grant, and the commit of what it brought. `session` was read inside
 * the lease (RF5). The rules and their reasons: docs/sessions-and-tokens.md.
 */
export function createLeasedGrant(options: LeasedGrantOptions): RunGrant {
  const { frontend, sessions, server, defaults, log, metrics, revoke } = options;
  const pauses = createPauses(server.nowMs);
  const count = (outcome: string) => metrics.refreshes.inc({ frontend, outcome });

  /** Is there time for one more call with the key set behind it, and for the commit? */
  const protectsCall = ({ leasedUntil }: Lease) =>
    performance.now() + 2 * server.config.timeout + commitBudgetMs <= leasedUntil;

  async function refresh(session: Session, lease: Lease, want: Want): Promise<RefreshOutcome | LeaseLost> {
    const tokens = tokensOf(session);
    const { refreshToken } = tokens;
    const { grant } = want;
    // Without a refresh token nothing but the login's own token can be had: the session is fine, this API is not.
    if (refreshToken === undefined)
      return grant === undefined
        ? endUnlessMoved(session, lease, 'no-refresh-token')
        : refuse(session, lease, grant, 'no-refresh-token');

    // A process that slept may wake up after its lease: then another one uses the token, and this one must not (T112).
    if (!protectsCall(lease)) return { kind: 'lease-lost' };
    let result = await refreshGrant(server, refreshToken, session.identity, targetOf(grant));
    if (isOutcomeUnknown(result)) {
      // The server may have rotated already: one more try with the same token, with fresh credentials.
      await pause(secondTryAfterMs);
      if (protectsCall(lease)) {
        const second = await refreshGrant(server, refreshToken, session.identity, targetOf(grant));
        result = isMalformedRefusal(result) && isMalformedRefusal(second) ? rejected : second;
      }
    }
    if (grant !== undefined && result.kind === 'failed' && isRefusal(result.fault)) {
      const { fault } = result;
      if (fault.kind === 'misconfigured') return refuse(session, lease, grant, fault.code);
      // Is it the refresh token, or only this resource? Some servers say `invalid_grant` for both: ask for no resource.
      if (!protectsCall(lease)) return { kind: 'lease-lost' };
      const plain = await refreshGrant(server, refreshToken, session.identity);
      if (plain.kind === 'refreshed') return store(session, lease, {}, plain);
      result = plain;
    }
    if (result.kind === 'refreshed') {
      pauses.reset();
      if (result.unverified !== undefined)
        log.warn(
          { frontend, reason: result.unverified },
          'a refreshed ID token could not be verified: its claims are not taken over',
        );
      return store(session, lease, want, result);
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

  /** The subject token was alive when the flight began; the refresh token is not used. */
  async function exchange(
    session: Session,
    lease: Lease,
    grant: ApiGrant,
    how: NonNullable<ApiGrant['exchange']>,
    want: Want,
  ): Promise<RefreshOutcome> {
    const tokens = tokensOf(session);
    const subject = how.subjectToken === 'id_token' ? tokens.idToken : tokens.accessToken;
    if (subject === undefined) return refuse(session, lease, grant, 'no-id-token');
    const result: Granted = await exchangeGrant(server, subject, targetOf(grant) ?? {}, how);
    if (result.kind === 'granted') {
      pauses.reset();
      const { refreshToken: _unused, idToken: _other, ...response } = result.response;
      return store(session, lease, want, { response });
    }
    const { fault } = result;
    // Never the wider token instead (DT4): this API gets none for now.
    if (!isRefusal(fault)) return backOff(session, lease, fault);
    return refuse(session, lease, grant, fault.kind === 'misconfigured' ? fault.code : fault.kind);
  }

  /** Step 4: commit by compare-and-set. What lost to a logout is revoked and thrown away (RF8, RF9). */
  async function store(
    session: Session,
    lease: Lease,
    want: Want,
    { response, claims }: Pick<Extract<Refreshed, { kind: 'refreshed' }>, 'response' | 'claims'>,
  ): Promise<RefreshOutcome> {
    const tokenSet = nextTokens(tokensOf(session), want, response, session.now);
    const identity =
      claims === undefined
        ? session.identity
        : { ...session.identity, ...buildIdentity(claims, session.identity.issuer) };
    const endsAt = hardEnd(response, session.now, claims);
    if (endsAt !== undefined && Math.min(session.expiresAt, endsAt) <= session.now) {
      // The provider says that it is over (SE2): these tokens are used by nobody.
      if (tokenSet.refreshToken !== undefined) revoke(tokenSet.refreshToken);
      return endUnlessMoved(session, lease, 'over');
    }
    return commit(session, lease, tokenSet, identity, want.grant === undefined ? 'refreshed' : 'granted', endsAt);
  }

  function nextTokens(
    previous: TokenSet,
    { grant, reason }: Want,
    response: Parameters<typeof buildTokenSet>[0],
    now: number,
  ): TokenSet {
    const replaced = reason === 'refused' ? { isReplacement: true as const } : {};
    if (grant === undefined) {
      const known = reason === 'asked' ? { ...previous, apiTokens: {} } : previous;
      return { ...buildTokenSet(response, now, defaults, known), ...replaced };
    }
    const entry = issuedToken(response, now, defaults, grant.scope ?? previous.scope);
    return addApiToken(previous, grant.key, { ...entry, ...replaced }, now, response);
  }

  async function commit(
    session: Session,
    { owner, leasedUntil }: Lease,
    tokenSet: TokenSet,
    identity: Session['identity'],
    outcome: 'refreshed' | 'granted' | 'refused',
    endsAt?: number,
  ): Promise<RefreshOutcome> {
    const tokens = serializeTokenSet(tokenSet);
    const expiresAt = Math.min(session.expiresAt, endsAt ?? Number.POSITIVE_INFINITY);
    const next: Session = { ...session, generation: session.generation + 1, tokens, identity, expiresAt };
    // A refusal brought nothing that could get lost.
    const hasNewRefreshToken = tokenSet.refreshToken?.reveal() !== tokensOf(session).refreshToken?.reveal();
    const committed = await commitUntil(leasedUntil, () => sessions.commit(session, owner, tokens, identity, endsAt));
    switch (committed) {
      case 'committed':
        count(outcome);
        if (!isDeepStrictEqual(identity.claims, session.identity.claims)) {
          void options.channel.publish({ kind: 'claims_changed', handle: session.handle });
        }
        return { kind: 'refreshed', session: next };
      case 'orphaned':
        count('orphaned');
        log.error({ frontend, session: session.handle.slice(0, 12) }, 'a refreshed token set could not be stored');
        return { kind: 'refreshed', session: next };
      case 'gone':
        count('lost-to-logout');
        if (tokenSet.refreshToken !== undefined && (hasNewRefreshToken || outcome === 'refreshed'))
          revoke(tokenSet.refreshToken);
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

  /** No token for this API, for a while; the session and its other tokens are not touched. */
  async function refuse(session: Session, lease: Lease, grant: ApiGrant, code: string): Promise<RefreshOutcome> {
    log.warn(
      { frontend, code, ...targetOf(grant) },
      'the authorization server gives no token for this API: check resource, audience, scopes and the client’s rights',
    );
    const refused = { refusedUntil: session.now + refusalSeconds };
    const tokenSet = addApiToken(tokensOf(session), grant.key, refused, session.now);
    return commit(session, lease, tokenSet, session.identity, 'refused');
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

  return (session, lease, want) => {
    const { grant } = want;
    return grant?.exchange === undefined
      ? refresh(session, lease, want)
      : exchange(session, lease, grant, grant.exchange, want);
  };
}

function targetOf(grant: ApiGrant | undefined) {
  if (grant === undefined) return undefined;
  const { resource, audience, scope } = grant;
  return {
    ...(resource === undefined ? {} : { resource }),
    ...(audience === undefined ? {} : { audience }),
    ...(scope === undefined ? {} : { scope }),
  };
}
