import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isStrongEnough, mergeStrengths, type Strength } from '../../../src/oidc/strength.ts';

const acr = fc.constantFrom('gold', 'silver', 'bronze');
const strength: fc.Arbitrary<Strength> = fc.record(
  { acrValues: fc.uniqueArray(acr, { maxLength: 3 }), maxAge: fc.integer({ min: 0, max: 300 }) },
  { requiredKeys: ['acrValues'] },
);
const authentication = fc.record({ acr, authTime: fc.integer({ min: 600, max: 1100 }) }, { requiredKeys: [] });
const moment = { now: 1000, tolerance: 10 };

describe('mergeStrengths', () => {
  it('CB7 what satisfies the merged one satisfies each, and the other way round', () => {
    fc.assert(
      fc.property(fc.array(strength, { maxLength: 4 }), authentication, (strengths, authenticated) => {
        const merged = mergeStrengths(strengths);
        const each = strengths.every((one) => isStrongEnough(one, authenticated, moment));
        expect(merged !== undefined && isStrongEnough(merged, authenticated, moment)).toBe(each);
      }),
      { numRuns: 2000 },
    );
  });

  it('keeps the order of the last that names any, and changes nothing when merged again', () => {
    expect(mergeStrengths([{ acrValues: ['a', 'b', 'c'] }, { acrValues: ['c', 'a'] }, { acrValues: [] }])).toEqual({
      acrValues: ['c', 'a'],
    });
    fc.assert(
      fc.property(strength, strength, (usual, stepUp) => {
        const merged = mergeStrengths([usual, stepUp]);
        if (merged !== undefined) expect(mergeStrengths([usual, merged])).toEqual(merged);
      }),
    );
  });
});

describe('isStrongEnough', () => {
  it.each([
    [{ acrValues: [] }, {}, true],
    [{ acrValues: ['gold'] }, {}, false],
    [{ acrValues: ['gold'] }, { acr: 'Gold' }, false],
    [{ acrValues: ['gold'] }, { acr: 'silver gold' }, false],
    [{ acrValues: [], maxAge: 0 }, {}, false],
    [{ acrValues: [], maxAge: 0 }, { authTime: 990 }, true],
    [{ acrValues: [], maxAge: 0 }, { authTime: 989 }, false],
    [{ acrValues: [], maxAge: 60 }, { authTime: 930 }, true],
    [{ acrValues: [], maxAge: 60 }, { authTime: 929 }, false],
    [{ acrValues: [], maxAge: 60 }, { authTime: 1010 }, true],
    [{ acrValues: [], maxAge: 60 }, { authTime: 1011 }, false],
    [{ acrValues: [], maxAge: 60 }, { authTime: Number.NaN }, false],
    [{ acrValues: [], maxAge: 60 }, { authTime: Number.NEGATIVE_INFINITY }, false],
  ])('T40 %j by %j: %s', (asked, authenticated, expected) => {
    expect(isStrongEnough(asked, authenticated, moment)).toBe(expected);
  });
});
