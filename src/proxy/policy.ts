import type { RequireConfig } from '../config/config.ts';
import type { Identity } from '../session/session.ts';

export type Verdict = { kind: 'allowed' } | { kind: 'denied'; reason: 'roles' | 'scopes' | 'claims' };

/**
 * Does this identity satisfy a route's `require`? Exact and type-strict: no substring, no splitting, no conversion;
 * every peer that was cleverer had an advisory for it (PO5, T83).
 */
export function evaluatePolicy(require: RequireConfig, identity: Identity, scope: string): Verdict {
  const { roles, scopes, claims } = require;
  if (roles !== undefined && !roles.some((role) => isMember(identity.claims.roles, role)))
    return { kind: 'denied', reason: 'roles' };
  if (scopes !== undefined) {
    const granted = scope.split(' ');
    if (!scopes.every((name) => granted.includes(name))) return { kind: 'denied', reason: 'scopes' };
  }
  if (claims !== undefined) {
    for (const [path, wanted] of Object.entries(claims)) {
      const value = claimAt(identity.claims, path);
      if (value !== wanted && !isMember(value, wanted)) return { kind: 'denied', reason: 'claims' };
    }
  }
  return { kind: 'allowed' };
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
