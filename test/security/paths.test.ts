import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTwoUpstreams, type TwoUpstreams } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// T59, T77 to T81, T89: the path that was judged is the path that is sent. Sent over bare sockets: clients normalize.

let world: TwoUpstreams;

beforeAll(async () => {
  world = await startTwoUpstreams((data, otherUrl) => {
    data.apis.inner = { path: '/api/inner', upstream: data.apis.orders.upstream, rewritePath: '/v1/inner' };
    // Upstream and path that would be one text if somebody glued them together (reply-from's URL cache did).
    data.apis.near = { path: '/near', upstream: data.apis.orders.upstream, rewritePath: '/1' };
    data.apis.far = { path: '/far', upstream: otherUrl, rewritePath: '/1' };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const send = (target: string, lines: string[] = []) => rawRequest(world.port, world.head(target, lines));

const ambiguous = [
  // dot segments
  '/api/orders/../admin', '/api/orders/..', '/api/orders/.', '/api/./orders/x', '/api/orders/./x', '/./api/orders/x', '/../api/orders/x',
  '/api/orders/%2e%2e/admin', '/api/orders/%2E%2E/admin', '/api/orders/.%2e/admin', '/api/orders/%2e./admin', '/api/orders/%2e/x',
  '/api/orders/..;/admin', '/api/orders/..;a=b/admin', '/api/orders/.;/x', '/api/orders/..%3b/admin', '/api/orders/%2e%2e%3B/x',
  '/api/orders/a;x=/../b', '/api/orders/x/..?y', '/api/orders/..%2f..%2fadmin', '/api/orders/..%5cadmin', '/api/orders/..%00/admin',
  // separators
  '/api/orders/x\\..\\..\\..\\admin', '/api/orders\\..\\admin', '/api\\orders/x', '/api/orders/x%5c..%5c..%5cadmin', '/api/orders/a%5Cb',
  '/api/orders/%2f%2fevil', '/api/orders/a%2Fb', '/api/orders//evil', '//api/orders/x', '/api//orders/x', '/api/orders//', '///evil',
  '/api/orders/;/admin', '/api/orders/;x=1/admin', '/api/orders/%3b/admin', '/api/orders/%3Bx/admin', '/;/api/orders/x', '/api/orders/;',
  // double encoding
  '/api/orders/%252e%252e%252fadmin', '/api/orders/%25%32%65', '/api/orders/%2525', '/api/orders/%25c0%25ae',
  // what is no text
  '/api/orders/a%00', '/api/orders/a%00.json', '/api/orders/%0d%0aX:y', '/api/orders/%09', '/api/orders/%1f', '/api/orders/%7f',
  '/api/orders/%c0%ae%c0%ae/', '/api/orders/%c0%af', '/api/orders/%ff', '/api/orders/%e0%80%ae', '/api/orders/%f0%28%8c%28',
  '/api/orders/%', '/api/orders/%4', '/api/orders/%zz', '/api/orders/%u002e', '/api/orders/%%32%65',
  // fragments
  '/api/orders/a#/public', '/api/public#/../orders', '/api/orders?x#y', '/api/orders/#',
  // bytes that no URL has
  '/api/orders/\x80', '/api/orders/\u00fc', '/api/orders?q=\u00fc', '/api/orders/\xc0\xae',
  // the router would decode what the upstream does not (T59)
  '/%61pi/orders/x', '/api/%6frders/x', '/api/order%73/x', '/%61pi/public/x',
]; // biome-ignore format: a corpus reads better in rows

describe('ambiguous targets', () => {
  for (const target of ambiguous) {
    it(`T78 refuses ${JSON.stringify(target)}`, async () => {
      const result = await send(target);
      expect(result.status, result.text).toBe(400);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('T77 refuses dot segments behind every prefix, public or not', async () => {
    for (const prefix of ['/api/public', '/api/inner', '/bff', '/bff/login', '/'])
      for (const step of ['/../api/orders/1', '/%2e%2e/orders/1', '/..%2forders', '/.%2e/orders/1', '/..;/orders/1'])
        expect((await send(`${prefix}${step}`)).status, prefix + step).toBe(400);
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('targets with a host', () => {
  it('T80 serves an absolute-form target of its own host as what it is', async () => {
    expect((await send(`http://localhost:${world.port}/api/orders/1?a=b`)).status).toBe(200);
    expect(world.upstream.requests.map(({ target }) => target)).toEqual(['/1?a=b']);
    expect(world.upstream.requests[0]?.header('host')).toBe(`127.0.0.1:${world.upstream.port}`);
  });

  it('T80 lets the authority of an absolute-form target replace Host', async () => {
    const head = `GET http://localhost:${world.port}/api/orders/1 HTTP/1.1\r\nHost: evil.example\r\n${world.cookieLine}\r\nX-CSRF: 1\r\n\r\n`;
    expect((await rawRequest(world.port, head)).status).toBe(200);
    expect(world.upstream.requests[0]?.header('x-forwarded-host')).toBe(`localhost:${world.port}`);
  });

  const foreign: [target: string, status: number][] = [
    ['http://evil.example/api/orders/1', 421],
    ['http://169.254.169.254/latest/meta-data', 421],
    ['https://localhost/api/orders/1', 421],
    ['http://localhost:1/api/orders/1', 421],
    ['http://evil@localhost:PORT/api/orders/1', 400],
    ['http://localhost:PORT@evil.example/api/orders/1', 400],
    ['http://localhost:PORT\\@evil.example/api/orders/1', 400],
    ['http://localhost:PORT/api/orders/../x', 400],
    ['http://localhost:PORT//api/orders/x', 400],
    ['http://localhost:PORT?/api/orders/x', 400],
    ['http:///api/orders/1', 400],
    ['http:/api/orders/1', 400],
    ['ftp://localhost:PORT/api/orders/1', 400],
    ['javascript:alert(1)', 400],
    ['*', 400],
    ['api/orders/1', 400],
    ['?x', 400],
  ];
  for (const [target, status] of foreign) {
    it(`T80 goes nowhere for ${target}`, async () => {
      const result = await send(target.replace('PORT', String(world.port)));
      expect(result.status, result.text).toBe(status);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('T80 opens no tunnel', async () => {
    const before = world.upstream.accepted;
    for (const target of ['evil.example:443', `127.0.0.1:${world.upstream.port}`, '/api/orders/1']) {
      const result = await rawRequest(world.port, world.head(target, [], 'CONNECT'), {
        untilClose: true,
        timeoutMs: 2000,
      });
      expect(result.text).not.toMatch(/^HTTP\/1\.1 2/);
      expect(result.closed).toBe(true);
    }
    expect(world.upstream.accepted).toBe(before);
  });

  it('T80 needs a session for an absolute-form target too', async () => {
    const head = `GET http://localhost:${world.port}/api/orders/1 HTTP/1.1\r\nHost: localhost:${world.port}\r\nX-CSRF: 1\r\n\r\n`;
    expect((await rawRequest(world.port, head)).status).toBe(401);
    expect(world.upstream.requests).toEqual([]);
  });

  it('T59 asks for the CSRF proof however the target is written', async () => {
    for (const target of [
      `http://localhost:${world.port}/api/orders/1`,
      '/api/orders/1',
      '/api/orders',
      '/api/orders?x',
    ]) {
      const head = world.head(target, ['Content-Length: 0'], 'POST').replace('X-CSRF: 1\r\n', '');
      expect((await rawRequest(world.port, head)).status, target).toBe(403);
    }
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('near misses', () => {
  const unknown = [
    '/API/orders/a', '/api/Orders/a', '/api/orders.', '/api/ordersevil', '/api/orders@evil', '/api/orders;x', '/api/orders.json',
    '/api/order', '/api', '/api/', '/', '/orders', '/bff', '/bff/', '/bff/loginx', '/bff/admin', '/metrics', '/livez', '/admin',
    '/healthz', '/near1', '/nearer/x',
  ]; // biome-ignore format: a corpus reads better in rows
  for (const target of unknown) {
    it(`T81 does not take ${target} for an API`, async () => {
      expect((await send(target)).status).toBe(404);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('T82 opens nothing for the user agents and paths of health checks', async () => {
    for (const agent of [
      'GoogleHC/1.0',
      'ELB-HealthChecker/2.0',
      'kube-probe/1.30',
      'Amazon-Route53-Health-Check-Service',
    ]) {
      for (const [target, status] of [
        ['/api/orders/1', 401],
        ['/healthz/../api/orders', 400],
        ['/healthz', 404],
      ] as const) {
        const head = `GET ${target} HTTP/1.1\r\nHost: localhost:${world.port}\r\nUser-Agent: ${agent}\r\n\r\n`;
        expect((await rawRequest(world.port, head)).status, `${agent} ${target}`).toBe(status);
      }
    }
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('what arrives', () => {
  const exact: [sent: string, arrived: string][] = [
    ['/api/orders', '/'],
    ['/api/orders/', '/'],
    ['/api/orders?a=1', '/?a=1'],
    ['/api/orders/?', '/?'],
    ['/api/orders/a%20b/%C3%BC', '/a%20b/%C3%BC'],
    ['/api/orders/a.b..c/...', '/a.b..c/...'],
    ['/api/orders/%2ehidden', '/%2ehidden'],
    ['/api/orders/100%25', '/100%25'],
    ['/api/orders/a;v=1,2/b@c:d', '/a;v=1,2/b@c:d'],
    ["/api/orders/~_-!$&'()*+=", "/~_-!$&'()*+="],
    ['/api/orders/x?b=/../&c=//&d=%2e%2e%2f&e=?&f=%00&g=\\', '/x?b=/../&c=//&d=%2e%2e%2f&e=?&f=%00&g=\\'],
    ['/api/orders/private?x=/api/public/', '/private?x=/api/public/'],
    ['/api/inner', '/v1/inner'],
    ['/api/inner?a', '/v1/inner?a'],
    ['/api/inner/', '/v1/inner/'],
    ['/api/inner/api/inner/x?a', '/v1/inner/api/inner/x?a'],
  ];
  for (const [sent, arrived] of exact) {
    it(`T79 ${sent} arrives as ${arrived}`, async () => {
      const result = await send(sent);
      expect(result.status, result.text).toBe(200);
      expect(world.upstream.requests.map(({ target }) => target)).toEqual([arrived]);
    });
  }

  it('T89 each of two APIs with paths that collide when glued together reaches its own upstream', async () => {
    for (let round = 0; round < 3; round++) {
      for (const tail of ['/1', '/11', '/1/1', '']) {
        expect((await send(`/near${tail}`)).body).toBe('{"ok":true}');
        expect((await send(`/far${tail}`)).body).toBe('other');
      }
    }
    expect(world.upstream.requests.map(({ target }) => target)).toEqual(
      world.other.requests.map(({ target }) => target),
    );
  });
});
