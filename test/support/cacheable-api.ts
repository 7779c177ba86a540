import fc from 'fast-check';
import { decodeJwt } from 'jose';
import { type Respond, reply } from './echo-upstream/answers.ts';
import type { HeaderLine } from './raw-response.ts';

/** An API whose answers say for whom they are, under whatever caching headers a test gave to a path. */
export interface CacheableApi {
  respond: Respond;
  /** Caching headers by path, as the API sees it. */
  lines: Map<string, HeaderLine[]>;
}

/** It counts its users' records by version, as many do: equal entity tags for different people. */
export function createCacheableApi(): CacheableApi {
  const lines = new Map<string, HeaderLine[]>();
  return {
    lines,
    respond(request, socket) {
      const headers = lines.get(request.target) ?? [];
      const [, etag] = headers.find(([name]) => /^etag$/i.test(name)) ?? [];
      const isUnchanged = etag !== undefined && request.header('if-none-match')?.includes(etag) === true;
      const token = request.header('authorization')?.slice('Bearer '.length);
      const owner = token === undefined ? 'anybody' : String(decodeJwt(token).sub);
      return reply({ status: isUnchanged ? 304 : 200, headers, body: `for ${owner}` })(request, socket);
    },
  };
}

const anyCase = (text: fc.Arbitrary<string>) =>
  fc.tuple(text, fc.constantFrom('as it is', 'upper', 'title')).map(([value, how]) => {
    if (how === 'as it is') return value;
    return how === 'upper' ? value.toUpperCase() : `${value.charAt(0).toUpperCase()}${value.slice(1)}`;
  });

const directive = anyCase(
  fc.constantFrom(
    'public', 'public', 'max-age=600', 'max-age=0', 's-maxage=600', 's-maxage="600"', 's-maxage =600', 'max-age="600"', 'no-store', 'must-understand',
    'private', 'private="set-cookie"', 'private="x-a, x-b"', 'no-cache="set-cookie"', 'no-cache', 'must-revalidate', 'proxy-revalidate',
    'immutable', 'stale-while-revalidate=60', 'stale-if-error=600', 'x="private"', 'x="no-store, private"', 'x="a\\"private"', 'x-private', 'private-x',
    'not-private=1', 'x="private', '', 'max-age=600; private',
  ),
); // biome-ignore format: rows

const cacheControl = anyCase(fc.constant('cache-control')).chain((name) =>
  fc.array(directive, { minLength: 1, maxLength: 4 }).map((parts): HeaderLine => [name, parts.join(', ')]),
);

const later = 'Thu, 01 Jan 2099 00:00:00 GMT';
const other: fc.Arbitrary<HeaderLine> = fc
  .constantFrom<HeaderLine>(
    ['expires', later], ['expires', later], ['expires', '0'], ['pragma', 'public'], ['pragma', 'no-cache'], ['age', '0'], ['age', '10'], ['age', '-1'],
    ['vary', 'Authorization'], ['vary', 'Accept, Authorization'], ['vary', 'cookie'], ['vary', 'Accept-Encoding'], ['vary', ''], ['vary', '"'],
    ['etag', '"1"'], ['etag', 'W/"1"'], ['last-modified', 'Mon, 01 Jan 2024 00:00:00 GMT'], ['connection', 'cache-control'], ['connection', 'vary'],
    ['cdn-cache-control', 'public, max-age=600'], ['surrogate-control', 'max-age=600'], ['cloudflare-cdn-cache-control', 'max-age=600'],
    ['x-accel-expires', '600'], ['x-accel-expires', '@4070908800'], ['x-accel-redirect', '/'], ['x-accel-buffering', 'yes'], ['x-accel-limit-rate', '0'],
  )
  .chain(([name, value]) => anyCase(fc.constant(name)).map((written): HeaderLine => [written, value])); // biome-ignore format: rows

/** What APIs say about caching, and what they say wrongly. A bias towards what caches like to store. */
export const cachingLines: fc.Arbitrary<HeaderLine[]> = fc
  .tuple(fc.array(cacheControl, { maxLength: 3 }), fc.array(other, { maxLength: 5 }))
  .map(([control, rest]) => [...control, ...rest]);
