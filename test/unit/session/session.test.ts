import { describe, expect, it } from 'vitest';
import {
  buildIdentity,
  idleExpiresAt,
  refreshIdentity,
  sessionState,
  shouldTouch,
} from '../../../src/session/session.ts';

const lifetimes = { idleTimeout: 600, absoluteTimeout: 3600 };
const session = (change: object = {}) => ({ expiresAt: 4600, lastSeenAt: 1000, now: 1000, ...change });

describe('T48 lifetimes', () => {
  it.each([
    ['active', { now: 1000 }],
    ['active', { now: 1599.9 }],
    ['idle', { now: 1600 }],
    ['idle', { now: 3000 }],
    ['active', { now: 4599.9, lastSeenAt: 4500 }],
    ['expired', { now: 4600, lastSeenAt: 4599 }],
    ['expired', { now: 9999, lastSeenAt: 1000 }],
  ])('T48 is %s with %o', (state, change) => {
    expect(sessionState(session(change), lifetimes)).toBe(state);
  });

  it('T48 ends at the shorter of both', () => {
    expect(idleExpiresAt(session(), lifetimes)).toBe(1600);
    expect(idleExpiresAt(session({ lastSeenAt: 4300 }), lifetimes)).toBe(4600);
  });

  it('is noted as used once per twentieth of the idle timeout', () => {
    expect(shouldTouch(session({ now: 1029.9 }), lifetimes)).toBe(false);
    expect(shouldTouch(session({ now: 1030 }), lifetimes)).toBe(true);
  });

  it('T53 is not ended by a clock that went back', () => {
    expect(sessionState(session({ now: 700 }), lifetimes)).toBe('active');
    expect(shouldTouch(session({ now: 700 }), lifetimes)).toBe(false);
  });
});

describe('an identity', () => {
  const claims = {
    iss: 'https://id', aud: 'shop', exp: 2, iat: 1, nonce: 'n', at_hash: 'h', azp: 'shop', jti: 'j',
    sub: 'alice', sid: 's1', acr: 'mfa', auth_time: 5, name: 'Alice', roles: ['admin'],
  }; // biome-ignore format: claims read better in rows

  it('keeps who somebody is and drops what only concerns the protocol', () => {
    expect(buildIdentity(claims, 'https://id')).toEqual({
      issuer: 'https://id',
      subject: 'alice',
      sid: 's1',
      acr: 'mfa',
      nonce: 'n',
      authTime: 5,
      claims: { sub: 'alice', sid: 's1', acr: 'mfa', auth_time: 5, name: 'Alice', roles: ['admin'] },
    });
  });

  it('takes over no field of another type', () => {
    const odd = { sub: 'alice', sid: 7, acr: ['mfa'], nonce: {}, auth_time: '5' };
    expect(buildIdentity(odd, 'https://id')).toEqual({
      issuer: 'https://id',
      subject: 'alice',
      claims: { ...odd, nonce: undefined },
    });
  });

  it('W29 has the claims of UserInfo under those of the ID token, also such as no object literal has', () => {
    const userInfo = JSON.parse(
      '{"sub":"alice","name":"A.","groups":["g"],"__proto__":{"roles":["root"]},"iss":"x","sid":"y"}',
    );
    const identity = buildIdentity(claims, 'https://id', userInfo);
    expect(identity).toMatchObject({ sid: 's1', claims: { name: 'Alice', roles: ['admin'], groups: ['g'] } });
    expect(identity.userInfo).toMatchObject({ name: 'A.', groups: ['g'] });
    expect(Object.keys(identity.userInfo ?? {})).toEqual(['name', 'groups', '__proto__']);
    expect(Object.getPrototypeOf(identity.claims)).toBe(Object.prototype);
    expect(identity.inBoth).toEqual(['name']);
  });

  describe('W29 after a refresh', () => {
    const login = buildIdentity({ sub: 'alice', name: 'Alice', email: 'a@x' }, 'https://id', {
      email: 'a@y',
      groups: ['g'],
      vip: 1,
    });
    const news = { claims: { sub: 'alice', name: 'Alicia' }, userInfo: { name: 'A.', groups: ['h'] } };
    const { claims: idToken, userInfo } = news;

    const old = { name: 'Alice', email: 'a@x' };
    it.each([
      ['nothing new', {}, { ...old, groups: ['g'], vip: 1 }, old],
      [
        'a new ID token',
        { claims: idToken },
        { name: 'Alicia', email: 'a@y', groups: ['g'], vip: 1 },
        { name: 'Alicia' },
      ],
      ['new UserInfo', { userInfo }, { ...old, groups: ['h'] }, old],
      ['both', news, { name: 'Alicia', groups: ['h'] }, { name: 'Alicia' }],
    ])('is made of the newest of each: %s', (_what, given, expected, ofIdToken) => {
      const renewed = refreshIdentity(login, given).identity;
      expect(renewed.claims).toEqual({ sub: 'alice', ...expected });
      // And it still knows which were whose, when it comes back from the record.
      const again = refreshIdentity(JSON.parse(JSON.stringify(renewed)), { userInfo: {} }).identity;
      expect(again.claims).toEqual({ sub: 'alice', ...ofIdToken });
    });

    it('keeps what it does not know, and all the rest of the login', () => {
      const older = { ...login, device: 'Firefox', issuedAt: 7, later: true };
      expect(refreshIdentity(older, news).identity).toMatchObject({ device: 'Firefox', issuedAt: 7, later: true });
    });

    it('is as ever where UserInfo is not asked', () => {
      const plain = buildIdentity(claims, 'https://id');
      expect(refreshIdentity(plain, {}).identity).toBe(plain);
      expect(refreshIdentity(plain, { claims: idToken }).identity).not.toHaveProperty('userInfo');
    });
  });
});
