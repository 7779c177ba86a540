import { clientCredentialsGrant, isRefusal } from '../oidc/api-grants.ts';
import type { AuthorizationServer } from '../oidc/authorization-server.ts';
import type { Metrics } from '../ops/metrics.ts';
import { type ApiGrant, targetOf } from './grant.ts';
import { createPauses } from './refresh-rules.ts';
import {
  type AccessToken,
  type AttachedToken,
  type IssuedToken,
  issuedToken,
  type TokenDefaults,
  tokenState,
} from './token-set.ts';

export interface ApplicationTokens {
  get(grant: ApiGrant | undefined): Promise<AccessToken>;
  /** Another one, because an API refused this one. */
  replace(grant: ApiGrant | undefined, refused: AttachedToken): Promise<AccessToken>;
}

interface Entry {
  token?: IssuedToken;
  flight?: Promise<AccessToken>;
  /** Nobody asks before this instant, epoch milliseconds. */
  pausedUntil: number;
  failure?: AccessToken;
}

/** How long a refusal stands. Milliseconds. */
const refusalMs = 15_000;

/**
 * The application's own tokens (client credentials), one for each target in this process. Nothing of a user goes in,
 * and nothing of it goes into a session (DT8). A token that is alive outlives an outage of the authorization server.
 */
export function createApplicationTokens({
  frontend,
  server,
  defaults,
  refreshAhead,
  log,
  metrics,
}: {
  frontend: string;
  server: AuthorizationServer;
  defaults: TokenDefaults;
  /** Seconds. */
  refreshAhead: number;
  log: { warn(facts: object, message: string): void };
  metrics: Metrics;
}): ApplicationTokens {
  const entries = new Map<string, Entry>();
  const pauses = createPauses(server.nowMs);
  const entryOf = (grant: ApiGrant | undefined) => {
    const key = grant?.key ?? '';
    const entry = entries.get(key) ?? { pausedUntil: 0 };
    entries.set(key, entry);
    return entry;
  };

  async function ask(grant: ApiGrant | undefined, entry: Entry, isReplacement: boolean): Promise<AccessToken> {
    const target = targetOf(grant) ?? {};
    const granted = await clientCredentialsGrant(server, target);
    if (granted.kind === 'granted') {
      pauses.reset();
      metrics.refreshes.inc({ frontend, outcome: 'application' });
      const token = issuedToken(granted.response, server.nowMs() / 1000, defaults, target.scope ?? '');
      entry.token = isReplacement ? { ...token, isReplacement: true } : token;
      return { kind: 'token', token: entry.token };
    }
    const { fault } = granted;
    metrics.refreshes.inc({ frontend, outcome: 'application-failed' });
    log.warn({ frontend, fault, ...target }, 'no application token: it is asked for again shortly');
    const pauseMs = isRefusal(fault) ? refusalMs : pauses.after(fault);
    entry.pausedUntil = server.nowMs() + pauseMs;
    entry.failure = isRefusal(fault) ? { kind: 'refused' } : { kind: 'unavailable', retryAfterMs: pauseMs };
    return entry.failure;
  }

  const fly = (grant: ApiGrant | undefined, entry: Entry, isReplacement = false): Promise<AccessToken> => {
    if (entry.flight === undefined && entry.failure !== undefined && server.nowMs() < entry.pausedUntil)
      return Promise.resolve(entry.failure);
    entry.flight ??= ask(grant, entry, isReplacement).finally(() => {
      delete entry.flight;
    });
    return entry.flight;
  };

  return {
    async get(grant) {
      const entry = entryOf(grant);
      const { token } = entry;
      const state = token === undefined ? 'expired' : tokenState(token, server.nowMs() / 1000, refreshAhead);
      if (token === undefined || state === 'expired') return fly(grant, entry);
      if (state === 'ageing') fly(grant, entry).catch(() => log.warn({ frontend }, 'an application token stayed old'));
      return { kind: 'token', token };
    },
    async replace(grant, refused) {
      const entry = entryOf(grant);
      // Somebody else replaced it already.
      if (entry.token !== undefined && entry.token.accessToken !== refused.accessToken)
        return { kind: 'token', token: entry.token };
      return fly(grant, entry, true);
    },
  };
}
