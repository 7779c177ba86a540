import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitAbsoluteForm, targetFault } from '../../../src/routing/request-path.ts';

const decode = (path: string) =>
  path.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
const dropParameters = (path: string) => path.replaceAll(/;[^/]*/g, ''); // as servlet containers do

/** How the parsers behind a proxy may read a path: what any of them takes for another place must not be accepted. */
const readers: ((path: string) => string)[] = [
  (path) => path,
  decode,
  (path) => decode(decode(path)),
  (path) => decode(path).replaceAll('\\', '/'),
  dropParameters,
  (path) => dropParameters(decode(path)),
  (path) => decode(dropParameters(path)),
];

const nasty = fc.constantFrom(
  '/', '.', '..', '%2e', '%2E', '%2f', '%5c', '\\', ';', '%3b', '%25', '%252e', '%25%32%65', '%00', '#', '?', '//', '/..', '/./', 'a', 'api', '%c0%ae', '%zz', ' ', '\t', 'ü', '%61', '%3f', '%3F', '%23',
); // biome-ignore format: an alphabet reads better in rows
const paths = fc.oneof(
  fc.array(nasty, { maxLength: 12 }).map((parts) => `/${parts.join('')}`),
  fc.webPath(),
  fc.string({ unit: 'binary' }).map((text) => `/${text}`),
);

describe('targetFault', () => {
  it('T78 accepts no path that any reader takes for another place', () => {
    fc.assert(
      fc.property(paths, (target) => {
        if (targetFault(target) !== undefined) return;
        const path = target.split('?')[0] as string;
        for (const read of readers) {
          const seen = read(path);
          expect(seen.split('/'), seen).not.toContain('..');
          expect(seen.split('/'), seen).not.toContain('.');
          expect(seen.split('/').length, seen).toBe(path.split('/').length);
          expect(seen, seen).not.toContain('//');
          // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these must not be there
          expect(seen, seen).not.toMatch(/[\x00-\x1f\x7f\\]/);
        }
        // To whom a proxy sends what it decoded, the path ends at a %3f or %23.
        expect(decode(path).split(/[?#]/)[0]).not.toMatch(/\/\.{1,2}(\/|;|$)/);
        expect(new URL(path, 'http://x').pathname).toBe(path.replaceAll('"', '%22'));
      }),
      { numRuns: 5000 },
    );
  });

  it('accepts every path that a browser makes of plain segments', () => {
    const segment = fc
      .string({ minLength: 1 })
      .filter((text) => !/^\.{1,2}$|[/\\\p{Cc}]|%[0-9a-f]{2}|^\.{0,2};|^\.{1,2}[?#]/iu.test(text))
      .filter((text) => text.isWellFormed());
    fc.assert(
      fc.property(fc.array(segment, { minLength: 1 }), (segments) => {
        expect(targetFault(`/${segments.map(encodeURIComponent).join('/')}`)).toBe(undefined);
      }),
    );
  });

  it('says what is wrong', () => {
    expect(targetFault('x')).toBe('not an absolute path');
    expect(targetFault('/a//b')).toBe('an empty segment');
    expect(targetFault('/a/../b')).toBe('a dot segment');
    expect(targetFault('/a/%2e%2e')).toBe('a dot segment');
    expect(targetFault('/a%2fb')).toMatch(/encoded slash/);
    expect(targetFault('/a%25%32%65')).toBe('a doubly encoded character');
    expect(targetFault('/%c0%ae')).toBe('not UTF-8');
    expect(targetFault('/a?b#c')).toMatch(/in the query/);
  });

  it('looks at 16 kB in no time, whatever is in them', () => {
    const startedAt = performance.now();
    for (const unit of ['/', '/a', 'a', '%', '%25', '/.', '..', ';', '/a;', '%2', '~'])
      for (const end of ['', ' ', '\\', '%', '/..']) targetFault(`/${unit.repeat(16_000 / unit.length)}${end}`);
    expect(performance.now() - startedAt).toBeLessThan(500);
  });
});

describe('splitAbsoluteForm', () => {
  it('T80 agrees with the URL standard about the host, or gives up', () => {
    const hosts = fc.constantFrom('a', 'a.b:80', '[::1]:8', 'evil@a', 'a\\@b', 'a#b', 'a?b', '', 'a%2fb', ':80', 'ü');
    const rests = fc.constantFrom('', '/', '/x', '?x', '#x', '\\x', '/x/../y', '//y');
    fc.assert(
      fc.property(fc.constantFrom('http', 'https', 'HTTP', 'ftp'), hosts, rests, (scheme, host, rest) => {
        const split = splitAbsoluteForm(`${scheme}://${host}${rest}`);
        if (split === undefined) return;
        expect(split[1].startsWith('/')).toBe(true);
        if (!/^[a-z0-9.:[\]-]+$/.test(split[0])) return; // the guard refuses such a host
        if (!URL.canParse(`${scheme}://${host}${rest}`)) return;
        expect(new URL(`${scheme}://${split[0]}`).host).toBe(new URL(`${scheme}://${host}${rest}`).host);
      }),
    );
  });

  it('leaves all other targets alone', () => {
    for (const target of ['/x', '*', 'a:443', 'ftp://a/x', 'http:/a', 'http:///x', 'http://a@b/x', 'http://a?x', ''])
      expect(splitAbsoluteForm(target), target).toBe(undefined);
    expect(splitAbsoluteForm('http://a.b:8080')).toEqual(['a.b:8080', '/']);
    expect(splitAbsoluteForm('HTTPS://a/x?y')).toEqual(['a', '/x?y']);
  });
});
