import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultCookieName } from '../../../src/config/cookie-name.ts';
import { configOf, problemsOf, smallest } from './support.ts';

const nameFor = (publicUrl: string) => configOf((data) => Object.assign(data, { publicUrl })).frontends[0]?.cookieName;

describe('the session cookie’s default name', () => {
  it('W7 is what it was at the root of the default port, and else has port and path in it', () => {
    expect(nameFor('https://app.example.com')).toBe('__Host-cloakroom');
    expect(nameFor('https://app.example.com:443/')).toBe('__Host-cloakroom');
    expect(nameFor('http://localhost')).toBe('cloakroom');
    expect(nameFor('http://localhost:5173')).toBe('cloakroom_5173');
    expect(nameFor('https://app.example.com:8443')).toBe('__Host-cloakroom_8443');
    expect(nameFor('https://app.example.com/shop/')).toBe('__Host-cloakroom__shop');
    expect(nameFor('https://app.example.com:8443/shop/v1.2')).toBe('__Host-cloakroom_8443__shop__v1_2E2');
  });

  it('W7 is the same for no two frontends, ports and paths, and always one that could be configured', () => {
    const segment = fc.stringMatching(/^[a4_.~-]{1,4}$/);
    const owner = fc
      .record({
        isSecure: fc.boolean(),
        name: fc.constantFrom('default', 'a', 'a-4', '4'),
        port: fc.constantFrom('', ':4', ':44'),
        segments: fc.array(
          segment.filter((text) => !/^\.\.?$/.test(text)),
          { maxLength: 3 },
        ),
      })
      .map(({ isSecure, name, port, segments }) => ({
        name,
        publicUrl: new URL(`${isSecure ? 'https' : 'http'}://a.example${port}`),
        basePath: segments.map((text) => `/${text}`).join(''),
      }));
    fc.assert(
      fc.property(owner, owner, (one, two) => {
        const [first, second] = [defaultCookieName(one), defaultCookieName(two)];
        expect(first === second).toBe(JSON.stringify(one) === JSON.stringify(two));
        expect(first).toMatch(/^(__Host-)?cloakroom[A-Za-z0-9_-]*$/);
      }),
      { numRuns: 5000 },
    );
  });
});

it('W7 refuses one cookie for two frontends on one host name, whatever their ports', () => {
  const { authorizationServer } = smallest();
  const frontend = (publicUrl: string, name: string) => ({ publicUrl, authorizationServer, cookie: { name } });
  const problems = problemsOf((data) => {
    for (const key of ['publicUrl', 'authorizationServer', 'apis']) delete data[key];
    data.frontends = {
      shop: frontend('https://a.example.com', '__Host-c'),
      admin: frontend('https://a.example.com:8443', '__Host-c'),
      other: frontend('https://b.example.com', '__Host-c'),
    };
  });
  expect(problems.filter((problem) => problem.includes('also the cookie of'))).toEqual([
    expect.stringContaining('also the cookie of shop on the same host'),
  ]);
});
