import type { SuiteKeyOptions } from './keys.ts';

/** The certification plans that Cloakroom is for, by the suite's names. */
export const plans = {
  basic: 'oidcc-client-basic-certification-test-plan',
  formPost: 'oidcc-client-formpost-basic-certification-test-plan',
  config: 'oidcc-client-config-certification-test-plan',
  rpInitiated: 'oidcc-client-rp-initiated-logout-rp-basic',
  backChannel: 'oidcc-client-back-channel-logout-rp-basic',
  frontChannel: 'oidcc-client-front-channel-logout-rp-basic',
} as const;

export type Plan = keyof typeof plans;

type Claims = Record<string, unknown>;

export type SuiteEndpoint =
  | 'discovery'
  | 'jwks'
  | 'authorize'
  | 'token'
  | 'userinfo'
  | 'end_session'
  | 'backchannel'
  | 'frame';

/** One test module of the suite: what its server does, and what a relying party has to do then. */
export interface ConformanceModule {
  name: string;
  /** None: not in a plan of ours, but true all the same. */
  plans: Plan[];
  /** Is the user logged in then? Where the suite leaves it to the relying party, this is what Cloakroom does. */
  expects: 'login' | 'refusal';
  /** What our log names as the reason of a refusal: the certification asks for it. */
  told?: RegExp;
  /** Requests without which the suite's module fails or never ends. */
  requires: readonly SuiteEndpoint[];
  /** Requests that make it fail. */
  forbids?: readonly SuiteEndpoint[];
  keys?: SuiteKeyOptions;
  /** The metadata name `jwks_uri` under a name that changes with every run. */
  hasOwnJwksUri?: boolean;
  metadata?: (regular: Claims) => Claims;
  idToken?: (regular: Claims) => Claims;
  /** RS256. */
  algorithm?: 'none' | 'ES256';
  /** The signature is turned into another one. */
  isSpoilt?: boolean;
  userinfo?: (regular: Claims) => Claims;
  /** UserInfo answers a JWT. */
  signsUserinfo?: boolean;
  /** New keys, with new names: for each login, or between the claims and their signature. */
  rotates?: 'per-login' | 'before-signing';
  /** The server's page begins the login (Core §4). */
  isBegunElsewhere?: boolean;
  /** How many logins the module sees; 1. */
  logins?: number;
  /** The scope must name one of profile, email, phone and address. */
  wantsClaimScope?: boolean;
  logout?: {
    channels: ('back' | 'front')[];
    /** The server begins it: nobody was at the end-session endpoint. */
    isByServer?: boolean;
    /** The status that the back channel must get; 200. */
    status?: 400;
    token?: (regular: Claims) => Claims;
    /** RS256. */
    algorithm?: 'none' | 'ES256';
    /** What comes back instead of the state that was sent. */
    state?: 'other' | 'none';
  };
}

const changed = (changes: Claims) => (regular: Claims) => ({ ...regular, ...changes });
const appended = (claim: string) => (regular: Claims) => ({ ...regular, [claim]: `${regular[claim]}1` });

/** The ID token is not to be believed: no request may follow it. */
const refused = { expects: 'refusal', requires: ['authorize', 'token'], forbids: ['userinfo'] } as const;
const login = { expects: 'login', requires: ['authorize', 'token', 'userinfo'] } as const;
const core: Plan[] = ['basic', 'formPost'];

const loginModules: ConformanceModule[] = [
  { name: 'oidcc-client-test', plans: core, ...login },
  { name: 'oidcc-client-test-invalid-iss', plans: core, ...refused, told: /\biss\b/, idToken: appended('iss') },
  {
    name: 'oidcc-client-test-missing-sub',
    plans: core,
    ...refused,
    told: /\bsub\b/,
    idToken: changed({ sub: undefined }),
  },
  { name: 'oidcc-client-test-invalid-aud', plans: core, ...refused, told: /\baud\b/, idToken: appended('aud') },
  {
    name: 'oidcc-client-test-missing-iat',
    plans: core,
    ...refused,
    told: /\biat\b/,
    idToken: changed({ iat: undefined }),
  },
  {
    name: 'oidcc-client-test-kid-absent-single-jwks',
    plans: core,
    ...login,
    keys: { perType: 1, isNamed: false },
  },
  // The suite accepts both: refusing, or trying all keys as we do.
  {
    name: 'oidcc-client-test-kid-absent-multiple-jwks',
    plans: core,
    ...login,
    keys: { perType: 3, isNamed: false },
  },
  {
    name: 'oidcc-client-test-idtoken-sig-rs256',
    plans: core,
    ...login,
    metadata: changed({ id_token_signing_alg_values_supported: ['RS256'] }),
  },
  // The suite calls this SKIPPED where it is refused, and takes that for certification.
  {
    name: 'oidcc-client-test-idtoken-sig-none',
    plans: [...core, 'config'],
    ...refused,
    told: /\balg/i,
    algorithm: 'none',
  },
  {
    name: 'oidcc-client-test-invalid-sig-rs256',
    plans: core,
    ...refused,
    metadata: changed({ id_token_signing_alg_values_supported: ['RS256'] }),
    isSpoilt: true,
    told: /SIGNATURE/,
  },
  {
    name: 'oidcc-client-test-userinfo-invalid-sub',
    plans: core,
    expects: 'refusal',
    requires: login.requires,
    userinfo: appended('sub'),
    told: /UserInfo.*\bsub\b/,
  },
  { name: 'oidcc-client-test-nonce-invalid', plans: core, ...refused, told: /\bnonce\b/, idToken: appended('nonce') },
  { name: 'oidcc-client-test-scope-userinfo-claims', plans: core, ...login, wantsClaimScope: true },
  { name: 'oidcc-client-test-client-secret-basic', plans: core, ...login },
];

