import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildLinkRewriter, forwardedPrefix } from '../../../src/exchange/links.ts';

const targets = [{ origin: 'http://127.0.0.1:3100' }, { origin: 'https://orders.internal' }];
const origin = 'https://app.example.com';

describe('forwardedPrefix', () => {
  const cases: [prefix: string, rewritePath: string, forwarded: string | undefined][] = [
    ['/api/orders', '/', '/api/orders'],
    ['/shop/api/orders', '/orders', '/shop/api'],
    ['/api/orders', '/api/orders', undefined],
    ['/api/orders', '/v1', undefined],
    ['/api/orders', '/ders', undefined],
    ['/api', '/api/orders', undefined],
    ['/', '/', undefined],
    ['', '/', undefined],
  ];
  it.each(cases)('W52 of %s and %s is %s', (prefix, rewritePath, forwarded) => {
    expect(forwardedPrefix(prefix, rewritePath)).toBe(forwarded);
  });

  it('W52 makes the path that the API gets the one that the browser asked for', () => {
    for (const [prefix, rewritePath, forwarded] of cases.filter(([, , each]) => each !== undefined))
      expect(`${forwarded}${rewritePath === '/' ? '' : rewritePath}`).toBe(prefix);
  });
});

describe('buildLinkRewriter', () => {
  const piece = fc.constantFrom(
    '/', '//', '\\', 'http:', 'https:', 'HTTP:', 'javascript:', '127.0.0.1', ':3100', ':443', ':80', 'orders.internal', 'app.example.com', 'evil.example',
    '@', '.', '..', '%2e', '%2f', '\t', ' ', '?', '#', 'api/orders', 'v1', 'x', '[::1]', ';',
  ); // biome-ignore format: rows
  const link = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
  const place = fc.constantFrom<[string, string]>(
    ['/api/orders', '/'],
    ['/api/orders', '/v1'],
    ['/api/v1', '/v1'],
    ['', '/'],
  );
  const page = `${origin}/api/orders/1`;
  const hostOf = (text: string) => (URL.canParse(text, page) ? new URL(text, page).host : undefined);

  it('W51 leads to where the API said, or to a path of ours: never to a third place', () => {
    fc.assert(
      fc.property(link, place, fc.constantFrom(200, 201, 302), (said, [prefix, rewritePath], status) => {
        const rewrite = buildLinkRewriter({ targets, origin, prefix, rewritePath });
        const got = rewrite('location', said, { method: 'GET', path: '/x', status });
        if (got === said) return;
        expect(got).toMatch(/^\/(?![/\\])/);
        expect(hostOf(got)).toBe('app.example.com');
      }),
      { numRuns: 2000 },
    );
  });

  it('W51 twice is as good as once, where the API is told what is stripped', () => {
    const rewrite = buildLinkRewriter({ targets, origin, prefix: '/api/orders', rewritePath: '/' });
    const asked = { method: 'GET', path: '/x', status: 302 };
    fc.assert(
      fc.property(link, (said) => {
        const once = rewrite('location', said, asked);
        if (once !== said) expect(rewrite('location', once, asked)).toBe(once);
      }),
    );
  });

  it('W51 takes no time over what it can’t read', () => {
    const rewrite = buildLinkRewriter({ targets, origin, prefix: '/api/orders', rewritePath: '/' });
    const asked = { method: 'GET', path: '/x', status: 302 };
    const sinceMs = performance.now();
    for (const unit of ['<', '"', '\\"', '"\\', '</a>', ' ', '0 ', '//', '; url='])
      for (const name of ['location', 'link', 'refresh'])
        rewrite(name, `0;${unit.repeat(16_000 / unit.length)}`, asked);
    expect(performance.now() - sinceMs).toBeLessThan(1000);
  });

  it('W51 keeps the bytes of a path that is not ASCII', () => {
    const rewrite = buildLinkRewriter({ targets, origin, prefix: '/api/orders', rewritePath: '/' });
    const asked = { method: 'GET', path: '/x', status: 302 };
    const sent = (text: string) => Buffer.from(text).toString('latin1'); // as undici reads UTF-8
    expect(rewrite('location', sent('/café?q=ü'), asked)).toBe('/api/orders/caf%C3%A9?q=%C3%BC');
    expect(rewrite('location', sent('https://other.example/café'), asked)).toBe(sent('https://other.example/café'));
    expect(rewrite('location', '/caf\xe9', asked)).toBe('/api/orders/caf%E9');
  });

  it('W51 takes a path alone for the API’s, also where a unix socket has the name of our origin', () => {
    const asked = { method: 'GET', path: '/x', status: 302 };
    const local = { targets: [{ origin: 'http://localhost' }], origin: 'http://localhost', prefix: '/api' };
    const rewrite = buildLinkRewriter({ ...local, rewritePath: '/' });
    expect(rewrite('location', '/2', asked)).toBe('/api/2');
    expect(rewrite('location', 'http://localhost/settings', asked)).toBe('http://localhost/settings');
  });

  it('W51 lets a GET that is sent to its own path at our origin go to the SPA: it would come back for ever', () => {
    const rewrite = buildLinkRewriter({ targets, origin, prefix: '/api', rewritePath: '/' });
    const location = (link: string, asked: { method: string; path: string; status?: number }) =>
      rewrite('location', link, { status: 302, ...asked });
    expect(location(`${origin}/`, { method: 'GET', path: '/' })).toBe(`${origin}/`);
    expect(location(`${origin}/items?a=1`, { method: 'HEAD', path: '/items?a=1' })).toBe(`${origin}/items?a=1`);
    expect(location(`${origin}/items?a=2`, { method: 'GET', path: '/items?a=1' })).toBe('/api/items?a=2');
    expect(location(`${origin}/items`, { method: 'POST', path: '/items', status: 303 })).toBe('/api/items');
    expect(location(`${origin}/items`, { method: 'GET', path: '/items', status: 201 })).toBe('/api/items');
    const polled = { method: 'GET', path: '/items', status: 200 };
    expect(rewrite('refresh', `5; url=${origin}/items`, polled)).toBe('5; url=/api/items');
  });
});
