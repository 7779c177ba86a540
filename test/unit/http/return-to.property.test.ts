import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { acceptReturnTo } from '../../../src/http/return-to.ts';

const origin = 'https://app.example.com';

/** What escapes are made of. Whole URLs by chance would nearly all be refused at the first character. */
const piece = fc.constantFrom(
  ...['/', '\\', '//', '/\\', '/.', '/..', '.', '..', ';', ':', '@', '?', '#', '&', '=', '%'],
  ...['\t', '\n', '\r', ' ', '\0', '\u00a0', '\u2028', '\ufeff', '／', '＼', '。', '\ud800'],
  ...['%2f', '%5c', '%2e', '%09', '%0a', '%0d', '%00', '%252f', '%2F%2F', '%E5%98%8A', '%c0%af'],
  ...['http:', 'https:', 'javascript:', 'data:', 'evil.example', 'app.example.com', 'user', 'bff', '/bff', '%62ff'],
  ...['login', 'logout', 'callback', 'shop', 'a'],
);
const pieces = fc.array(piece, { minLength: 1, maxLength: 12 }).map((list) => list.join(''));
const anything = fc.oneof(
  pieces,
  pieces.map((text) => `/${text}`),
  fc.string({ unit: 'binary' }),
  fc.webUrl(),
);
/** `/bff/login` with any of its characters escaped, behind detours. */
const endpointPath = fc
  .tuple(
    fc.constantFrom('', '/.', '/%2e', '/a/..', '/a/%2E%2e'),
    fc.constantFrom('/bff', '/bff/login', '/bff/logout?sid=x', '/bff/callback#x'),
    fc.array(fc.boolean(), { minLength: 20, maxLength: 20 }),
  )
  .map(([detour, path, escaped]) => {
    const spelt = [...path].map((character, index) =>
      escaped[index] && /[a-z]/.test(character) ? `%${character.charCodeAt(0).toString(16)}` : character,
    );
    return `${detour}${spelt.join('')}`;
  });

describe.each(['', '/shop'])('return_to below "%s"', (basePath) => {
  it('T4 never leaves our origin, whatever is asked for', () => {
    fc.assert(
      fc.property(anything, (value) => {
        const accepted = acceptReturnTo(value, origin, basePath);
        const url = new URL(accepted, origin);
        expect(url.origin).toBe(origin);
        expect(url.username).toBe('');
        // What a proxy or an old browser would make of a Location that begins like a network path.
        expect(accepted).toMatch(/^\/(?![/\\])[\x21-\x7e]*$/);
      }),
      { numRuns: 5000 },
    );
  });

  it('T4 gives the same when it is asked again with its own answer', () => {
    fc.assert(
      fc.property(anything, (value) => {
        const accepted = acceptReturnTo(value, origin, basePath);
        expect(acceptReturnTo(accepted, origin, basePath)).toBe(accepted);
      }),
      { numRuns: 5000 },
    );
  });

  it('T6 never lands on an endpoint of ours, however it is spelt', () => {
    fc.assert(
      fc.property(endpointPath, (value) => {
        const { pathname } = new URL(acceptReturnTo(`${basePath}${value}`, origin, basePath), origin);
        expect(decodeOnce(pathname)).not.toMatch(new RegExp(`^${basePath}/bff(/|$)`));
      }),
      { numRuns: 5000 },
    );
  });

  it('accepts plain paths of the application as they are', () => {
    const segment = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/).filter((text) => text !== 'bff');
    const path = fc.array(segment, { minLength: 1, maxLength: 4 }).map((list) => `/app/${list.join('/')}`);
    const query = fc.option(
      segment.map((text) => `?q=${text}`),
      { nil: '' },
    );
    const hash = fc.option(
      segment.map((text) => `#${text}`),
      { nil: '' },
    );
    fc.assert(
      fc.property(fc.tuple(path, query, hash), (parts) => {
        const value = parts.join('');
        expect(acceptReturnTo(value, origin, basePath)).toBe(value);
      }),
    );
  });
});

it('T5 refuses what grows past the limit by encoding: the login cookie would not fit into a browser', () => {
  const value = `/${'ö'.repeat(2000)}`;
  expect(value.length).toBeLessThan(2048);
  expect(acceptReturnTo(value, origin)).toBe('/');
  expect(acceptReturnTo(`/${'o'.repeat(2000)}`, origin)).toHaveLength(2001);
});

/** As the router does. */
function decodeOnce(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