const configModules: ConformanceModule[] = [
  { name: 'oidcc-client-test-discovery-openid-config', plans: ['config'], ...login, requires: ['discovery'] },
  {
    name: 'oidcc-client-test-discovery-jwks-uri-keys',
    plans: ['config'],
    ...login,
    requires: ['discovery', 'jwks'],
    hasOwnJwksUri: true,
  },
  {
    name: 'oidcc-client-test-discovery-issuer-mismatch',
    plans: ['config'],
    expects: 'refusal',
    requires: ['discovery'],
    forbids: ['authorize'],
    told: /\bissuer\b/,
    metadata: (regular) => ({ ...regular, issuer: `${regular.issuer}INVALID` }),
  },
  {
    name: 'oidcc-client-test-signing-key-rotation-just-before-signing',
    plans: ['config'],
    ...login,
    rotates: 'before-signing',
  },
  {
    name: 'oidcc-client-test-signing-key-rotation',
    plans: ['config'],
    expects: 'login',
    requires: ['authorize', 'token', 'userinfo', 'jwks', 'authorize', 'token', 'userinfo', 'jwks'],
    rotates: 'per-login',
    logins: 2,
  },
];

const rpInitiated = (
  name: string,
  logout: Omit<NonNullable<ConformanceModule['logout']>, 'channels'> = {},
): ConformanceModule => ({
  name: `oidcc-client-test-rp-init-logout${name}`,
  plans: ['rpInitiated'],
  expects: 'login',
  requires: ['authorize', 'end_session', 'backchannel', 'frame'],
  logout: { ...logout, channels: ['back', 'front'] },
});

const backChannel = (
  name: string,
  logout: Omit<NonNullable<ConformanceModule['logout']>, 'channels'> = { status: 400 },
): ConformanceModule => ({
  name: `oidcc-client-test-rp-backchannel-rpinitlogout${name}`,
  plans: ['backChannel'],
  expects: 'login',
  requires: ['authorize', 'end_session', 'backchannel'],
  logout: { ...logout, channels: ['back'] },
});

const logoutModules: ConformanceModule[] = [
  rpInitiated(''),
  rpInitiated('-other-state', { state: 'other' }),
  rpInitiated('-no-state', { state: 'none' }),
  backChannel('', {}),
  backChannel('-alg-none', { status: 400, algorithm: 'none' }),
  backChannel('-no-event', { status: 400, token: changed({ events: undefined }) }),
  backChannel('-with-nonce', { status: 400, token: changed({ nonce: 'n-0S6_WzA2Mj' }) }),
  backChannel('-wrong-alg', { status: 400, algorithm: 'ES256' }),
  backChannel('-wrong-aud', { status: 400, token: appended('aud') }),
  backChannel('-wrong-event', {
    status: 400,
    token: changed({ events: { 'http://schemas.openid.net/event/foobar': {} } }),
  }),
  backChannel('-wrong-iss', { status: 400, token: appended('iss') }),
  {
    name: 'oidcc-client-test-rp-frontchannel-rpinitlogout',
    plans: ['frontChannel'],
    expects: 'login',
    requires: ['authorize', 'end_session', 'frame'],
    logout: { channels: ['front'] },
  },
];

/** In the suite, but in none of the six plans: what of it concerns a confidential client with the code flow. */
const moreModules: ConformanceModule[] = [
  {
    name: 'oidcc-client-test-missing-aud',
    plans: [],
    ...refused,
    told: /\baud\b/,
    idToken: changed({ aud: undefined }),
  },
  {
    name: 'oidcc-client-test-invalid-sig-es256',
    plans: [],
    ...refused,
    told: /SIGNATURE/,
    algorithm: 'ES256',
    isSpoilt: true,
  },
  { name: 'oidcc-client-test-userinfo-bearer-header', plans: [], ...login },
  { name: 'oidcc-client-test-3rd-party-init-login', plans: [], ...login, isBegunElsewhere: true },
  { name: 'oidcc-client-test-userinfo-signed', plans: [], ...login, signsUserinfo: true },
  {
    name: 'oidcc-client-test-ignores-unparseable-key-in-jwks',
    plans: [],
    ...login,
    keys: { withUnusable: true },
  },
  {
    name: 'oidcc-client-test-rp-frontchannel-opinitlogout',
    plans: [],
    expects: 'login',
    requires: ['authorize', 'frame'],
    logout: { channels: ['front'], isByServer: true },
  },
];

export const modules: ConformanceModule[] = [...loginModules, ...configModules, ...logoutModules, ...moreModules];

/** The modules of a plan. */
export function modulesOf(plan: Plan): ConformanceModule[] {
  return modules.filter((module) => module.plans.includes(plan));
}
