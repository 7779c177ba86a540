import { isDeepStrictEqual } from 'node:util';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, isRefusedByServer, type Said } from '../issuer/faults.ts';
import { tellFault } from '../issuer/mistakes.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import { signingAlgorithmOf } from '../oidc/id-token.ts';
import type { Refreshed } from '../oidc/refresh.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { SessionChannel } from '../session/events.ts';
import type { SealedSessions } from '../session/sealed-sessions.ts';
import { refreshIdentity, type Session } from '../session/session.ts';
import { type ApiGrant, targetOf } from './grant.ts';
import {
  type CoordinatorLog,
  commitUntil,
  createPauses,
  type Lease,
  type RefreshOutcome,
  untilAnswered,
  type Want,
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

export interface SettlementOptions {
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

/** What a grant comes to: each way frees the lease, and says what the session's users are told. */
export interface Settlement {
  /** Commits what it brought, by compare-and-set. What lost to a logout is revoked and thrown away (RF8, RF9). */
  store(
    session: Session,
    lease: Lease,
    want: Want,
    brought: Omit<Extract<Refreshed, { kind: 'refreshed' }>, 'kind'>,
  ): Promise<RefreshOutcome>;
  /** No token for this API, for a while; the session and its other tokens are not touched. */
  refuse(session: Session, lease: Lease, grant: ApiGrant, code: string, said?: Said): Promise<RefreshOutcome>;
  /**
   * The refresh token is spent and nothing came for it: the session lasts as long as its access token, and then somebody
   * logs in again. The token is forgotten at once, so that no replica sends it a second time (W22).
   */
  keepUntilEnd(session: Session, lease: Lease, fault: Fault): Promise<RefreshOutcome>;
  /** Ends the session, but if another replica rotated meanwhile its result is used and nobody is logged out (RF10). */
  endUnlessMoved(session: Session, lease: Lease, outcome: string, said?: Said): Promise<RefreshOutcome>;
  /**
   * Nothing is decided: frees the lease and keeps others from queueing on a dead server (RF11, RF12). `loginHelps`: a
   * server that refuses this refresh token would take a new login (W24).
   */
  backOff(session: Session, lease: Lease, fault: Fault, loginHelps: boolean): Promise<RefreshOutcome>;
}

/** How long a refusal of one API's token stands. Seconds. */
const refusalSeconds = 15;

export function createSettlement(options: SettlementOptions): Settlement {
  const { frontend, sessions, server, defaults, log, metrics, revoke } = options;
  const pauses = createPauses(server.nowMs);
  const count = (outcome: string) => metrics.refreshes.inc({ frontend, outcome });
  const named = ({ handle }: Session) => ({ frontend, session: handle.slice(0, 12) });

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
    outcome: 'refreshed' | 'granted' | 'refused' | 'spent',
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
        log.error(named(session), 'a refreshed token set could not be stored');
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

  async function endUnlessMoved(
    session: Session,
    { leasedUntil }: Lease,
    outcome: string,
    said?: Said,
  ): Promise<RefreshOutcome> {
    const ended = await untilAnswered(leasedUntil, () =>
      sessions.end(session.handle, 'refresh-rejected', session.generation),
    );
    if (ended.kind === 'moved') {
      const newer = await sessions.peek(session.id);
      if (newer !== undefined) return { kind: 'refreshed', session: newer };
    }
    count(outcome);
    metrics.logouts.inc({ frontend, kind: 'refresh-rejected' });
    log.info({ ...named(session), outcome, said }, 'session ended: it can’t be refreshed any more');
    return { kind: 'ended' };
  }

  return {
    async store(session, lease, want, brought) {
      pauses.reset();
      const { response, claims, withoutUserInfo } = brought;
      const tokenSet = nextTokens(tokensOf(session), want, response, session.now);
      const known = claims === undefined ? session.identity : noteAlgorithm(session.identity, response.idToken);
      const { identity, differs } = refreshIdentity(known, brought);
      if (withoutUserInfo !== undefined) {
        log.warn(
          { ...named(session), ...tellFault(withoutUserInfo) },
          'UserInfo could not be had: what it said before stays',
        );
      }
      if (differs.length > 0)
        log.warn(
          { ...named(session), claims: differs },
          'a refreshed ID token tells of another authentication than the login’s (Core §12.2): the session gets no stronger by it',
        );
      // Keycloak does so after an exchange that asked for less (keycloak#38990). Nobody else would notice.
      if (response.idToken === undefined && isOpenId(tokensOf(session)) && !isOpenId(tokenSet))
        log.warn(
          named(session),
          'a refresh has lost the scope openid, and the ID token with it: roles and other claims stay as they are until the next login. If an API has its tokens by exchange, put openid among its scopes',
        );
      const endsAt = hardEnd(response, session.now, claims);
      if (endsAt !== undefined && Math.min(session.expiresAt, endsAt) <= session.now) {
        // The provider says that it is over (SE2): these tokens are used by nobody.
        if (tokenSet.refreshToken !== undefined) revoke(tokenSet.refreshToken);
        return endUnlessMoved(session, lease, 'over');
      }
      return commit(session, lease, tokenSet, identity, want.grant === undefined ? 'refreshed' : 'granted', endsAt);
    },
    async refuse(session, lease, grant, code, said) {
      log.warn(
        { frontend, code, said, ...targetOf(grant) },
        'the authorization server gives no token for this API: check resource, audience, scopes and the client’s rights',
      );
      const refused = { refusedUntil: session.now + refusalSeconds };
      const tokenSet = addApiToken(tokensOf(session), grant.key, refused, session.now);
      return commit(session, lease, tokenSet, session.identity, 'refused');
    },
    async keepUntilEnd(session, lease, fault) {
      log.error(
        { ...named(session), fault },
        'the authorization server answered a refresh with 200 and nothing that can be used: the session ends with its access token',
      );
      const { refreshToken: _spent, ...kept } = tokensOf(session);
      const outcome = await commit(session, lease, kept, session.identity, 'spent');
      return outcome.kind === 'refreshed' ? { ...outcome, missed: 'everything' } : outcome;
    },
    endUnlessMoved,
    async backOff(session, { owner, leasedUntil }, fault, loginHelps) {
      count(fault.kind);
      const backoffMs = pauses.after(fault);
      const facts = { ...named(session), fault };
      if (fault.kind === 'misconfigured')
        log.error(
          facts,
          'the authorization server refuses to refresh: its registration of this client is wrong, or it refuses dead tokens like that. Sessions are kept',
        );
      else log.warn(facts, 'refresh did not succeed; the session is kept');
      const isRefused = loginHelps && isRefusedByServer(fault);
      await untilAnswered(leasedUntil, () => sessions.fail(session, owner, backoffMs, isRefused));
      return { kind: 'unavailable', retryAfterMs: backoffMs, loginHelps: isRefused };
    },
  };
}

/** A logout token may have any algorithm that this session's ID tokens had, the first and the latest (W48). */
function noteAlgorithm(identity: Session['identity'], idToken: Secret | undefined): Session['identity'] {
  if (idToken === undefined) return identity;
  const { idTokenAlgorithms = [] } = identity;
  return { ...identity, idTokenAlgorithms: [...new Set([...idTokenAlgorithms, signingAlgorithmOf(idToken)])] };
}

function isOpenId({ scope }: TokenSet): boolean {
  return scope.split(' ').includes('openid');
}
