import type { Signer } from '@fastify/cookie';
import type { FastifyBaseLogger } from 'fastify';
import { type BearerVerifier, createBearerVerifier } from '../bearer/bearer.ts';
import type { Config, Frontend } from '../config/config.ts';
import { buildKeyRing, hashId, type KeyRing } from '../crypto/keys.ts';
import { type AuthorizationServer, createAuthorizationServer } from '../oidc/authorization-server.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { FindPlace } from '../routing/places.ts';
import type { SessionChannel } from '../session/events.ts';
import { createSealedSessions, type SealedSessions } from '../session/sealed-sessions.ts';
import type { Streams } from '../session/streams.ts';
import { createSigner } from '../session/ticket.ts';
import type { SessionStore } from '../store/store.ts';
import { type AccessTokenSource, createAccessTokenSource } from '../tokens/access-token.ts';
import { createRefreshCoordinator, type RefreshCoordinator } from '../tokens/refresh-coordinator.ts';
import type { TokenDefaults } from '../tokens/token-set.ts';

/** What all frontends of a process share. */
export interface Shared {
  config: Config;
  store: SessionStore;
  channel: SessionChannel;
  /** Long-lived connections of this process. */
  streams: Streams;
  metrics: Metrics;
  log: FastifyBaseLogger;
  /** Epoch milliseconds. */
  nowMs: () => number;
  /** Names this process in the records that it makes. */
  instance: string;
  /** Names all replicas together in `Via`: a loop may come back to another one (PX9). */
  pseudonym: string;
  findPlace: FindPlace;
  /** True once the process is on its way out: connections are not kept alive any more. */
  isDraining: () => boolean;
}

/** The same in all replicas, and in no other Cloakroom. */
export function buildPseudonym({ frontends }: Pick<Config, 'frontends'>): string {
  return `cloakroom-${hashId(...frontends.map(({ origin, basePath }) => `${origin}${basePath}`)).slice(0, 8)}`;
}

/** Fixed and registered; never made from a request (LG7). */
export function redirectUriOf({ origin, basePath }: Pick<Frontend, 'origin' | 'basePath'>): string {
  return `${origin}${basePath}/bff/callback`;
}

/** Everything that belongs to one frontend, made once at start. */
export interface FrontendContext extends Shared {
  frontend: Frontend;
  keys: KeyRing;
  signer: Signer;
  sessions: SealedSessions;
  server: AuthorizationServer;
  /** For callers with a token of their own. */
  bearer: BearerVerifier;
  coordinator: RefreshCoordinator;
  accessTokens: AccessTokenSource;
  tokenDefaults: TokenDefaults;
  /** `/bff/login` under the frontend's base path. */
  loginPath: string;
  /** Fixed and registered; never made from a request (LG7). */
  redirectUri: string;
}

export function createFrontendContext(frontend: Frontend, shared: Shared): FrontendContext {
  const { config, store, channel, metrics, log, nowMs, instance } = shared;
  const { name } = frontend;
  const keys = buildKeyRing(config.session.keys, name);
  const lifetimes = {
    idleTimeout: Math.ceil(config.session.idleTimeout / 1000),
    absoluteTimeout: Math.ceil(config.session.absoluteTimeout / 1000),
  };
  // Sessions in this process are near enough.
  const { enabled, entries, maxAge } = config.session.nearCache;
  const nearCache = { entries, maxAge: enabled && config.session.redis !== undefined ? maxAge : 0 };
  const sessions = createSealedSessions({
    frontend: name,
    store,
    channel,
    keys,
    owner: { issuer: frontend.authorizationServer.issuer, clientId: frontend.authorizationServer.clientId },
    lifetimes,
    log,
    writer: instance,
    nearCache,
  });
  const { forwardProxies: proxies } = config;
  const server = createAuthorizationServer(frontend.authorizationServer, {
    proxies,
    nowMs,
    log,
    onStatus: (isUp) => metrics.authorizationServerUp.set({ frontend: name }, isUp ? 1 : 0),
  });
  const tokenDefaults = {
    assumedLifetime: config.tokens.assumedLifetime / 1000,
    scope: frontend.authorizationServer.scopes.join(' '),
    keepIdToken:
      frontend.authorizationServer.idTokenHint !== false ||
      frontend.apis.some(
        ({ token, exchange, idTokenHeader }) =>
          idTokenHeader !== undefined || (token === 'exchange' && exchange.subjectToken === 'id_token'),
      ),
  };
  const coordinator = createRefreshCoordinator({
    frontend: name,
    sessions,
    channel,
    server,
    defaults: tokenDefaults,
    waitMs: config.tokens.waitForRefresh,
    log,
    metrics,
  });
  const refreshAhead = config.tokens.refreshAhead / 1000;
  return {
    ...shared,
    frontend,
    keys,
    signer: createSigner(keys.signing, entries),
    sessions,
    server,
    bearer: createBearerVerifier(frontend.bearerIssuers, { proxies, nowMs, log }),
    coordinator,
    accessTokens: createAccessTokenSource({
      frontend: name,
      server,
      coordinator,
      defaults: tokenDefaults,
      refreshAhead,
      log,
      metrics,
    }),
    tokenDefaults,
    loginPath: `${frontend.basePath}/bff/login`,
    redirectUri: redirectUriOf(frontend),
  };
}
