import { expect, it } from 'vitest';
import { acceptedCodings, namesTag, rangeOf } from '../../../src/files/negotiate.ts';

// What anybody may send in the largest head that is taken costs no more than a usual one.

const mostBytes = 16_000;
const fill = (begin: string, piece: string, end = 'x') =>
  begin + piece.repeat((mostBytes - begin.length) / piece.length) + end;

it.each<[string, (header: string) => unknown, string, string]>([
  ['Range', (header) => rangeOf(header, 1000), 'bytes=', ' '],
  ['Range', (header) => rangeOf(header, 1000), '', ' '],
  ['Range', (header) => rangeOf(header, 1000), 'bytes=1', ' '],
  ['Range', (header) => rangeOf(header, 1000), 'bytes=1-1', ' '],
  ['Range', (header) => rangeOf(header, 1000), 'bytes=', '9'],
  ['Accept-Encoding', acceptedCodings, '', ','],
  ['Accept-Encoding', acceptedCodings, 'br', ' '],
  ['Accept-Encoding', acceptedCodings, 'br;', 'q '],
  ['Accept-Encoding', acceptedCodings, 'br;q=', ' '],
  ['If-None-Match', (header) => namesTag(header, '"a"'), '', '"'],
  ['If-None-Match', (header) => namesTag(header, '"a"'), '', 'W/"'],
  ['If-None-Match', (header) => namesTag(header, '"a"'), '"', 'a'],
  ['If-None-Match', (header) => namesTag(header, '"a"'), '', ' '],
])('W62 a long %s is read in no time (%#)', (_name, read, begin, piece) => {
  const header = fill(begin, piece);
  const spent = () => {
    const before = performance.now();
    read(header);
    return performance.now() - before;
  };
  expect(Math.min(spent(), spent(), spent())).toBeLessThan(20);
});

it.each([`bytes=0-${'9'.repeat(60)}`, `bytes=-${'9'.repeat(60)}`])('W62 %s is all of it, not more', (header) => {
  expect(rangeOf(header, 10)).toEqual({ start: 0, end: 9 });
});
