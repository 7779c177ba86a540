import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../../src/crypto/secret.ts';
import {
  buildTokenSet,
  parseTokenSet,
  serializeTokenSet,
  type TokenSet,
  tokenState,
} from '../../../src/tokens/token-set.ts';

const defaults = { assumedLifetime: 60, scope: 'openid profile', keepIdToken: true };
const accessToken = new Secret('access');
const now = 1_700_000_000;
const lifeOf = (expiresIn?: number) => {
  const response = { accessToken, ...(expiresIn === undefined ? {} : { expiresIn }) };
  const { obtainedAt, expiresAt } = buildTokenSet(response, now, defaults);
  return expiresAt - obtainedAt;
};
const previous: TokenSet = {
  accessToken: new Secret('old access'),
  refreshToken: new Secret('old refresh'),
  idToken: new Secret('old id'),
  scope: 'openid',
  obtainedAt: now - 300,
  expiresAt: now,
  apiTokens: {},
};

describe('the life of a token set', () => {
  it.each([
    [undefined, 60],
    [0, 60],
    [-5, 60],
    [Number.NaN, 60],
    [Number.POSITIVE_INFINITY, 60],
    [0.5, 1],
    [1, 1],
    [59.9, 59],
    [86_400, 86_400],
    [86_401, 86_400],
    [1e300, 86_400],
    [Number.MAX_VALUE, 86_400],
  ])('T36 is, for expires_in %s, %d s', (expiresIn, seconds) => {
    expect(lifeOf(expiresIn)).toBe(seconds);
  });

  it('T36 is a whole number of seconds between one second and one day for every expires_in', () => {
    fc.assert(
      fc.property(
        fc.option(fc.double(), { nil: undefined }),
        fc.double({ min: 0, max: 4e9, noNaN: true }),
        (expiresIn, at) => {
          const response = { accessToken, ...(expiresIn === undefined ? {} : { expiresIn }) };
          const { obtainedAt, expiresAt } = buildTokenSet(response, at, defaults);
          expect(Number.isSafeInteger(obtainedAt) && Number.isSafeInteger(expiresAt)).toBe(true);
          expect(expiresAt - obtainedAt).toBeGreaterThanOrEqual(1);
          expect(expiresAt - obtainedAt).toBeLessThanOrEqual(86_400);
        },
      ),
    );
  });
});

describe('a token set after a refresh', () => {
  it('T115 keeps the refresh token, the ID token and the scope that the answer does not bring', () => {
    const next = buildTokenSet({ accessToken }, now, defaults, previous);
    expect(next).toMatchObject({ refreshToken: previous.refreshToken, idToken: previous.idToken, scope: 'openid' });
    expect(next.accessToken).toBe(accessToken);
  });

  it('T115 takes what the answer brings', () => {
    const response = { accessToken, refreshToken: new Secret('r'), idToken: new Secret('i'), scope: '' };
    expect(buildTokenSet(response, now, defaults, previous)).toMatchObject(response);
  });

  it('has the scopes asked for when a first answer names none', () => {
    expect(buildTokenSet({ accessToken }, now, defaults).scope).toBe('openid profile');
  });
});

describe('the state of a token set', () => {
  const stateAt = (life: number, ahead: number, age: number) =>
    tokenState({ ...previous, obtainedAt: now, expiresAt: now + life }, now + age, ahead);

  it.each([
    [300, 60, 0, 'fresh'],
    [300, 60, 239.9, 'fresh'],
    [300, 60, 240, 'ageing'],
    [300, 60, 299.9, 'ageing'],
    [300, 60, 300, 'expired'],
    [300, 60, 1e9, 'expired'],
    [60, 60, 29.9, 'fresh'],
    [60, 60, 30, 'ageing'],
    [1, 60, 0.4, 'fresh'],
    [1, 60, 0.5, 'ageing'],
    [1, 60, 1, 'expired'],
    [300, 0, 299.9, 'fresh'],
    [300, 0, 300, 'expired'],
    // A clock that went back: not older than fresh.
    [300, 60, -1000, 'fresh'],
  ] as const)('T119 with a life of %d s, refreshed %d s ahead, at the age of %d s is %s', (life, ahead, age, state) => {
    expect(stateAt(life, ahead, age)).toBe(state);
  });

  it('T119 is fresh for the first half of every life', () => {
    const life = fc.integer({ min: 1, max: 86_400 });
    fc.assert(
      fc.property(
        life,
        fc.integer({ min: 0, max: 1e6 }),
        fc.double({ min: 0, max: 0.499, noNaN: true }),
        (seconds, ahead, part) => {
          expect(stateAt(seconds, ahead, seconds * part)).toBe('fresh');
        },
      ),
    );
  });
});

describe('a token set in the store', () => {
  it('comes back as it was', () => {
    const read = parseTokenSet(serializeTokenSet(previous));
    expect(read.accessToken.reveal()).toBe('old access');
    expect(read.refreshToken?.reveal()).toBe('old refresh');
    expect(read.idToken?.reveal()).toBe('old id');
    expect({ ...read, accessToken: 0, refreshToken: 0, idToken: 0 }).toEqual({
      ...previous,
      accessToken: 0,
      refreshToken: 0,
      idToken: 0,
    });
  });

  it('comes back without the tokens it has not', () => {
    const read = parseTokenSet(serializeTokenSet(buildTokenSet({ accessToken }, now, defaults)));
    expect(Object.keys(read)).not.toContain('refreshToken');
    expect(Object.keys(read)).not.toContain('idToken');
  });

  it('L1 prints no token when it is logged, inspected or made JSON', () => {
    const set = parseTokenSet(serializeTokenSet(previous));
    expect(`${JSON.stringify(set)}${inspect(set, { depth: 10, showHidden: true })}`).not.toMatch(
      /old (access|refresh|id)/,
    );
  });
});
