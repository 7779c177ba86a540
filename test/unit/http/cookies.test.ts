import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cookieValues, parseCookies } from '../../../src/http/cookies.ts';

const ours = '__Host-c';

/** The rules once more, word for word and slow (RFC 6265bis §5.6, steps for a name-value pair). */
function pairsOf(header: string): [name: string, value: string][] {
  return header.split(';').flatMap((pair): [string, string][] => {
    const [name = '', ...rest] = pair.split('=');
    const trim = (text: string) => text.replace(/^[ \t]+/, '').replace(/[ \t]+$/, '');
    return rest.length === 0 ? [] : [[trim(name), trim(rest.join('='))]];
  });
}

const valuesOf = (header: string, name: string) =>
  pairsOf(header)
    .filter(([each]) => each === name)
    .map(([, value]) => value);

/** Everything that String.trim takes for blank, and what other readers of cookies stumble over. */
const blanks = [...'\t\n\v\f\r \x00\x1c\x1f\x7f\x85\xa0\u1680\u2000\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff'];
const names = [ours, '__host-c', '__HOST-C', '__Host-', 'c', '__Host-cc', 'x__Host-c', '__proto__', 'constructor', ''];
const snippet = fc.constantFrom(...names, ...blanks, ...'=;,"\'%\\.', '%3D', '%5F', '\xc2\xa0', 'x', '; ', ` ${ours}=`);
const header = fc.oneof(
  fc.array(snippet, { maxLength: 30 }).map((parts) => parts.join('')),
  fc.string({ unit: 'binary', maxLength: 60 }),
);

describe('cookies in a Cookie header', () => {
  it('W2 are read as the rules say, each by name and all at once', () => {
    fc.assert(
      fc.property(header, fc.constantFrom(...names.filter((name) => name !== '')), (text, name) => {
        expect(cookieValues(text, name)).toEqual(valuesOf(text, name));
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(header, (text) => {
        const cookies = parseCookies(text);
        for (const [name] of pairsOf(text)) {
          const [value, ...more] = valuesOf(text, name);
          expect(cookies[name]).toBe(more.length === 0 ? value : undefined);
        }
        expect(new Set(Object.keys(cookies))).toEqual(new Set(pairsOf(text).map(([name]) => name)));
      }),
      { numRuns: 3000 },
    );
  });

  it('W2 have names and values that only SP and HTAB are trimmed from', () => {
    for (const text of [`${ours}=v`, ` ${ours} = v `, `\t${ours}\t=\tv\t`, `a=1;${ours}=v;b`, `a;${ours}=v`])
      expect([cookieValues(text, ours), parseCookies(text)[ours]], JSON.stringify(text)).toEqual([['v'], 'v']);
    for (const blank of blanks.filter((each) => each !== ' ' && each !== '\t')) {
      for (const name of [`${blank}${ours}`, `${ours}${blank}`, `a${blank}${ours}`]) {
        const text = `a=1; ${name}=v; b=2`;
        expect([cookieValues(text, ours), parseCookies(text)[ours]], JSON.stringify(text)).toEqual([[], undefined]);
      }
      expect(cookieValues(`${ours}=${blank}v${blank}`, ours)).toEqual([`${blank}v${blank}`]);
    }
  });

  it('W2 have no other separator than a semicolon, no quoting, no encoding', () => {
    const read = (text: string) => cookieValues(text, ours);
    expect(read(`a=1, ${ours}=v`)).toEqual([]);
    expect(read(`a="1; ${ours}=v"`)).toEqual(['v"']);
    expect(read(`${ours}="v"`)).toEqual(['"v"']);
    expect(read(`${ours}=a=b=`)).toEqual(['a=b=']);
    expect(read(`${ours}=%41`)).toEqual(['%41']);
    expect(read(`%5F_Host-c=v`)).toEqual([]);
    expect(read(`a=${ours}=v`)).toEqual([]);
    expect(read(`=${ours}=v`)).toEqual([]);
    expect(read(ours)).toEqual([]);
    expect(read(`${ours}; b=1`)).toEqual([]);
    expect(read(`${ours}=`)).toEqual(['']);
    expect(read(`${ours}=;${ours}=v`)).toEqual(['', 'v']);
    expect(cookieValues(undefined, ours)).toEqual([]);
  });

  it('W2 have no value when two have one name, and no name is special', () => {
    expect(parseCookies('a=1; b=2; a=3; a=4')).toEqual(Object.assign(Object.create(null), { a: undefined, b: '2' }));
    const cookies = parseCookies('__proto__=1; x=2');
    expect(Object.entries(cookies)).toEqual([
      ['__proto__', '1'],
      ['x', '2'],
    ]);
    expect(cookies.constructor).toBeUndefined();
    expect(cookies.toString).toBeUndefined();
  });
});
