import type { Api } from '../config/config.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import { longestHeaderToken } from '../oidc/token-response.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { Session } from '../session/session.ts';
import { type ApplicationTokens, createApplicationTokens } from './application-tokens.ts';
import { type ApiGrant, grantOf } from './grant.ts';
import type { RefreshCoordinator } from './refresh-coordinator.ts';
import type { RefreshOutcome, Want } from './refresh-rules.ts';
import {
  type AccessToken,
  type AttachedToken,
  type IssuedToken,
  type RefusedToken,
  type TokenDefaults,
  tokenState,
  tokensOf,
} from './token-set.ts';

export interface AccessTokenSource {
  /** The token for this API if it is there and nothing has to be done about it; most calls are answered so. */
  atHand(session: Session, api: Api): AttachedToken | undefined;
  /** A token for this API that is alive now. */
  get(session: Session, api: Api): Promise<AccessToken>;
  /** The application's own token for this API: nobody's session is in it. */
  ofApplication(api: Api): Promise<AccessToken>;
  /** Can another token be had instead of this one, which the API refused? Once for each that was obtained normally (PO6). */
  canReplace(session: Session | undefined, api: Api, refused: AttachedToken): boolean;
  /** Gets the other one. */
  replace(session: Session | undefined, api: Api, refused: AttachedToken): Promise<AccessToken>;
  /** Scopes of the login. */
  scopeOf(session: Session): string;
}

export interface AccessTokenOptions {
  frontend: string;
  server: AuthorizationServer;
  coordinator: RefreshCoordinator;
  defaults: TokenDefaults;
  /** Seconds. */
  refreshAhead: number;
  log: { warn(facts: object, message: string): void };
  metrics: Metrics;
}

/** The generations that others may move a session on by while one call waits: more than APIs that share it at a time. */
const mostRounds = 100;

export function createAccessTokenSource(options: AccessTokenOptions): AccessTokenSource {
  const { frontend, coordinator, refreshAhead, log, metrics } = options;
  const application: ApplicationTokens = createApplicationTokens(options);
  const count = {
    fresh: metrics.accessTokens({ frontend, outcome: 'fresh' }),
    ageing: metrics.accessTokens({ frontend, outcome: 'ageing' }),
    expired: metrics.accessTokens({ frontend, outcome: 'expired' }),
  };

  const answer = (session: Session, api: Api, entry: IssuedToken): AccessToken => {
    const { idToken } = api.idTokenHeader === undefined ? {} : tokensOf(session);
    if (idToken !== undefined && idToken.reveal().length > longestHeaderToken) {
      log.warn({ frontend, api: api.name }, 'the ID token is too long for idTokenHeader: ask for fewer claims in it');
      return { kind: 'refused' };
    }
    return { kind: 'token', token: idToken === undefined ? entry : { ...entry, idToken }, session };
  };

  /** A live token of this kind, and the session that has it. */
  async function find(
    start: Session,
    grant: ApiGrant | undefined,
  ): Promise<{ session: Session; entry: IssuedToken } | Exclude<AccessToken, { kind: 'token' }>> {
    let session = start;
    let isSecondTry = false;
    for (let round = 0; round < mostRounds; round++) {
      const entry = entryOf(session, grant);
      if (entry !== undefined && 'refusedUntil' in entry) {
        if (entry.refusedUntil > session.now) return { kind: 'refused' };
      }
      const state =
        entry === undefined || 'refusedUntil' in entry ? 'expired' : tokenState(entry, session.now, refreshAhead);
      if (round === 0) count[state]();
      if (state !== 'expired' && entry !== undefined && !('refusedUntil' in entry)) {
        if (state === 'ageing') renewAhead(session, grant);
        return { session, entry };
      }
      const outcome = await renew(session, { ...wantOf(grant), isSecondTry });
      if (outcome.kind !== 'refreshed') return outcome;
      // Another replica's result may be old by now, or be for another API. Generations only grow, so this comes to an end.
      session = outcome.session;
      isSecondTry = outcome.missed === 'grant';
    }
    return { kind: 'unavailable', retryAfterMs: 1000 };
  }

  /**
   * What is exchanged must be alive itself, ahead of time too: an exchanged token may live longer than the login's, and
   * a server that refuses the dead one (Keycloak) would cost this API its token for a while.
   */
  async function renew(
    session: Session,
    want: Want,
  ): Promise<RefreshOutcome | Exclude<AccessToken, { kind: 'token' }>> {
    if (want.grant?.exchange === undefined) return coordinator.refresh(session, want);
    const subject = await find(session, undefined);
    return 'kind' in subject ? subject : coordinator.refresh(subject.session, want);
  }

  /** The caller does not wait while the old token is alive. */
  function renewAhead(session: Session, grant: ApiGrant | undefined): void {
    // Without a refresh token there is nothing to do yet. A subject token that ages is renewed when it is needed.
    if (tokensOf(session).refreshToken === undefined && grant?.exchange === undefined) return;
    renew(session, wantOf(grant)).catch(() => log.warn({ frontend }, 'a refresh ahead of time did not start'));
  }

  return {
    atHand(session, api) {
      if (api.token === 'client' || api.idTokenHeader !== undefined) return undefined;
      const entry = entryOf(session, grantOf(api));
      if (entry === undefined || 'refusedUntil' in entry) return undefined;
      if (tokenState(entry, session.now, refreshAhead) !== 'fresh') return undefined;
      count.fresh();
      return entry;
    },
    async get(session, api) {
      if (api.token === 'client') {
        const token = await application.get(grantOf(api));
        return token.kind === 'token' ? { ...token, session } : token;
      }
      const found = await find(session, grantOf(api));
      return 'kind' in found ? found : answer(found.session, api, found.entry);
    },
    ofApplication: (api) => application.get(grantOf(api)),
    canReplace(session, api, refused) {
      if (refused.isReplacement === true) return false;
      if (session === undefined || api.token === 'client') return true;
      return grantOf(api)?.exchange !== undefined || tokensOf(session).refreshToken !== undefined;
    },
    async replace(session, api, refused) {
      const grant = grantOf(api);
      if (session === undefined || api.token === 'client') {
        const token = await application.replace(grant, refused);
        return token.kind === 'token' && session !== undefined ? { ...token, session } : token;
      }
      const outcome = await renew(session, { ...wantOf(grant), reason: 'refused' });
      return outcome.kind === 'refreshed' ? this.get(outcome.session, api) : outcome;
    },
    scopeOf: (session) => tokensOf(session).scope,
  };
}

function entryOf(session: Session, grant: ApiGrant | undefined): IssuedToken | RefusedToken | undefined {
  const tokens = tokensOf(session);
  return grant === undefined ? tokens : tokens.apiTokens[grant.key];
}

function wantOf(grant: ApiGrant | undefined): Want {
  return grant === undefined ? {} : { grant };
}
