import { randomBytes } from 'node:crypto';
import { apiPath } from '../requests.ts';
import type { Stage } from '../stage.ts';

/** Which of Cloakroom’s modes. */
export interface Mode {
  store: 'memory' | 'redis';
  /** Its own setting where there is one; without it what the configuration’s default is. */
  nearCache?: boolean;
  workers?: number;
  /** Where calls go; the upstream that wants a token when absent. */
  upstream?: string;
  /** More keys of the API. */
  api?: Record<string, unknown>;
  issuer?: string;
  /** Folder of an SPA. */
  files?: string;
}

/** A configuration as the documentation has it, with every protection and the request log at their defaults. */
export function buildConfig(stage: Stage, mode: Mode, port: number): Record<string, unknown> {
  const { store, nearCache, workers, upstream = stage.upstream.guardedUrl, api = {} } = mode;
  return {
    publicUrl: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    cookie: { name: 'cloakroom' }, // of one length whatever the port: the same bytes arrive everywhere
    ops: { host: '127.0.0.1', port: 0 },
    ...(workers === undefined ? {} : { workers }),
    authorizationServer: {
      issuer: mode.issuer ?? stage.provider.issuer,
      clientId: stage.client.id,
      clientSecret: stage.client.secret,
      scopes: ['openid', 'profile', 'email', 'orders'],
    },
    session: {
      keys: [randomBytes(32).toString('base64url')],
      ...(store === 'redis' ? { redis: { url: stage.redis?.url, keyPrefix: `bench-${port}:` } } : {}),
      ...(nearCache === undefined ? {} : { nearCache: { enabled: nearCache } }),
    },
    ...(mode.files === undefined ? {} : { files: mode.files }),
    // The one limit that is raised: all users log in from this address within seconds.
    limits: { loginsPerMinute: 100_000 },
    // The same path at the upstream, as with the proxies that rewrite nothing.
    apis: { orders: { path: apiPath, upstream, rewritePath: apiPath, ...api } },
  };
}
