import fc from 'fast-check';
import { util } from 'undici';
import { describe, expect, it } from 'vitest';
import {
  buildBrowserHeaders,
  buildBrowserTrailers,
  buildExtraHeaders,
  buildUpstreamHeaders,
} from '../../../src/exchange/headers.ts';

const none = buildExtraHeaders([]);
const replaced = { authorization: 'Bearer ours', 'x-forwarded-for': '1.2.3.4', via: '1.1 us' };

/** Any case, any of `-_.` between the words, and names that mean something to somebody. */
const names = fc
  .constantFrom(
    'authorization', 'cookie', 'set-cookie', 'x-forwarded-for', 'x-forwarded-user', 'forwarded', 'via', 'connection', 'host', 'transfer-encoding',
    'te', 'upgrade', 'keep-alive', 'expect', 'proxy-authorization', 'trailer', 'http2-settings', 'x-real-ip', 'x-http-method-override', 'dpop',
    'access-control-allow-origin', 'accept', 'content-type', 'content-length', 'range', 'x-shop-id', 'constructor', '__proto__', 'toString',
  )
  .chain((name) => fc.constantFrom(name, name.toUpperCase(), name.replaceAll('-', '_'), name.replaceAll('-', '.'))); // biome-ignore format: rows
const lines = fc
  .array(
    fc.tuple(names, fc.constantFrom('evil', 'close', 'authorization, via, x-forwarded-for, accept', 'chunked', '5')),
  )
  .map((pairs) => pairs.flat());

/** As undici hands an answer's headers over. */
const read = (raw: (string | Buffer)[]) => util.parseHeaders(raw.map((item) => Buffer.from(item as string, 'latin1')));
const pairs = (flat: string[]) => flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]]] : []));

describe('buildUpstreamHeaders', () => {
  it('T67 passes on nothing that identifies, frames or hops, and ours exactly once', () => {
    fc.assert(
      fc.property(lines, fc.boolean(), (raw, hasBody) => {
        const headers = pairs(
          buildUpstreamHeaders(raw, { extra: none, hasBody, replaced: Object.entries(replaced).flat() }),
        );
        for (const [name, value] of headers) {
          expect(name).toMatch(/^(accept|content-type|content-length|range|authorization|x-forwarded-for|via)$/);
          if (name !== undefined && name in replaced) expect(value).toBe(replaced[name as keyof typeof replaced]);
        }
        for (const name of Object.keys(replaced)) expect(headers.filter(([each]) => each === name)).toHaveLength(1);
      }),
    );
  });

  it('T66 a Connection header takes away only what the client brought', () => {
    const raw = ['Connection', 'accept, authorization', 'Accept', 'x', 'Range', 'y'];
    expect(buildUpstreamHeaders(raw, { extra: none, hasBody: false, replaced: ['authorization', 'a'] })).toEqual([
      'range', 'y', 'authorization', 'a',
    ]); // biome-ignore format: pairs
  });

  it('T66 all Connection headers count, in any case', () => {
    const raw = [
      'Connection',
      'keep-alive',
      'connection',
      'Accept',
      'CONNECTION',
      'x, RANGE',
      'Accept',
      'x',
      'Range',
      'y',
    ];
    expect(buildUpstreamHeaders(raw, { extra: none, hasBody: false, replaced: [] })).toEqual([]);
  });

  it('a wildcard opens only what it was meant for', () => {
    const extra = buildExtraHeaders(['x-*x', 'x-f*', 'x-shop-*', 's*', 'x-tenant']);
    const raw = [
      'X-Forwarded-User',
      'a',
      'X-Foo',
      'b',
      'X-Shop-Id',
      'c',
      'Set-Cookie',
      'd',
      'Sec-Fetch-Site',
      'e',
      'X-Tenant',
      'f',
      'X_Shop_Id',
      'g',
    ];
    expect(pairs(buildUpstreamHeaders(raw, { extra, hasBody: false, replaced: [] }))).toEqual([
      ['x-foo', 'b'],
      ['x-shop-id', 'c'],
      ['x-tenant', 'f'],
    ]);
  });
});

