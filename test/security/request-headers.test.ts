import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// T64 to T70, T74, T75, T63: what of a request reaches an upstream is an allow-list; who it is from, we say.

let world: ProxyWorld;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    data.apis.orders.forwardHeaders = ['x-shop-*', 'x-tenant'];
    data.apis.whole = { path: '/api/whole', upstream, rewritePath: '/api/whole' };
    data.apis.tail = { path: '/api/tail/v1', upstream, rewritePath: '/tail/v1' };
    data.apis.other = { path: '/api/other', upstream, rewritePath: '/v1' };
    data.apis.live = { path: '/api/live', upstream, websocket: {} };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

/** Sends Alice's request with more header lines and returns what the upstream saw. */
async function arrives(target: string, lines: string[]) {
  const result = await rawRequest(world.port, world.head(target, lines));
  expect(result.status, result.text).toBe(200);
  expect(world.upstream.requests).toHaveLength(1);
  return world.upstream.requests[0] as (typeof world.upstream.requests)[0];
}

const names = (request: { headers: [string, string][] }) => request.headers.map(([name]) => name.toLowerCase());

describe('identity', () => {
  it('T64 replaces the Authorization of a client by the token of its session', async () => {
    const request = await arrives('/api/orders/1', ['Authorization: Bearer attacker', 'authorization: Basic eDp5']);
    expect(request.all('authorization')).toHaveLength(1);
    expect(request.header('authorization')).toBe(`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`);
  });

  it('T65 attaches no bearer and passes none on at a public API', async () => {
    const request = await arrives('/api/public/1', ['Authorization: Bearer attacker', 'DPoP: x']);
    expect(request.header('authorization')).toBeUndefined();
    expect(request.header('dpop')).toBeUndefined();
    expect(request.header('cookie')).toBeUndefined();
  });

  it('T65 passes no Authorization on for anonymous callers of a public API', async () => {
    const head = `GET /api/public/1 HTTP/1.1\r\nHost: localhost:${world.port}\r\nAuthorization: Bearer attacker\r\n\r\n`;
    expect((await rawRequest(world.port, head)).status).toBe(200);
    expect(world.upstream.requests[0]?.header('authorization')).toBeUndefined();
  });

  it('T65 takes no Authorization for a session', async () => {
    const head = `GET /api/orders/1 HTTP/1.1\r\nHost: localhost:${world.port}\r\nX-CSRF: 1\r\nAuthorization: Bearer x\r\n\r\n`;
    expect((await rawRequest(world.port, head)).status).toBe(401);
    expect(world.upstream.requests).toEqual([]);
  });

  it('T74 keeps every cookie to itself', async () => {
    for (const target of ['/api/orders/1', '/api/public/1']) {
      world.fresh();
      expect(names(await arrives(target, ['Cookie: theme=dark', 'Cookie2: $Version=1']))).not.toContain('cookie');
      expect(world.upstream.requests[0]?.headerLines.join()).not.toMatch(/theme|cookie/i);
    }
  });

  const spoofed = [
    'X_Forwarded_User', 'X-Forwarded-User', 'x.user', 'AUTHORIZATION_', 'X-User-Id', 'X-Remote-User', 'Remote-User',
    'X-Auth-Request-Email', 'X-Amzn-Oidc-Data', 'X-Authenticated-Userid', 'X-Client-Cert', 'SSL-Client-Cert',
    'X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override', 'X-Original-URL', 'X-Rewrite-URL',
    'X-Forwarded-Port', 'X-Forwarded-Prefixes', 'X-Forwarded-Uri', 'X-Forwarded-Ssl', 'X-Forwarded-Scheme',
    'X_Forwarded_For', 'Forwarded', 'X-Real-IP', 'True-Client-IP', 'CF-Connecting-IP', 'X-Cluster-Client-IP', 'Client-IP',
    'Fastly-Client-IP', 'X-Client-IP', 'X-Host', 'X-Forwarded-Server', 'Sec-Fetch-Site', 'X-CSRF', 'Origin', 'Referer',
    'Access-Control-Request-Method',
  ]; // biome-ignore format: a list of names reads better in rows
  for (const name of spoofed) {
    it(`T67 passes no ${name} on`, async () => {
      const value = 'evil-value';
      const sentAnyway = /^(Sec-Fetch-Site|X-CSRF)$/.test(name);
      const lines = sentAnyway ? [] : [`${name}: ${name === 'Origin' ? world.origin : value}`];
      const request = await arrives('/api/orders/1', lines);
      expect(names(request)).not.toContain(name.toLowerCase());
      expect(request.headerLines.join('\n')).not.toContain(value);
    });
  }

  for (const line of [
    'Authorization : Bearer x',
    'Authorization\t: Bearer x',
    'X-Forwarded-User : x',
    ' Cookie: a=b',
  ]) {
    it(`T67 refuses the malformed line ${JSON.stringify(line)}`, async () => {
      expect((await rawRequest(world.port, world.head('/api/orders/1', ['Accept: */*', line]))).status).toBe(400);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('T63 passes a GET on as a GET whatever override it names', async () => {
    const request = await arrives('/api/orders/1', ['X-HTTP-Method-Override: DELETE', '_method: DELETE']);
    expect(request.method).toBe('GET');
    expect(request.headerLines.join()).not.toContain('DELETE');
  });
});

describe('where a request comes from', () => {
  it('T68 says it itself when the peer is not trusted', async () => {
    const lies = ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: evil.example'];
    const request = await arrives('/api/orders/1', lies);
    expect(request.all('x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(request.all('x-forwarded-proto')).toEqual(['http']);
    expect(request.all('x-forwarded-host')).toEqual([`localhost:${world.port}`]);
    expect(world.log.text()).not.toMatch(/6\.6\.6\.6|evil\.example/);
  });

  // What stands in front of the path that the API gets, or nothing where no prefix would be true.
  const prefixes: [target: string, arrives: string, prefix: string | undefined][] = [
    ['/api/orders/1', '/1', '/api/orders'],
    ['/api/orders', '/', '/api/orders'],
    ['/api/whole/1', '/api/whole/1', undefined],
    ['/api/tail/v1/1', '/tail/v1/1', '/api'],
    ['/api/other/1', '/v1/1', undefined],
  ];
  for (const [target, path, prefix] of prefixes) {
    it(`W52 says to ${path} that ${prefix ?? 'nothing'} was stripped, whatever the browser says`, async () => {
      const request = await arrives(target, ['X-Forwarded-Prefix: /evil', 'x-forwarded-prefix: /evil']);
      expect(request.target).toBe(path);
      expect(request.all('x-forwarded-prefix')).toEqual(prefix === undefined ? [] : [prefix]);
    });
  }

  it('W52 says it to WebSocket handshakes', async () => {
    const handshake = [
      'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'X-Forwarded-Prefix: /evil',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', `Origin: ${world.origin}`,
    ]; // biome-ignore format: a list of lines reads better in rows
    await rawRequest(world.port, world.head('/api/live/1', handshake)); // the upstream answers 200, which is no 101
    expect(world.upstream.requests[0]?.header('upgrade')).toBe('websocket');
    expect(world.upstream.requests[0]?.all('x-forwarded-prefix')).toEqual(['/api/live']);
  });

  it('T68 names this hop in Via and keeps the hops before it', async () => {
    const request = await arrives('/api/orders/1', ['Via: 1.1 outer']);
    expect(request.all('via')).toHaveLength(1);
    expect(request.header('via')).toMatch(/^1\.1 outer, 1\.1 cloakroom-[\w-]{8}$/);
  });

  it('T68 ends a loop through itself', async () => {
    const via = (await arrives('/api/orders/1', [])).header('via');
    const again = await rawRequest(world.port, world.head('/api/orders/1', [`Via: 1.1 other, ${via}`]));
    expect(again.status).toBe(508);
    expect(world.upstream.requests).toHaveLength(1);
  });

  it('T68 makes its own request id when the one sent is not plain', async () => {
    for (const id of ['short', 'a b c d e f g h', '"><script>alert(1)</script>', '10.20.30.40', 'x'.repeat(65)]) {
      world.fresh();
      expect((await arrives('/api/orders/1', [`X-Request-Id: ${id}`])).header('x-request-id')).toMatch(
        /^[\w-]{12}-[0-9a-z]+$/,
      );
    }
  });
});

describe('behind a trusted proxy', () => {
  let behind: ProxyWorld;
  beforeAll(async () => {
    behind = await startProxyWorld((data) => {
      data.trustedProxies = ['127.0.0.1', '10.0.0.0/8'];
    });
    behind.fresh();
  });
  afterAll(() => behind.stop());

  it('T69 takes the right-most address that is not a trusted proxy out of 50', async () => {
    const list = [...Array.from({ length: 47 }, (_, index) => `6.6.6.${index}`), '203.0.113.9', '10.1.1.1', '10.2.2.2'];
    await rawRequest(behind.port, behind.head('/api/orders/1', [`X-Forwarded-For: ${list.join(', ')}`]));
    expect(behind.upstream.requests[0]?.all('x-forwarded-for')).toEqual(['203.0.113.9']);
  });

  it('T69 still takes host, scheme and everything else from its configuration', async () => {
    behind.fresh();
    const lies = ['X-Forwarded-Host: evil.example', 'X-Forwarded-Proto: https', 'X-Forwarded-Port: 1'];
    expect((await rawRequest(behind.port, behind.head('/api/orders/1', lies))).status).toBe(200);
    expect(behind.upstream.requests[0]?.header('x-forwarded-host')).toBe(`localhost:${behind.port}`);
    expect(behind.upstream.requests[0]?.header('x-forwarded-proto')).toBe('http');
  });
});

describe('hop by hop', () => {
  it('T66 keeps its own headers whatever Connection names', async () => {
    const named = 'authorization, cookie, x-csrf, host, via, x-forwarded-for, x-request-id, accept-language';
    const request = await arrives('/api/orders/1', [`Connection: ${named}`, 'Accept-Language: de', 'Accept: */*']);
    for (const name of ['authorization', 'host', 'via', 'x-forwarded-for', 'x-request-id', 'accept'])
      expect(request.all(name), name).toHaveLength(1);
    expect(request.header('accept-language')).toBeUndefined(); // the one that was the client's to withdraw
  });

  it('T66 checks CSRF on the headers as they were sent', async () => {
    const head = world.head('/api/orders/1', ['Connection: x-csrf, sec-fetch-site', 'Content-Length: 0'], 'POST');
    expect((await rawRequest(world.port, head)).status).toBe(200);
    const without = head.replace('X-CSRF: 1\r\n', '');
    expect((await rawRequest(world.port, without)).status).toBe(403);
  });

  const hopByHop = [
    'Keep-Alive: timeout=5', 'Upgrade: h2c', 'Expect: 100-continue', 'TE: gzip', 'TE: trailers', 'Trailer: x',
    'Proxy-Authorization: Basic eDp5', 'Proxy-Connection: keep-alive', 'HTTP2-Settings: AAMAAABkAAQAAP__', 'Max-Forwards: 3',
  ]; // biome-ignore format: a list of lines reads better in rows
  for (const line of hopByHop) {
    it(`T70 serves a request with "${line}" and passes it no further`, async () => {
      const request = await arrives('/api/orders/1', [line]);
      expect(names(request)).not.toContain(line.split(':')[0]?.toLowerCase());
    });
  }

  it.each(['foo', '', '100-continue, foo', '100-continue;q=1'])(
    'W13 answers the unknown expectation "%s" with a problem of ours',
    async (expectation) => {
      const result = await rawRequest(world.port, world.head('/api/orders/1', [`Expect: ${expectation}`]));
      expect(result.status).toBe(417);
      expect(JSON.parse(result.body)).toMatchObject({ code: 'BFF_EXPECTATION_FAILED', status: 417 });
      expect(world.upstream.requests).toEqual([]);
    },
  );

  it('T70 passes an upload on that waited for 100-continue', async () => {
    const head = world.head('/api/orders/1', ['Expect: 100-continue', 'Content-Length: 2'], 'POST');
    const result = await rawRequest(world.port, [head, 'hi']);
    expect(result.status).toBe(200);
    expect(world.upstream.requests[0]?.body.toString()).toBe('hi');
    expect(world.upstream.requests[0]?.header('expect')).toBeUndefined();
  });
});

describe('values', () => {
  it('T75 passes a value of bytes beyond ASCII on byte by byte, or refuses it', async () => {
    const request = await arrives('/api/orders/1', ['X-Tenant: M\u00fcller']);
    expect(request.header('x-tenant')).toBe('M\u00fcller');
  });

  it('passes on what the API asked for and the standard headers', async () => {
    const request = await arrives('/api/orders/1', [
      'X-Shop-Id: 7',
      'X-Shopping: no',
      'Range: bytes=0-1',
      'If-Match: "a"',
    ]);
    expect(names(request)).toEqual(expect.arrayContaining(['x-shop-id', 'range', 'if-match']));
    expect(names(request)).not.toContain('x-shopping');
  });

  it('W50 passes a part of an upload on as one', async () => {
    const lines = ['Content-Range: bytes 0-1/4', 'Content-Length: 2', 'Content-Location: /a', 'If-Match: "a"'];
    const head = world.head('/api/orders/file', lines, 'PUT');
    expect((await rawRequest(world.port, [head, 'hi'])).status).toBe(200);
    const [request] = world.upstream.requests;
    expect(request?.header('content-range')).toBe('bytes 0-1/4');
    expect(request?.header('content-location')).toBe('/a');
    expect(request?.body.toString()).toBe('hi');
  });

  it('invents no Content-Length and no Content-Type for a GET', async () => {
    const request = await arrives('/api/orders/1', ['Content-Type: text/plain']);
    expect(names(request)).not.toContain('content-type');
    expect(names(request)).not.toContain('content-length');
    expect(names(request)).not.toContain('transfer-encoding');
  });
});
