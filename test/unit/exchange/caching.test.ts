import { describe, expect, it } from 'vitest';
import { buildCachingHeaders } from '../../../src/exchange/caching.ts';

const built = (answer: Record<string, string | string[]>, callers: string[] | 'everybody' = ['Cookie']) => {
  const flat = buildCachingHeaders((name) => answer[name], callers === 'everybody' ? undefined : callers);
  return Object.fromEntries(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]]] : [])));
};
const cacheControl = (...lines: string[]) => built({ 'cache-control': lines })['cache-control'];

describe('Cache-Control of what a caller brought', () => {
  const cases: [lines: string[], expected: string][] = [
    [[], 'private'],
    [[''], 'private'],
    [['public, max-age=60'], 'private, max-age=60'],
    [['PUBLIC', 'S-MaxAge=600, Max-Age=60'], 'private, Max-Age=60'],
    [['no-store, must-understand'], 'private, no-store, must-understand'],
    [['no-store'], 'private, no-store'],
    [['private'], 'private'],
    [['private="set-cookie, x-a", max-age=60'], 'private, max-age=60'],
    [['no-cache="set-cookie"'], 'private, no-cache="set-cookie"'],
    // Not one of these says `private`; the last hides an end of the argument.
    [['x="private", max-age=60'], 'private, x="private", max-age=60'],
    [['x-private, not-private=1'], 'private, x-private, not-private=1'],
    [['x="a\\", private, public", s-maxage="600"'], 'private, x="a\\", private, public"'],
    [['x="public, s-maxage=9"'], 'private, x="public, s-maxage=9"'],
    [[' ,, \tmax-age=60\t , ,'], 'private, max-age=60'],
    // What each cache would read in its own way.
    [['x="private', 'max-age=60'], 'private, no-store'],
    [['max-age=60; private'], 'private, no-store'],
    [['s-maxage =600'], 'private, no-store'],
    [['max-age=60 public'], 'private, no-store'],
  ];
  for (const [lines, expected] of cases) {
    it(`W3 makes ${JSON.stringify(lines)} ${expected}`, () => {
      expect(cacheControl(...lines)).toBe(expected);
    });
  }

  it('W3 reads a long line in the time of its length', () => {
    const before = performance.now();
    for (const text of [' ', '\t ', 'a', ',', '"', '\\', 'a="\\', 'a=" '])
      cacheControl(`${text.repeat(60_000 / text.length)};`);
    expect(performance.now() - before).toBeLessThan(1000);
  });

  it('W3 leaves the word about what is for everybody to the API, in one line', () => {
    const answer = { 'cache-control': ['public', 's-maxage=60'], vary: ['Accept', 'Cookie'], expires: '0' };
    expect(built(answer, 'everybody')).toEqual({
      'cache-control': 'public, s-maxage=60',
      vary: 'Accept, Cookie',
      expires: '0',
    });
    expect(built({}, 'everybody')).toEqual({});
  });
});

describe('Vary of what a caller brought', () => {
  const cases: [lines: string[], callers: string[], expected: string][] = [
    [[], ['Cookie'], 'Cookie'],
    [['Authorization'], ['Cookie'], 'Authorization, Cookie'],
    [['Accept, COOKIE', 'accept'], ['Cookie', 'Authorization'], 'Accept, COOKIE, Authorization'],
    [['Accept', '*'], ['Cookie'], '*'],
    [['', ' , '], ['Cookie'], 'Cookie'],
    [['"Accept"'], ['Cookie'], '*'],
    [[], ['Authorization'], 'Authorization'],
  ];
  for (const [vary, callers, expected] of cases) {
    it(`W4 makes ${JSON.stringify(vary)} for callers by ${callers} ${expected}`, () => {
      expect(built({ vary }, callers).vary).toBe(expected);
    });
  }
});

it('passes Age only as seconds', () => {
  const ages = ['0', '60', '-1', '1.5', '', 'old', '99999999999'].map((age) => built({ age }).age);
  expect(ages).toEqual(['0', '60', undefined, undefined, undefined, undefined, undefined]);
  expect(built({ age: ['1', '2'] }).age).toBeUndefined();
});