describe('buildBrowserHeaders', () => {
  const options = {
    extra: none,
    cache: false,
    callerHeaders: ['Cookie'],
    rewriteLinks: (_name: string, value: string) => value,
  };
  const answered = { method: 'GET', status: 200, path: '/', owner: undefined, isStream: false };

  it('T71 T72 passes back no cookie, no CORS and nothing of the hop', () => {
    fc.assert(
      fc.property(lines, (raw) => {
        for (const [name] of pairs(buildBrowserHeaders(read(raw), options, answered)))
          expect(name).toMatch(/^(content-type|content-length|cache-control)$/);
      }),
    );
  });

  it('T54 says no-store exactly once unless the API may be cached', () => {
    const raw = ['Cache-Control', 'public', 'cache-control', 'max-age=1', 'Expires', '0', 'Age', '1'];
    expect(buildBrowserHeaders(read(raw), options, answered)).toEqual(['cache-control', 'no-store']);
    expect(buildBrowserHeaders(read(raw), { ...options, cache: true }, answered)).toEqual([
      'cache-control', 'public, max-age=1', 'expires', '0', 'age', '1',
    ]); // biome-ignore format: pairs
  });

  it('T72 all Connection headers count, in any case', () => {
    const raw = ['Connection', 'keep-alive', 'Connection', 'ETag', 'Connection', 'x, VARY', 'ETag', 'a', 'Vary', 'b'];
    expect(buildBrowserHeaders(read(raw), options, answered)).toEqual(['cache-control', 'no-store']);
  });

  it('passes back every line of a header, in order', () => {
    const raw = ['Link', 'a', 'Vary', 'b', 'LINK', 'c', 'Vary', '', 'link', 'd'];
    expect(pairs(buildBrowserHeaders(read(raw), options, answered)).slice(0, -1)).toEqual([
      ['link', 'a'],
      ['link', 'c'],
      ['link', 'd'],
      ['vary', 'b'],
      ['vary', ''],
    ]);
  });

  it('T38 names that objects have of their own are names like others', () => {
    const extra = buildExtraHeaders(['__proto__', 'constructor', 'to*']);
    const raw = ['__proto__', 'a', 'Constructor', 'b', 'toString', 'c', '__proto__', 'd', 'hasOwnProperty', 'e'];
    expect(pairs(buildBrowserHeaders(read(raw), { ...options, extra, cache: true }, answered))).toEqual([
      ['__proto__', 'a'],
      ['__proto__', 'd'],
      ['constructor', 'b'],
      ['tostring', 'c'],
    ]);
    expect(buildBrowserTrailers(read(raw), none, undefined)).toEqual([]);
  });

  it('W3 passes nothing that steers a cache or a proxy in front, whatever names are listed', () => {
    const names = [
      'cdn-cache-control', 'surrogate-control', 'surrogate-key', 'cloudflare-cdn-cache-control', 'x-total-cache-control', 'x-accel-expires',
      'x-accel-redirect', 'x-sendfile', 'edge-control', 'pragma', 'clear-site-data', 'netlify-vary', 'x-litespeed-cache-control',
      'cache-groups', 'cache-group-invalidation', 'no-vary-search', 'use-as-dictionary',
    ]; // biome-ignore format: rows
    const raw = [...names.flatMap((name) => [name.toUpperCase(), 'evil']), 'X-Total-Count', '7'];
    for (const listed of [names, names.map((name) => `${name.slice(0, 2)}*`), ['x-total-*']]) {
      const extra = buildExtraHeaders([...listed, 'x-total-*']);
      expect(buildBrowserHeaders(read(raw), { ...options, extra }, answered)).toEqual([
        'x-total-count', '7', 'cache-control', 'no-store',
      ]); // biome-ignore format: pairs
      expect(buildBrowserTrailers(read(raw), extra, undefined)).toEqual([['x-total-count', '7']]);
    }
  });

  it('W50 passes nothing that is about the whole origin, nor what is ours, whatever a wildcard would open', () => {
    const extra = buildExtraHeaders(['a*', 'n*', 'p*', 's*', 'x-*']);
    const raw = [
      'Strict-Transport-Security', 'Alt-Svc', 'Accept-CH', 'NEL', 'Service-Worker-Allowed', 'Public-Key-Pins-Report-Only',
      'Secure-Session-Registration', 'Set-Cookie2', 'X-Content-Type-Options', 'X-Powered-By', 'Access-Control', 'Sec-GPC', 'X-Total', 'P3P',
    ].flatMap((name) => [name, 'evil']); // biome-ignore format: rows
    expect(buildBrowserHeaders(read(raw), { ...options, extra }, answered).filter((_, index) => index % 2 === 0)).toEqual([
      'x-total', 'p3p', 'cache-control',
    ]); // biome-ignore format: names
  });

  it('W61 a wildcard opens the trailers that Connect puts into the head', () => {
    const extra = buildExtraHeaders(['trailer-*']);
    const raw = ['Trailer-Total', '7', 'Trailer', 'x'];
    expect(pairs(buildBrowserHeaders(read(raw), { ...options, extra }, answered))[0]).toEqual(['trailer-total', '7']);
  });

  it('W3 what Connection names is not there, and what we say is', () => {
    const raw = [
      'Connection',
      'cache-control, vary, expires',
      'Cache-Control',
      'max-age=1',
      'Vary',
      'a',
      'Expires',
      '1',
    ];
    const owned = { ...answered, owner: 'alice' };
    expect(pairs(buildBrowserHeaders(read(raw), { ...options, cache: true }, owned))).toEqual([
      ['cache-control', 'private'],
      ['vary', 'Cookie'],
    ]);
  });

  it('W3 of the headers to nginx only the one that lets a stream through', () => {
    const values = ['no', 'No', 'yes', '', 'no, no', '0'];
    const passed = (value: string, isStream: boolean) =>
      pairs(buildBrowserHeaders(read(['X-Accel-Buffering', value]), options, { ...answered, isStream })).filter(
        ([name]) => name === 'x-accel-buffering',
      );
    expect(values.filter((value) => passed(value, false).length > 0)).toEqual(['no', 'No']);
    for (const value of values) expect(passed(value, true)).toEqual([['x-accel-buffering', 'no']]);
  });

  it('T72 passes only token challenges back', () => {
    const challenges = [
      'Bearer',
      'bearer realm="x"',
      'DPoP algs="ES256"',
      'Basic',
      'Negotiate',
      'Bearer, Basic realm=x',
      'Bearer x, NTLM y',
      'BearerBasic',
    ];
    const passed = challenges.filter((value) =>
      buildBrowserHeaders(read(['WWW-Authenticate', value]), options, answered).includes(value),
    );
    expect(passed).toEqual(['Bearer', 'bearer realm="x"', 'DPoP algs="ES256"']);
  });

  it('T85 marks a refusal of the upstream as such', () => {
    for (const status of [401, 403])
      expect(buildBrowserHeaders({}, options, { ...answered, status })).toContain(
        `cloakroom; received-status=${status}`,
      );
    expect(buildBrowserHeaders({}, options, { ...answered, status: 404 })).not.toContain('proxy-status');
  });

  it('keeps bytes beyond ASCII', () => {
    const raw = [Buffer.from('ETag'), Buffer.from('"ü"', 'latin1')];
    expect(buildBrowserHeaders(util.parseHeaders(raw), options, answered).slice(0, 2)).toEqual(['etag', '"ü"']);
  });
});

describe('buildBrowserTrailers', () => {
  it('marks a tag with its owner, as the header is: some caches take trailers for headers', () => {
    expect(buildBrowserTrailers(read(['ETag', '"1"']), none, 'alice')).toEqual([['etag', '"alice.1"']]);
    expect(buildBrowserTrailers(read(['ETag', '"1"']), none, undefined)).toEqual([['etag', '"1"']]);
  });

  it('passes integrity and timing back, and names that the API listed', () => {
    const raw = [
      'Server-Timing',
      'a',
      'X-Total',
      'b',
      'Set-Cookie',
      'c',
      'Content-Length',
      '1',
      'Location',
      '/',
      'X-Other',
      'd',
    ];
    expect(buildBrowserTrailers(read(raw), buildExtraHeaders(['x-total', 'location']), undefined)).toEqual([
      ['server-timing', 'a'],
      ['x-total', 'b'],
    ]);
  });
});
