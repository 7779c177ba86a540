import { randomBytes } from 'node:crypto';
import type { Faults } from './faults.ts';
import { createKeyRing, type Jwk, type KeyRing } from './jwt.ts';

/** Who is at the keyboard of the provider. */
export interface Login {
  sub: string;
  /** More claims of the ID token and of UserInfo. */
  claims?: Record<string, unknown>;
  /** More claims of UserInfo alone, as OpenID Connect Core §5.4 has it by default. */
  userInfo?: Record<string, unknown>;
  /** More claims of the access token. */
  accessTokenClaims?: Record<string, unknown>;
  /** The provider's session id; a new one per login unless given. */
  sid?: string;
  /** Instead of the first of `acr_values`. */
  acr?: string;
  /** Epoch seconds; now unless given. */
  authTime?: number;
}

/** Regular behaviour that differs between providers. Change it at any time; `reset()` restores the start values. */
export interface Settings {
  accessTokenSeconds: number;
  idTokenSeconds: number;
  /** `jwt` (RFC 9068) or `opaque`. */
  accessTokenFormat: 'jwt' | 'opaque';
  /** `aud` of access tokens when the request names no resource or audience. */
  audience: string;
  /** `rotate`: a new refresh token per use. `same`: the same one again. `omit`: no refresh token in the answer. */
  rotation: 'rotate' | 'same' | 'omit';
  /** How long a used refresh token still works; 0 is strict: reuse revokes the family. */
  reuseGraceSeconds: number;
  issueRefreshToken: boolean;
  refreshIdToken: boolean;
  /** Announced; with `ES256` its key is in the key set. */
  idTokenAlgorithms: string[];
  requirePkce: boolean;
  /** Announce the PAR endpoint, or insist on it. */
  par: boolean | 'required';
  /** The one `aud` that a client assertion must have; `called`: the endpoint that it is sent to (Okta). Absent: any of ours. */
  assertionAudience: 'issuer' | 'token' | 'called' | undefined;
  /** Absent: any. */
  redirectUris: string[] | undefined;
}

export interface CodeGrant {
  clientId: string;
  redirectUri: string;
  challenge: string | undefined;
  nonce: string | undefined;
  scope: string;
  resources: string[];
  login: Required<Pick<Login, 'sub' | 'sid' | 'authTime'>> & Login;
  expiresAt: number;
  used: boolean;
  family: Family | undefined;
}

/** One refresh token and everything that came from it by rotation. */
export interface Family {
  id: string;
  clientId: string;
  scope: string;
  nonce: string | undefined;
  login: CodeGrant['login'];
  /** Valid refresh tokens: one, more only within the grace. */
  valid: Set<string>;
  /** Used refresh tokens with the epoch milliseconds of their first use. */
  used: Map<string, number>;
  rotations: number;
  reuseDetected: number;
  revoked: boolean;
}

export type SecretKind = 'access_token' | 'refresh_token' | 'id_token' | 'code' | 'code_verifier' | 'client_secret';

export interface ProviderState {
  issuer: string;
  clients: Map<string, string | undefined>;
  clientJwks: Jwk[];
  settings: Settings;
  faults: Faults;
  keys: KeyRing;
  /** `null`: nobody is logged in, `prompt=none` fails. */
  login: Login | null;
  lastLogin: CodeGrant['login'] | undefined;
  codes: Map<string, CodeGrant>;
  families: Family[];
  accessTokens: Map<
    string,
    { clientId: string; login: CodeGrant['login'] | undefined; family: Family | undefined; active: boolean }
  >;
  pushed: Map<string, URLSearchParams>;
  revoked: string[];
  issued: { kind: SecretKind; value: string }[];
  /** Epoch milliseconds. */
  now: () => number;
}

export const DEFAULT_SETTINGS: Settings = {
  accessTokenSeconds: 300,
  idTokenSeconds: 300,
  accessTokenFormat: 'jwt',
  audience: 'api',
  rotation: 'rotate',
  reuseGraceSeconds: 0,
  issueRefreshToken: true,
  refreshIdToken: true,
  idTokenAlgorithms: ['RS256'],
  requirePkce: true,
  par: false,
  assertionAudience: undefined,
  redirectUris: undefined,
};

type StateStart = Pick<ProviderState, 'clients' | 'clientJwks' | 'settings' | 'now'>;

export function createProviderState(start: StateStart): ProviderState {
  return {
    ...start,
    issuer: '',
    faults: {},
    keys: createKeyRing(),
    login: { sub: 'alice' },
    lastLogin: undefined,
    codes: new Map(),
    families: [],
    accessTokens: new Map(),
    pushed: new Map(),
    revoked: [],
    issued: [],
  };
}

/** A random value that is remembered for canary searches. */
export function issueSecret(
  state: ProviderState,
  kind: SecretKind,
  value = `${kind}-${randomBytes(24).toString('base64url')}`,
): string {
  state.issued.push({ kind, value });
  return value;
}

export function epochSeconds(state: ProviderState): number {
  return Math.floor(state.now() / 1000);
}
