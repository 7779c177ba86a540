import { shownKey } from '../crypto/shown.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import {
  checkApis,
  checkLogout,
  checkStrength,
  forwardProxyWarnings,
  isWithin,
  sharedTokenWarnings,
  userResources,
} from './api-checks.ts';
import { bearerWarnings, checkBearer } from './bearer-checks.ts';
import { cookieNameFault, defaultCookieName } from './cookie-name.ts';
import type { CrossProblem } from './document.ts';
import { buildDevServer, checkForwardAuth, checkListenerTls, exposureWarnings } from './exposure.ts';
import { checkClientAuthentication, checkKeysApart } from './key-checks.ts';
import { checkRedis, type RedisConfig } from './redis.ts';
import type { ApiConfig } from './schema/api.ts';
import { type AuthorizationServerConfig, refreshLease } from './schema/authorization-server.ts';
import type { BearerIssuerConfig } from './schema/bearer.ts';
import type {
  ConfigInput,
  FilesConfig,
  ForwardAuthConfig,
  FrontendInput,
  SessionConfig as SessionInput,
  TokensConfig,
} from './schema/schema.ts';
import { isLoopbackHost } from './schema/values.ts';

export type { RedisConfig } from './redis.ts';
export type { ApiConfig, ExchangeConfig, RequireConfig } from './schema/api.ts';
export {
  type AuthorizationServerConfig,
  commitBudgetMs,
  refreshLease,
  usualSigningAlgorithms,
} from './schema/authorization-server.ts';
export type { ForwardAuthConfig, TokensConfig } from './schema/schema.ts';
export { signingAlgorithm } from './schema/values.ts';

export interface SessionConfig extends Omit<SessionInput, 'redis'> {
  redis?: RedisConfig;
}

/** One configured API of a frontend. */
export interface Api extends ApiConfig {
  name: string;
}

/** Whose tokens callers may bring. */
export interface BearerIssuer extends BearerIssuerConfig {
  name: string;
}

/** One SPA with its own origin or path, OAuth client, cookie and APIs. */
export interface Frontend {
  name: string;
  /** Scheme, host and port, as browsers write them in `Origin`. */
  origin: string;
  /** Host and port, as in the `Host` header. */
  host: string;
  /** Path part of the public URL without a final slash; empty at the root. */
  basePath: string;
  /** https: `__Host-` cookies with `Secure`. Else plain-http loopback. */
  isSecure: boolean;
  authorizationServer: AuthorizationServerConfig;
  /** Resource indicators of the login: a refresh can only ask for what the login was for (RFC 8707 §2.2). */
  loginResources: string[];
  cookieName: string;
  sameSite: 'strict' | 'lax';
  apis: Api[];
  forwardAuth?: ForwardAuthConfig;
  bearerIssuers: BearerIssuer[];
  files?: FilesConfig;
  /** What has the rest of the paths instead of `files`: as an API that is public and knows no method and no header of ours. */
  devServer?: Api;
}

export interface Config
  extends Pick<ConfigInput, 'listen' | 'ops' | 'trustedProxies' | 'workers' | 'limits' | 'log' | 'shutdown'> {
  session: SessionConfig;
  tokens: TokensConfig;
  /** Ways out of the network, as the environment names them. */
  forwardProxies: ForwardProxies;
  frontends: Frontend[];
}

const frontendKeys = ['publicUrl', 'authorizationServer'] as const;

