import type { Api, RequireConfig } from '../config/config.ts';
import type { Identity } from '../session/session.ts';

/** Authentication that a session does not have yet, and that a login can bring (RFC 9470). */
export interface StepUp {
  /** One of these is needed. */
  acrValues: string[];
  /** Seconds since the user authenticated. */
  maxAge?: number;
}

export type Verdict =
  | { kind: 'allowed' }
  /** Logging in again does not help. */
  | { kind: 'denied'; reason: 'roles' | 'scopes' | 'claims' }
  | { kind: 'step-up'; stepUp: StepUp };

/** What is judged: the claims, and how and when (epoch seconds) the user authenticated. */
export type Subject = Pick<Identity, 'claims' | 'acr' | 'authTime'>;

export interface Moment {
  /** Epoch seconds. */
  now: number;
  /** Seconds that the provider’s clock may differ. */
  tolerance: number;
}

/** The rules of an API for one request: its own, and those of every route below it that matches. All must hold. */
export function buildRules(api: Api): (method: string, path: string) => RequireConfig[] {
  const own = api.require === undefined ? [] : [api.require];
  if (api.routes.length === 0) return () => own;
  const routes = api.routes.map(({ path, methods, require }) => ({
    segments: path.slice(1).split('/'),
    methods: methods === undefined ? undefined : new Set<string>(methods),
    require,
  }));
  return (method, path) => {
    const segments = path.slice(1).split('/').map(plainSegment);
    const asked = method === 'HEAD' ? 'GET' : method;
    const matching = routes.filter(
      (route) =>
        (route.methods === undefined || route.methods.has(asked) || route.methods.has(method)) &&
        route.segments.every((wanted, index) => matches(wanted, segments[index])),
    );
    return [...own, ...matching.map(({ require }) => require)];
  };
}

function matches(wanted: string, segment: string | undefined): boolean {
  return segment !== undefined && (wanted === '*' ? segment !== '' : wanted === segment);
}

/** As an upstream may read it: /%61dmin and /admin;v=1 are /admin to many. The request guard saw to the rest. */
function plainSegment(segment: string): string {
  const [name = ''] = segment.split(/;|%3b/i);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/**
 * Does this subject satisfy all the rules? Exact and type-strict: no substring, no splitting, no conversion; every peer
 * that was cleverer had an advisory for it (PO5, T83).
 */
export function evaluatePolicy(rules: RequireConfig[], subject: Subject, scope: string, moment: Moment): Verdict {
  for (const rule of rules) {
    const reason = missing(rule, subject.claims, scope);
    if (reason !== undefined) return { kind: 'denied', reason };
  }
  // Last: nobody is sent to log in again for something that stays forbidden.
  const stepUp = missingAuthentication(rules, subject, moment);
  return stepUp === undefined ? { kind: 'allowed' } : { kind: 'step-up', stepUp };
}

function missing(
  { roles, scopes, claims }: RequireConfig,
  subject: Record<string, unknown>,
  scope: string,
): 'roles' | 'scopes' | 'claims' | undefined {
  if (roles !== undefined && !roles.some((role) => isMember(subject.roles, role))) return 'roles';
  if (scopes !== undefined) {
    const granted = scope.split(' ');
    if (!scopes.every((name) => granted.includes(name))) return 'scopes';
  }
  if (claims !== undefined) {
    for (const [path, wanted] of Object.entries(claims)) {
      const value = claimAt(subject, path);
      if (value !== wanted && !isMember(value, wanted)) return 'claims';
    }
  }
  return undefined;
}

/** The strongest that is asked for, so that one login brings all of it. */
function missingAuthentication(rules: RequireConfig[], subject: Subject, moment: Moment): StepUp | undefined {
  const asked = rules.map(({ acr = [], maxAge }) => ({
    acrValues: acr,
    ...(maxAge === undefined ? {} : { maxAge: maxAge / 1000 }),
  }));
  if (asked.every((stepUp) => meetsStepUp(stepUp, subject, moment))) return undefined;
  const lists = asked.map(({ acrValues }) => acrValues).filter((values) => values.length > 0);
  const [first = [], ...others] = lists;
  const common = first.filter((value) => others.every((values) => values.includes(value)));
  const ages = asked.flatMap(({ maxAge }) => (maxAge === undefined ? [] : [maxAge]));
  return {
    acrValues: common.length > 0 ? common : (lists.at(-1) ?? []),
    ...(ages.length === 0 ? {} : { maxAge: Math.min(...ages) }),
  };
}

/** Did the user authenticate as strongly and as recently as this asks? */
export function meetsStepUp({ acrValues, maxAge }: StepUp, { acr, authTime }: Subject, moment: Moment): boolean {
  if (acrValues.length > 0 && (acr === undefined || !acrValues.includes(acr))) return false;
  if (maxAge === undefined) return true;
  const { now, tolerance } = moment;
  return authTime !== undefined && authTime <= now + tolerance && authTime + maxAge + tolerance >= now;
}

/** Membership in a real array of plain values; a string "admin,user" is not a list of roles. */
function isMember(value: unknown, wanted: string | number | boolean): boolean {
  return (
    Array.isArray(value) &&
    value.every((item) => typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') &&
    value.includes(wanted)
  );
}

/** A claim by its name, or by a path through objects such as `realm_access.roles`. */
function claimAt(claims: Record<string, unknown>, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  let value: unknown = claims;
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}
