import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Middleware } from 'koa';
import Provider, { type ClientMetadata, type JWKS } from 'oidc-provider';
import { Agent } from 'undici';
import { adminRoutes } from './provider/admin-routes.ts';
import { demoClient } from './provider/clients.ts';
import { buildConfiguration } from './provider/configuration.ts';
import { writeKeyFile } from './provider/key-file.ts';
import { loginRoutes } from './provider/login-routes.ts';
import { createResources, DEMO_RESOURCES, type DemoResource } from './provider/resources.ts';
import { generateSigningKeys, signingAlgorithm } from './provider/signing-keys.ts';
import { registerTokenExchange } from './provider/token-exchange.ts';
import { type TokenRequest, tokenRequestObserver } from './provider/token-requests.ts';
import { createUsers, type Users } from './provider/users.ts';

export interface ProviderOptions {
  /** Address to listen on; 0.0.0.0 in a container. Default 127.0.0.1. */
  host?: string;
  /** Port to listen on; 0 takes a free one. Default 9000. */
  port?: number;
  /** The issuer identifier, as browsers and relying parties reach it. Default http://<host>:<port>. */
  issuer?: string;
  /** Where Cloakroom answers: the demo client's redirect URIs start with it. Default http://localhost:8080. */
  publicUrl?: string;
  /**
   * The registered clients, each with its own redirect URIs. One that names no `grant_types` may use all: code, refresh,
   * client credentials, token exchange, on-behalf-of. Default: `demoClient(publicUrl)` alone.
   */
  clients?: readonly ClientMetadata[];
  /** Default 120: short enough to watch a refresh happen. */
  accessTokenTtlSeconds?: number;
  /**
   * Resources (RFC 8707) that tokens can be made for, by login, refresh, client credentials and exchange; the first is
   * taken when a request names none. Default: the two of the demo.
   */
  resources?: readonly (string | DemoResource)[];
  /** The `roles` of client credentials tokens. Default: `reader`. */
  applicationRoles?: readonly string[];
  /** Default `offered`. */
  pushedAuthorizationRequests?: 'off' | 'offered' | 'required';
  /** Takes authorization and logout requests by POST as well. Default: false. */
  takesForms?: boolean;
  /** Claims are at UserInfo alone, as OpenID Connect Core §5.4 has it by default. Default: in the ID token. */
  claimsAtUserInfo?: boolean;
  /** Signing keys with their private parts; default: a fresh ES256 key. An RSA key first means RS256. */
  jwks?: JWKS;
  /**
   * Sees every request at the token endpoint after the provider has dealt with it and before the answer leaves. While
   * its promise is open the answer is held back; when it throws, the answer is lost and the relying party gets a 500.
   */
  onTokenRequest?: (request: TokenRequest) => void | Promise<void>;
  /** Where the private signing key lies while the provider runs, for `demo/token.ts`. Default: nowhere. */
  keyFile?: string;
  /** Takes one line per failure that no browser sees. Default: dropped. */
  log?: (line: string) => void;
}

export interface RunningProvider {
  issuer: string;
  port: number;
  /** The people it knows; a test gives and takes roles here, a person does so at /admin. */
  users: Users;
  /** oidc-provider itself, for its events and models. */
  oidc: Provider;
  /** Stops listening and cuts every open connection: no handle stays behind. */
  close(): Promise<void>;
}

/**
 * Starts a real OpenID provider for the demo and the flow tests: real protocol, real signatures, pretend people.
 * Everything lives in memory and its secrets are public. Never reachable from a network you do not own.
 */
export async function startProvider(options: ProviderOptions = {}): Promise<RunningProvider> {
  const { host = '127.0.0.1', publicUrl = 'http://localhost:8080', log = () => undefined } = options;
  const jwks = options.jwks ?? (await generateSigningKeys());
  const users = createUsers();
  await users.addDemoUsers();

  // Listening comes first because the issuer may carry a port that only the operating system knows.
  const server = createServer();
  server.listen(options.port ?? 9000, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const issuer = options.issuer ?? `http://${host}:${port}`;

  const dispatcher = new Agent();
  const ttlSeconds = options.accessTokenTtlSeconds ?? 120;
  const resources = createResources(options.resources ?? DEMO_RESOURCES, { ttlSeconds, alg: signingAlgorithm(jwks) });
  const oidc = new Provider(
    issuer,
    buildConfiguration({
      clients: options.clients ?? [demoClient(publicUrl)],
      users,
      jwks,
      accessTokenTtlSeconds: ttlSeconds,
      resources,
      applicationRoles: options.applicationRoles ?? ['reader'],
      pushedAuthorizationRequests: options.pushedAuthorizationRequests ?? 'offered',
      takesForms: options.takesForms ?? false,
      claimsAtUserInfo: options.claimsAtUserInfo ?? false,
      dispatcher,
    }),
  );
  // Koa prints every failed request to stderr on its own; failures worth a line go to `log` below.
  oidc.silent = true;
  oidc.on('server_error', (_ctx, error) => log(`provider error: ${describe(error)}`));
  oidc.on('backchannel.error', (_ctx, error, client) => {
    log(`back-channel logout of ${client.clientId} failed: ${describe(error)}`);
  });
  if (options.takesForms === true) oidc.use(secureCookies);
  registerTokenExchange(oidc, { jwks, resources, users });
  oidc.use(tokenRequestObserver(oidc, options.onTokenRequest));
  oidc.use(loginRoutes(oidc, users, publicUrl));
  oidc.use(adminRoutes(oidc, users));
  server.on('request', oidc.callback());
  // A folder that can't be written to is no reason to have no demo.
  const removeKeyFile = await writeKeyFile(options.keyFile, issuer, jwks).catch((error) =>
    log(`npm run demo:token will not work: ${describe(error)}`),
  );

  return {
    issuer,
    port,
    users,
    oidc,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      if (removeKeyFile) await removeKeyFile();
      await Promise.all([closed, dispatcher.destroy()]);
    },
  };
}

/** Cookies that other sites' forms bring must be Secure. Browsers take such from loopback over http, but Koa sends none. */
const secureCookies: Middleware = async (ctx, next) => {
  await next();
  const cookies = ctx.res.getHeader('set-cookie');
  const makeSecure = (cookie: string) => `${cookie}; secure`;
  if (Array.isArray(cookies)) ctx.set('set-cookie', cookies.map(makeSecure));
};

function describe(error: Error): string {
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

if (process.argv[1] === import.meta.filename) {
  const { PROVIDER_HOST, PROVIDER_PORT, PROVIDER_ISSUER, DEMO_PUBLIC_URL } = process.env;
  const provider = await startProvider({
    host: PROVIDER_HOST ?? '127.0.0.1',
    port: Number(PROVIDER_PORT ?? 9000),
    issuer: PROVIDER_ISSUER ?? 'http://127.0.0.1:9000',
    publicUrl: DEMO_PUBLIC_URL ?? 'http://localhost:8080',
    log: (line) => console.error(line),
  });
  console.log(`Demo OpenID provider: ${provider.issuer} (users alice, bob, carol, dave; password = name)`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => provider.close());
}