/** Completes the parsed file: one list of frontends, names of cookies, and the checks that concern several keys. */
export function buildConfig(
  input: ConfigInput,
  forwardProxies: ForwardProxies = { exceptions: [] },
): { config: Config; problems: CrossProblem[]; warnings: string[] } {
  const problems: CrossProblem[] = [];
  const warnings: string[] = [];
  const named = namedFrontends(input, problems);
  const frontends = named.map(({ name, path, input: frontend }) =>
    buildFrontend(name, path, frontend, problems, warnings),
  );
  checkFrontendsApart(frontends, named, problems, warnings);
  const placed = frontends.map((frontend, index) => ({ ...frontend, path: named[index]?.path ?? [] }));
  checkForwardAuth(placed, input.trustedProxies, problems);
  checkKeysApart(input, named, problems);
  checkListenerTls(placed, input.listen, problems);
  warnings.push(
    ...named.flatMap(({ name, input: { apis } }) => forwardProxyWarnings(name, apis, forwardProxies)),
    ...exposureWarnings(input),
  );

  if (input.session.idleTimeout > input.session.absoluteTimeout) {
    problems.push({ path: ['session', 'idleTimeout'], message: 'is longer than absoluteTimeout: shorten it' });
  }
  if (input.session.redis === undefined) {
    warnings.push(
      'session.redis is not set: sessions live in this process, end with it and are not shared between replicas',
    );
  }
  if (input.workers !== 1 && input.session.redis === undefined) {
    problems.push({
      path: ['workers'],
      message: 'needs session.redis: a session in the memory of one worker is unknown to the others',
    });
  }
  const { listen, ops, trustedProxies, workers, limits, log, shutdown, tokens } = input;
  const { redis, ...others } = input.session;
  const session = redis === undefined ? others : { ...others, redis: checkRedis(redis, problems) };
  return {
    config: { listen, ops, trustedProxies, workers, limits, log, shutdown, session, tokens, forwardProxies, frontends },
    problems,
    warnings,
  };
}

/**
 * A stop that leaves no time for a refresh under way may lose its session (W40). `cloakroom check` refuses that; a start
 * warns, so that no upgrade stands still over it.
 */
export function graceFault({ shutdown, frontends }: Pick<Config, 'shutdown' | 'frontends'>): CrossProblem | undefined {
  const longest = Math.max(0, ...frontends.map(({ authorizationServer }) => refreshLease(authorizationServer).leaseMs));
  const seconds = Math.ceil(longest / 1000);
  if (shutdown.grace >= seconds * 1000) return undefined;
  return {
    path: ['shutdown', 'grace'],
    message: `is shorter than one refresh may take (${seconds}s by authorizationServer.refreshTimeout and timeout), so that a stop could lose a session: set ${seconds}s or more, and let what stops the process wait for it`,
  };
}

interface NamedFrontend {
  name: string;
  path: PropertyKey[];
  input: FrontendInput;
}

function namedFrontends(input: ConfigInput, problems: CrossProblem[]): NamedFrontend[] {
  if (input.frontends !== undefined) {
    for (const key of ['publicUrl', 'authorizationServer', 'forwardAuth', 'files', 'devServer'] as const) {
      if (input[key] !== undefined)
        problems.push({ path: [key], message: 'stands beside frontends: move it into one of them' });
    }
    for (const key of ['apis', 'bearerIssuers'] as const) {
      if (Object.keys(input[key]).length > 0)
        problems.push({ path: [key], message: 'stands beside frontends: move it into one of them' });
    }
    if (Object.keys(input.frontends).length === 0)
      problems.push({ path: ['frontends'], message: 'is empty: add a frontend' });
    return Object.entries(input.frontends).map(([name, frontend]) => ({
      name,
      path: ['frontends', name],
      input: frontend,
    }));
  }
  const { publicUrl, authorizationServer } = input;
  if (publicUrl === undefined || authorizationServer === undefined) {
    for (const key of frontendKeys) {
      if (input[key] === undefined)
        problems.push({ path: [key], message: 'is required: add it, or describe several frontends under frontends' });
    }
    return [];
  }
  const { cookie, apis, bearerIssuers, forwardAuth, files, devServer } = input;
  return [
    {
      name: 'default',
      path: [],
      input: { publicUrl, authorizationServer, cookie, apis, bearerIssuers, forwardAuth, files, devServer },
    },
  ];
}

