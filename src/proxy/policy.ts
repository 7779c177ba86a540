import type { Api, RequireConfig } from '../config/config.ts';
import { isStrongEnough, type Moment, mergeStrengths, type Strength } from '../oidc/strength.ts';
import type { Identity } from '../session/session.ts';

export type Verdict =
  | { kind: 'allowed' }
  /** Logging in again does not help. */
  | { kind: 'denied'; reason: 'roles' | 'scopes' | 'claims' | 'acr' }
  /** Authentication that the session does not have yet, and that a login can bring (RFC 9470). */
  | { kind: 'step-up'; strength: Strength };

/** What is judged: the claims, and how and when (epoch seconds) the user authenticated. */
export type Subject = Pick<Identity, 'claims' | 'acr' | 'authTime'>;

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
