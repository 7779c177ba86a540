import type { Secret } from '../config/secret.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { Session } from '../session/session.ts';
import type { RefreshCoordinator } from './refresh-coordinator.ts';
import { parseTokenSet, tokenState } from './token-set.ts';

/** The answer of the only way to a token. */
export type AccessToken =
  | { kind: 'token'; accessToken: Secret; scope: string; session: Session }
  /** The session has ended, or has nothing left to refresh with: 401. */
  | { kind: 'ended' }
  /** Nothing is decided: 503, never 401. */
  | { kind: 'unavailable'; retryAfterMs: number };

export interface AccessTokenSource {
  /** An access token of this session that is alive now. */
  get(session: Session): Promise<AccessToken>;
}

export interface AccessTokenOptions {
  frontend: string;
  coordinator: RefreshCoordinator;
  /** Seconds. */
  refreshAhead: number;
  log: { warn(facts: object, message: string): void };
  metrics: Metrics;
}

export function createAccessTokenSource({
  frontend,
  coordinator,
  refreshAhead,
  log,
  metrics,
}: AccessTokenOptions): AccessTokenSource {
  const count = (outcome: string) => metrics.accessTokens.inc({ frontend, outcome });
  const tokenOf = (session: Session): AccessToken => {
    const { accessToken, scope } = parseTokenSet(session.tokens);
    return { kind: 'token', accessToken, scope, session };
  };

  return {
    async get(session) {
      const tokens = parseTokenSet(session.tokens);
      const state = tokenState(tokens, session.now, refreshAhead);
      count(state);
      switch (state) {
        case 'fresh':
          return tokenOf(session);
        case 'ageing':
          // The caller does not wait while the old token is alive. Without a refresh token there is nothing to do yet.
          if (tokens.refreshToken !== undefined) {
            coordinator.refresh(session).catch(() => log.warn({ frontend }, 'a refresh ahead of time did not start'));
          }
          return tokenOf(session);
        case 'expired': {
          const outcome = await coordinator.refresh(session);
          if (outcome.kind !== 'refreshed') return outcome;
          // Another replica's result may be old by now. Generations only grow, so this comes to an end.
          const { session: newer } = outcome;
          const isExpired = tokenState(parseTokenSet(newer.tokens), newer.now, refreshAhead) === 'expired';
          return isExpired ? this.get(newer) : tokenOf(newer);
        }
      }
    },
  };
}