function buildFrontend(
  name: string,
  path: PropertyKey[],
  input: FrontendInput,
  problems: CrossProblem[],
  warnings: string[],
): Frontend {
  const publicUrl = new URL(input.publicUrl);
  const isSecure = publicUrl.protocol === 'https:';
  const server = input.authorizationServer;
  const serverPath = [...path, 'authorizationServer'];

  checkClientAuthentication(server, serverPath, problems);
  checkLogout(server, serverPath, problems);
  if (!isSecure)
    warnings.push(
      `frontend ${name}: publicUrl is plain http on loopback, so its cookies are not Secure and have no __Host- prefix: for development only`,
    );
  if (new URL(server.issuer).protocol === 'http:')
    warnings.push(`frontend ${name}: the issuer is plain http on loopback: for development only`);
  if (server.responseMode === 'form_post' && !isSecure && !isLoopbackHost(publicUrl.hostname)) {
    problems.push({
      path: [...serverPath, 'responseMode'],
      message: 'form_post needs an https publicUrl: its cookie must be SameSite=None; Secure',
    });
  }
  if (server.silentLoginFrame && server.responseMode === 'form_post') {
    problems.push({
      path: [...serverPath, 'silentLoginFrame'],
      message: 'can’t be had with form_post, whose answer no frame takes: leave responseMode out',
    });
  }
  const basePath = publicUrl.pathname.replace(/\/+$/, '');
  if (basePath !== '' && !/^(\/[A-Za-z0-9._~-]+)+$/.test(basePath)) {
    problems.push({
      path: [...path, 'publicUrl'],
      message: 'must have a plain path, without escapes or empty segments',
    });
  }
  const cookieName = input.cookie.name;
  const nameFault = cookieName === undefined ? undefined : cookieNameFault(cookieName, isSecure);
  if (nameFault !== undefined) problems.push({ path: [...path, 'cookie', 'name'], message: nameFault });
  checkApis(input.apis, [...path, 'apis'], problems, input.forwardAuth !== undefined);
  checkStrength(server, input.apis, [...path, 'apis'], problems);
  checkBearer(input, path, problems);
  warnings.push(...sharedTokenWarnings(name, input.apis), ...bearerWarnings(name, input));

  return {
    name,
    origin: publicUrl.origin,
    host: publicUrl.host,
    basePath,
    isSecure,
    authorizationServer: server,
    loginResources: [...new Set([...server.resources, ...userResources(input.apis)])],
    cookieName: cookieName ?? defaultCookieName({ name, publicUrl, basePath }),
    sameSite: input.cookie.sameSite,
    apis: Object.entries(input.apis).map(([apiName, api]) => ({ ...api, name: apiName })),
    ...(input.forwardAuth === undefined ? {} : { forwardAuth: input.forwardAuth }),
    bearerIssuers: Object.entries(input.bearerIssuers).map(([issuerName, issuer]) => ({ ...issuer, name: issuerName })),
    ...(input.files === undefined
      ? {}
      : { files: typeof input.files === 'string' ? { folder: input.files } : input.files }),
    ...buildDevServer(input, { path, publicUrl, basePath }, problems),
  };
}

function checkFrontendsApart(
  frontends: Frontend[],
  named: NamedFrontend[],
  problems: CrossProblem[],
  warnings: string[],
): void {
  frontends.forEach((frontend, index) => {
    const path = [...(named[index]?.path ?? []), 'publicUrl'];
    for (const other of frontends.slice(0, index)) {
      const [one, two] = [frontend.authorizationServer, other.authorizationServer];
      if (one.issuer === two.issuer && one.clientId === two.clientId) {
        warnings.push(
          `frontends ${frontend.name} and ${other.name} share the client ${shownKey(one.clientId)}: a back-channel logout reaches only one of them. Register a client for each`,
        );
      }
      const isWithinOther =
        isWithin(`${frontend.basePath}/x`, other.basePath) || isWithin(`${other.basePath}/x`, frontend.basePath);
      if (frontend.host === other.host && isWithinOther) {
        problems.push({
          path,
          message: `overlaps the publicUrl of ${other.name}: give each frontend a host or path of its own`,
        });
      }
      // A cookie knows no port (RFC 6265 §8.5).
      if (
        new URL(frontend.origin).hostname === new URL(other.origin).hostname &&
        frontend.cookieName === other.cookieName
      ) {
        problems.push({
          path: [...(named[index]?.path ?? []), 'cookie', 'name'],
          message: `is also the cookie of ${other.name} on the same host: choose another`,
        });
      }
    }
  });
}
