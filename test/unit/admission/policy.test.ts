import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluatePolicy } from '../../../src/admission/policy.ts';
import type { Identity } from '../../../src/session/session.ts';

const identity = (claims: Record<string, unknown>) => ({ claims }) as unknown as Identity;
const isAllowed = (
  claims: Record<string, unknown>,
  require: Parameters<typeof evaluatePolicy>[0][number],
  scope = '',
) => evaluatePolicy([require], identity(claims), scope, { now: 0, tolerance: 0 }).kind === 'allowed';

describe('evaluatePolicy', () => {
  it('T83 allows a role only as a member of a real list of plain values', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (roles) => {
        const isPlainList = Array.isArray(roles) && roles.every((item) => item !== null && typeof item !== 'object');
        expect(isAllowed({ roles }, { roles: ['admin'] })).toBe(isPlainList && roles.includes('admin'));
      }),
    );
  });

  it('T83 compares claims without converting them', () => {
    const values = fc.constantFrom<unknown>('1', 1, true, 'true', null, '', 0, false, ['1'], [1], [[1]], { 1: 1 });
    fc.assert(
      fc.property(
        values,
        fc.constantFrom<string | number | boolean>('1', 1, true, 'true', '', 0, false),
        (value, wanted) => {
          const isIn = Array.isArray(value) && value.includes(wanted);
          expect(isAllowed({ level: value }, { claims: { level: wanted } })).toBe(value === wanted || isIn);
        },
      ),
    );
  });

  it('T83 finds no claim on a prototype, in a list or in a text', () => {
    for (const path of ['constructor', '__proto__', 'toString.name', 'list.length', 'list.0', 'text.length', 'a.b.c'])
      for (const wanted of ['Object', 'toString', 'x', 1, 0])
        expect(isAllowed({ list: ['x'], text: 'x', a: { b: null } }, { claims: { [path]: wanted } }), path).toBe(false);
  });

  it('T83 takes a claim whose name has dots before a path', () => {
    expect(isAllowed({ 'https://x.example/level': 3 }, { claims: { 'https://x.example/level': 3 } })).toBe(true);
    expect(isAllowed({ 'a.b': 1, a: { b: 2 } }, { claims: { 'a.b': 2 } })).toBe(false);
  });

  it('wants one of the roles, and all of the scopes and claims', () => {
    expect(isAllowed({ roles: ['b'] }, { roles: ['a', 'b'] })).toBe(true);
    expect(isAllowed({}, { scopes: ['a', 'b'] }, 'b a')).toBe(true);
    expect(isAllowed({}, { scopes: ['a', 'b'] }, 'a bb')).toBe(false);
    expect(isAllowed({}, { scopes: ['a'] }, '')).toBe(false);
    expect(isAllowed({ x: 1 }, { claims: { x: 1, y: 2 } })).toBe(false);
    expect(isAllowed({ roles: ['a'] }, { roles: ['a'], scopes: ['s'] })).toBe(false);
  });

  it('PO7 asks for a login only when that is all that is missing, for what all rules need at once', () => {
    const moment = { now: 1000, tolerance: 0 };
    const rules = [
      { acr: ['a', 'b'], maxAge: 60_000 },
      { roles: ['x'], acr: ['b', 'c'], maxAge: 30_500 },
    ];
    const judge = (claims: object, authenticated: object) =>
      evaluatePolicy(rules, { claims, ...authenticated } as Identity, '', moment);
    expect(judge({}, {})).toEqual({ kind: 'denied', reason: 'roles' });
    const stepUp = { kind: 'step-up', strength: { acrValues: ['b'], maxAge: 30 } };
    expect(judge({ roles: ['x'] }, {})).toEqual(stepUp);
    expect(judge({ roles: ['x'] }, { acr: 'a', authTime: 1000 })).toEqual(stepUp);
    expect(judge({ roles: ['x'] }, { acr: 'b', authTime: 969 })).toEqual(stepUp);
    expect(judge({ roles: ['x'] }, { acr: 'b', authTime: 970 })).toEqual({ kind: 'allowed' });
    expect(evaluatePolicy([{ acr: ['a'] }, { acr: ['b'] }], identity({}), '', moment)).toEqual({
      kind: 'denied',
      reason: 'acr',
    });
  });

  it('T83 takes acr and auth_time from the identity, never from a claim of the same name', () => {
    const verdict = evaluatePolicy([{ acr: ['a'] }], identity({ acr: 'a' }), '', { now: 0, tolerance: 0 });
    expect(verdict.kind).toBe('step-up');
  });
});
