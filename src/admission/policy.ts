import type { Api, RequireConfig } from '../config/config.ts';
import { isStrongEnough, type Moment, mergeStrengths, type Strength } from '../oidc/strength.ts';
import { isReadAs, plainSegment } from '../routing/segments.ts';
import type { Identity } from '../session/session.ts';

export type Verdict =
  | { kind: 'allowed' }
  /** Logging in again does not help. */
  | { kind: 'denied'; reason: 'roles' | 'scopes' | 'claims' | 'acr' }
  /** Authentication that the session does not have yet, and that a login can bring (RFC 9470). */
  | { kind: 'step-up'; strength: Strength };

/** What is judged: the claims, and how and when (epoch seconds) the user authenticated. */
export type Subject = Pick<Identity, 'claims' | 'acr' | 'authTime'>;

/** No session is asked for: nothing could be sent on its behalf (PO3). */
export function isPublic({ token }: Api, rules: RequireConfig[]): boolean {
  return token === 'none' && rules.length === 0;
}

/** Whoever is not logged in may call too, as a guest of the application. */
export function takesGuests({ token }: Api, rules: RequireConfig[]): boolean {
  return token === 'user-or-client' && rules.length === 0;
}

/** The rules of an API for one request: its own, and those of every route below it that matches. All must hold. */
export function buildRules(api: Api): (method: string, path: string) => RequireConfig[] {
  const own = api.require === undefined ? [] : [api.require];
  const routes = buildRoutes(api);
  if (routes === undefined) return () => own;
  return (method, path) => [...own, ...routes(method, path).map(({ require }) => require)];
}

export type Route = Api['routes'][number];

/**
 * Finds the routes of an API that a request is about; undefined when there are none. A rule too many is an error that
 * somebody sees, a rule too few is a hole: the path is compared as the most forgiving upstream may read it.
 */
export function buildRoutes(api: Api): ((method: string, path: string) => Route[]) | undefined {
  if (api.routes.length === 0) return undefined;
  const routes = api.routes.map((route) => ({
    route,
    segments: route.path.slice(1).split('/').map(plainSegment),
    methods: route.methods === undefined ? undefined : new Set<string>(route.methods),
  }));
  return (method, path) => {
    const readings = readingsOf(path);
    const asked = method === 'HEAD' ? 'GET' : method;
    return routes
      .filter(
        ({ methods, segments }) =>
          (methods === undefined || methods.has(asked) || methods.has(method)) &&
          readings.some((given) => segments.every((wanted, index) => matches(wanted, given[index]))),
      )
      .map(({ route }) => route);
  };
}

/** Where an API takes encoded slashes, some of those that read it decode them: its rules are those of both (W60). */
function readingsOf(path: string): string[][] {
  const given = (text: string) => text.slice(1).split('/').map(plainSegment);
  const decoded = path.replace(/%2f/gi, '/');
  return decoded === path ? [given(path)] : [given(path), given(decoded)];
}

function matches(wanted: string, segment: string | undefined): boolean {
  return wanted === '*' ? segment !== undefined && segment !== '' : isReadAs(wanted, segment);
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
  // Merged, so that one login brings all of it.
  const strength = mergeStrengths(
    rules.map(({ acr = [], maxAge }) => ({
      acrValues: acr,
      ...(maxAge === undefined ? {} : { maxAge: Math.floor(maxAge / 1000) }), // max_age knows whole seconds
    })),
  );
  if (strength === undefined) return { kind: 'denied', reason: 'acr' };
  return isStrongEnough(strength, subject, moment) ? { kind: 'allowed' } : { kind: 'step-up', strength };
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

/** Membership in a real array of plain values; a string "admin,user" is not a list of roles. */
function isMember(value: unknown, wanted: string | number | boolean): boolean {
  return (
    Array.isArray(value) &&
    value.every((item) => typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') &&
    value.includes(wanted)
  );
}

/** A claim by its name, or by a path through objects such as `realm_access.roles`. */
export function claimAt(claims: Record<string, unknown>, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  let value: unknown = claims;
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}
