import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { KeyAndCertificate } from './certificates.ts';
import { type AccessTokenOptions, makeAccessToken } from './evil-provider/access-token.ts';
import { type Endpoint, jwks, PATHS, type RecordedRequest, serve } from './evil-provider/endpoints.ts';
import type { Faults, JwtFault } from './evil-provider/faults.ts';
import { type Jwk, type Rotation, signJwt, toJwk } from './evil-provider/jwt.ts';
import {
  createProviderState,
  DEFAULT_SETTINGS,
  epochSeconds,
  type Family,
  type Login,
  type SecretKind,
  type Settings,
} from './evil-provider/provider-state.ts';
import { revokeFamily, secretOf } from './evil-provider/token-issuer.ts';
import { freePort } from './redis.ts';

export interface EvilProviderOptions extends Partial<Settings> {
  /** `cloakroom`. */
  clientId?: string;
  /** A random secret unless given; `null` for a public client. */
  clientSecret?: string | null;
  /** More clients: id to secret (`null`: public). */
  clients?: Record<string, string | null>;
  /** Public keys for `private_key_jwt`. */
  clientJwks?: Jwk[];
  /** Epoch milliseconds, for `iat`, `exp` and the grace: hand in the test's clock. */
  now?: () => number;
  tls?: KeyAndCertificate;
  /** Host name in the issuer; 127.0.0.1, or localhost with TLS. */
  host?: string;
  /** Path of the issuer, such as `/tenant-a`. */
  issuerPath?: string | undefined;
  /** Where the metadata is, from the root of the server and with its query, instead of at the issuer. */
  metadataPath?: string | undefined;
  /** A fixed port. */
  port?: number;
}

export interface LogoutTokenOptions extends JwtFault {
  /** Of the last login unless given; `null` leaves it out. */
  sub?: string | null;
  sid?: string | null;
  audience?: string;
}

export interface EvilProvider {
  issuer: string;
  port: number;
  clientId: string;
  /** Empty for a public client. */
  clientSecret: string;
  /** Assign to switch faults on. */
  faults: Faults;
  settings: Settings;
  /** Every request, in order of arrival. */
  requests: RecordedRequest[];
  /** Tokens that were revoked through the revocation endpoint. */
  revoked: string[];
  requestsTo(endpoint: Endpoint | 'unknown'): RecordedRequest[];
  tokenRequests(grantType?: string): RecordedRequest[];
  /** The most requests that were answered at the same time since the start or `reset()`. */
  mostAtOnce(): number;
  /** From now on this user answers the login page; `null`: nobody is logged in (prompt=none fails). Default: alice. */
  nextLogin(login: Login | null): void;
  /** Signs with a new key; the old one leaves the JWKS unless `keepOld`. `sameKid`: under the name of the old one. */
  rotateKeys(options?: Rotation): void;
  jwks(): { keys: Jwk[] };
  /** The forger's public key, for `jwk` headers; `${issuer}/forged-jwks` serves it too. */
  forgedJwk(): Jwk;
  refreshFamilies(): readonly Family[];
  /** How often a used refresh token came again (outside the grace). */
  reuseDetected(): number;
  /** An administrator ends the grants of a user: their next refresh is refused with invalid_grant. */
  revokeGrants(sub?: string): void;
  /** Every code and token ever issued, plus received code verifiers and the client secrets; `reset()` keeps them. */
  issuedSecrets(...kinds: SecretKind[]): string[];
  /** A signed access token, as an app of another kind would have one; valid unless the options say otherwise. */
  accessToken(options?: AccessTokenOptions): string;
  /** A signed logout token; valid unless the options say otherwise. */
  logoutToken(options?: LogoutTokenOptions): string;
  /** Stops listening and cuts connections; `up()` comes back on the same port with all state. */
  down(): Promise<void>;
  up(): Promise<void>;
  /** No faults, no log, no grants, start settings, alice. Keys and port stay, so caches of discovery stay right. */
  reset(): void;
  stop(): Promise<void>;
}

