/** How an answer over HTTP can go wrong. Several switches combine. */
export interface ResponseFault {
  /** Goes away by itself after so many uses; without it, stays until the test removes it. */
  times?: number;
  /** Without `body` the body is empty. */
  status?: number;
  /** Added or replaced; `undefined` removes (`content-type`, for instance). */
  headers?: Record<string, string | undefined>;
  /** Objects are sent as JSON, with status 400 when they have an `error` and no status is given. */
  body?: string | Buffer | object | null;
  /** Changes the regular JSON in place, or returns another one. */
  mutate?: (json: Record<string, unknown>) => unknown;
  /** Changes the text of the answer: duplicate keys, numbers that JavaScript cannot write, deep nesting. */
  mutateText?: (text: string) => string;
  /** Answers with a redirect (302 unless `status`). */
  redirectTo?: string;
  /** Waits for this promise before it answers: no sleeps in tests. */
  holdUntil?: Promise<unknown>;
  delayMs?: number;
  /** Never answers. */
  hang?: boolean;
  /** Drops the connection instead of answering. */
  reset?: boolean;
  slowBytesPerSecond?: number;
  /** `true`: half the text, well framed. `'connection'`: the connection ends half way. */
  truncate?: boolean | 'connection';
  /** So many spaces before the regular text, which would be valid JSON to whoever reads it all. */
  hugeBytes?: number;
  /** As `hugeBytes` (256 MiB for `true`) but gzipped to about a thousandth. */
  gzipBomb?: boolean | number;
}

export interface TokenFault extends ResponseFault {
  /** The grant is processed (code used up, refresh token rotated), then the connection is dropped: a lost answer. */
  commitThenCut?: boolean;
  /**
   * Whether the grant is processed before the fault answer. Default: no when the fault replaces the answer (`status`,
   * `body`, `redirectTo`, `reset`, `hang`), yes when it only distorts or delays it. Processing happens on arrival.
   */
  commit?: boolean;
}

export type EvilAlgorithm = 'RS256' | 'PS256' | 'ES256' | 'none' | 'HS256-secret' | 'HS256-public' | 'forged';

type Override = Record<string, unknown>;

export interface JwtFault {
  times?: number;
  /** Replaced claims; `undefined` deletes one. Or a function that gets the regular claims and returns all. */
  claims?: Override | ((claims: Override) => Override);
  /** The same for the JOSE header. */
  header?: Override | ((header: Override) => Override);
  /**
   * `forged`: RS256 with the announced `kid` but another key. `ES256`: a key that is in the JWKS. `HS256-secret`: the
   * client secret as key. `HS256-public`: the PEM of the public key as key.
   */
  alg?: EvilAlgorithm;
  /** The payload as JSON text, for what `claims` cannot express. */
  payload?: string;
  /** The whole token. */
  raw?: unknown;
  /** No token at all. */
  omit?: boolean;
}

export interface JwksFault extends ResponseFault {
  /** How many keys there are; the right one is the last. */
  keys?: number;
  /** The other keys have the `kid` of the right one. */
  duplicateKid?: boolean;
  noKid?: boolean;
}

export interface DiscoveryFault extends ResponseFault {
  issuer?: string;
}

/** One value, several (a duplicated parameter), or `null` for none. */
type Parameter = string | string[] | null;

export interface AuthorizeFault extends ResponseFault {
  iss?: Parameter;
  state?: Parameter;
  code?: Parameter;
  /** An error response instead of a code; no code is issued. */
  error?: string;
  errorDescription?: string;
  errorUri?: string;
  extra?: [name: string, value: string][];
  /** The answer goes on by a script of the provider's page: to the browser another site's request, no redirect of ours. */
  isByScript?: boolean;
}

/** Assign to switch on, `undefined` or `reset()` to switch off. An array is used up from its front, one per request. */
export interface Faults {
  discovery?: Sequence<DiscoveryFault>;
  jwks?: Sequence<JwksFault>;
  authorize?: Sequence<AuthorizeFault>;
  par?: Sequence<ResponseFault>;
  /** Every grant. */
  tokenResponse?: Sequence<TokenFault>;
  /** The refresh grant; goes before `tokenResponse`. */
  refreshResponse?: Sequence<TokenFault>;
  /** The ID token of the code grant. */
  idToken?: Sequence<JwtFault>;
  /** The ID token of the refresh grant. */
  refreshIdToken?: Sequence<JwtFault>;
  accessToken?: Sequence<JwtFault>;
  userinfo?: Sequence<ResponseFault>;
  /** UserInfo answers with a signed JWT, which goes wrong like this; `{}` is a good one. */
  userinfoJwt?: Sequence<JwtFault>;
  revocation?: Sequence<ResponseFault>;
  endSession?: Sequence<ResponseFault & { state?: Parameter }>;
  /** The token endpoint asks for this nonce in DPoP proofs. */
  dpopNonce?: string;
}

export type Sequence<T> = T | T[] | undefined;

/** The fault of this request, counted down; `undefined` when there is none. */
export function takeFault<K extends Exclude<keyof Faults, 'dpopNonce'>>(faults: Faults, name: K): Single<Faults[K]> {
  const entry = faults[name] as Sequence<ResponseFault>;
  const fault = Array.isArray(entry) ? entry[0] : entry;
  if (fault?.times !== undefined) fault.times -= 1;
  const usedUp = fault !== undefined && (Array.isArray(entry) ? (fault.times ?? 0) <= 0 : fault.times === 0);
  if (usedUp && Array.isArray(entry)) entry.shift();
  if ((usedUp && !Array.isArray(entry)) || (Array.isArray(entry) && entry.length === 0)) delete faults[name];
  return fault as Single<Faults[K]>;
}

type Single<T> = Exclude<T, unknown[]>;

/** The values of one parameter of a response after its fault. */
export function parameterValues(fault: Parameter | undefined, regular: string | undefined): string[] {
  if (fault === undefined) return regular === undefined ? [] : [regular];
  if (fault === null) return [];
  return Array.isArray(fault) ? fault : [fault];
}