/** Starts an OpenID provider on 127.0.0.1 that behaves well until a test switches a fault on. */
export async function startEvilProvider(options: EvilProviderOptions = {}): Promise<EvilProvider> {
  const { clientId = 'cloakroom', clientJwks = [], now = Date.now, tls, issuerPath = '', metadataPath } = options;
  const clientSecret =
    options.clientSecret === undefined ? `secret-${randomBytes(24).toString('base64url')}` : options.clientSecret;
  const startSettings = { ...DEFAULT_SETTINGS, ...pickSettings(options) };
  const clients = Object.entries({ ...options.clients, [clientId]: clientSecret });
  const state = createProviderState({
    clients: new Map(clients.map(([id, secret]) => [id, secret ?? undefined])),
    clientJwks,
    settings: { ...startSettings },
    now,
  });
  const requests: RecordedRequest[] = [];

  const server = tls ? createTlsServer({ ...tls }) : createServer();
  server.keepAliveTimeout = 60_000;
  let [atOnce, mostAtOnce] = [0, 0];
  server.on('request', (message, response) => {
    mostAtOnce = Math.max(mostAtOnce, ++atOnce);
    response.once('close', () => atOnce--);
    record(message, { issuerPath, metadataPath }, now())
      .then((request) => {
        requests.push(request);
        return serve(state, request, response);
      })
      .catch((error: unknown) => {
        // A client that went away is part of the tests; anything else is a bug of this double and must be seen.
        if (!message.destroyed) response.writeHead(500, { 'x-double-failed': String(error).slice(0, 200) }).end();
      });
  });
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        server.off('error', reject);
        resolve();
      });
    });
  const down = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  await listen(options.port ?? (await freePort()));
  const { port } = server.address() as AddressInfo;
  const host = options.host ?? (tls ? 'localhost' : '127.0.0.1');
  state.issuer = `${tls ? 'https' : 'http'}://${host}:${port}${issuerPath}`;

  return {
    issuer: state.issuer,
    port,
    clientId,
    clientSecret: clientSecret ?? '',
    get faults() {
      return state.faults;
    },
    set faults(faults) {
      state.faults = faults;
    },
    settings: state.settings,
    requests,
    revoked: state.revoked,
    requestsTo: (endpoint) => requests.filter((request) => request.endpoint === endpoint),
    tokenRequests: (grantType) =>
      requests.filter(
        ({ endpoint, params }) => endpoint === 'token' && (!grantType || params.get('grant_type') === grantType),
      ),
    mostAtOnce: () => mostAtOnce,
    nextLogin(login) {
      state.login = login;
    },
    rotateKeys: (rotation) => state.keys.rotate(rotation),
    jwks: () => jwks(state),
    forgedJwk: () => toJwk(state.keys.forger()),
    refreshFamilies: () => state.families,
    reuseDetected: () => state.families.reduce((sum, family) => sum + family.reuseDetected, 0),
    revokeGrants(sub) {
      for (const family of state.families) if (!sub || family.login.sub === sub) revokeFamily(state, family);
    },
    issuedSecrets(...kinds) {
      const secrets = clients.flatMap(([, value]) => (value ? [{ kind: 'client_secret' as const, value }] : []));
      const wanted = [...secrets, ...state.issued].filter(({ kind }) => kinds.length === 0 || kinds.includes(kind));
      return [...new Set(wanted.map(({ value }) => value))];
    },
    accessToken: (token = {}) => makeAccessToken(state, token),
    logoutToken({ sub, sid, audience = clientId, ...fault } = {}) {
      const claims = {
        iss: state.issuer,
        aud: audience,
        iat: epochSeconds(state),
        exp: epochSeconds(state) + 120,
        jti: randomBytes(12).toString('hex'),
        events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
        ...presentOr('sub', sub, state.lastLogin?.sub),
        ...presentOr('sid', sid, state.lastLogin?.sid),
      };
      return (
        signJwt({ keys: state.keys, clientSecret: secretOf(state, clientId), claims, typ: 'logout+jwt', fault }) ?? ''
      );
    },
    down,
    up: () => listen(port),
    reset() {
      for (const name of Object.keys(state.faults) as (keyof Faults)[]) delete state.faults[name];
      Object.assign(state.settings, startSettings);
      for (const list of [requests, state.revoked, state.families]) list.length = 0;
      for (const map of [state.codes, state.accessTokens, state.pushed]) map.clear();
      state.login = { sub: 'alice' };
      state.lastLogin = undefined;
      mostAtOnce = atOnce;
    },
    stop: down,
  };
}

type Places = Pick<EvilProviderOptions, 'issuerPath' | 'metadataPath'>;

async function record(message: IncomingMessage, places: Places, at: number): Promise<RecordedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  const { method = '', url = '', headers } = message;
  const { pathname, searchParams } = new URL(url, 'http://provider');
  const { issuerPath = '', metadataPath } = places;
  const isAt = (name: Endpoint) =>
    name === 'discovery' && metadataPath !== undefined
      ? url === metadataPath
      : pathname === `${issuerPath}${PATHS[name]}`;
  const found = (Object.keys(PATHS) as Endpoint[]).find(isAt);
  return {
    endpoint: found ?? 'unknown',
    method,
    url,
    headers,
    params: body ? new URLSearchParams(body) : searchParams,
    body,
    at,
  };
}

function pickSettings(options: EvilProviderOptions): Partial<Settings> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in DEFAULT_SETTINGS));
}

function presentOr(
  name: string,
  given: string | null | undefined,
  regular: string | undefined,
): Record<string, string> {
  const value = given === undefined ? regular : given;
  return value === null || value === undefined ? {} : { [name]: value };
}
