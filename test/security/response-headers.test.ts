import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';
import type { HeaderLine } from '../support/raw-response.ts';

// T61, T71 to T73, and what an upstream may say to a browser: an allow-list, on every status.

let world: ProxyWorld;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    data.apis.orders.returnHeaders = ['x-total-*'];
    data.apis.cached = { path: '/api/cached', upstream, cache: true };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

async function answered(headers: HeaderLine[], target = '/api/orders/1', status = 200) {
  world.upstream.respond = reply({ status, headers, body: 'x' });
  return world.alice.fetch(target);
}

describe('cookies', () => {
  const cookies = [
    'cloakroom=stolen; Path=/', '__Host-cloakroom=stolen; Secure; Path=/', '__Host-sid=x; Secure; Path=/', 'SID=x; Domain=localhost',
    'cloakroom=; Max-Age=0', 'CLOAKROOM=x', ' cloakroom=x', 'x=y; cloakroom=z', '=cloakroom=x',
  ]; // biome-ignore format: a list of values reads better in rows
  for (const cookie of cookies) {
    it(`T71 drops Set-Cookie: ${cookie}`, async () => {
      const answer = await answered([
        ['Set-Cookie', cookie],
        ['Set-Cookie2', cookie],
      ]);
      expect(answer.status).toBe(200);
      expect(answer.setCookies).toEqual([]);
      expect(answer.all('set-cookie2')).toEqual([]);
      expect((await world.alice.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
    });
  }

  it('T71 drops 50 of them', async () => {
    const answer = await answered(Array.from({ length: 50 }, (_, index): HeaderLine => ['set-cookie', `c${index}=1`]));
    expect(answer.setCookies).toEqual([]);
  });
});

describe('headers that do not cross', () => {
  const dropped: HeaderLine[] = [
    ['Server', 'secret/1.0'],
    ['X-Powered-By', 'secret'],
    ['Via', '1.1 secret'],
    ['X-Internal', 'secret'],
    ['Proxy-Authenticate', 'Basic realm="secret"'],
    ['Proxy-Authentication-Info', 'secret'],
    ['WWW-Authenticate', 'Basic realm="secret"'],
    ['WWW-Authenticate', 'Negotiate secret'],
    ['WWW-Authenticate', 'NTLM secret'],
    ['WWW-Authenticate', 'Digest realm="secret"'],
    ['WWW-Authenticate', 'Bearer realm="a", Basic realm="secret"'],
    ['Keep-Alive', 'timeout=secret'],
    ['Upgrade', 'secret'],
    ['Trailer', 'secret'],
    ['Alt-Svc', 'h3="secret:443"'],
    ['Clear-Site-Data', '"secret"'],
    ['Refresh', '0; url=http://secret'],
    ['Service-Worker-Allowed', '/secret'],
    ['Strict-Transport-Security', 'max-age=0; secret'],
    ['Public-Key-Pins', 'secret'],
    ['SourceMap', '/secret'],
    ['NEL', '{"secret":1}'],
    ['Report-To', '{"secret":1}'],
    ['X-Accel-Redirect', '/secret'],
    ['X-Sendfile', '/secret'],
  ];
  for (const [name, value] of dropped) {
    it(`T72 drops ${name}: ${value}`, async () => {
      const answer = await answered([[name, value]]);
      expect(answer.status).toBe(200);
      expect(JSON.stringify(answer.headers)).not.toContain('secret');
    });
  }

  it('T72 drops what Connection names, and keeps the connection of the browser', async () => {
    const answer = await answered([
      ['Connection', 'close, x-total-secret, etag'],
      ['X-Total-Secret', 'secret'],
      ['X-Total-Count', '7'],
      ['ETag', '"secret"'],
    ]);
    expect(answer.header('x-total-count')).toBe('7');
    expect(JSON.stringify(answer.headers)).not.toMatch(/secret|close/);
  });

  for (const name of ['Origin', 'Credentials', 'Methods', 'Headers', 'Expose-Headers', 'Max-Age', 'Private-Network']) {
    it(`T61 drops Access-Control-Allow-${name}`, async () => {
      const answer = await answered([
        [`Access-Control-Allow-${name}`, '*'],
        [`Access-Control-${name}`, '*'],
      ]);
      expect(answer.headers.filter(([header]) => /^access-control/i.test(header))).toEqual([]);
    });
  }

  it('T72 drops trailers that could not be headers', async () => {
    const chunks =
      '5\r\nhello\r\n0\r\nX-Internal: secret\r\nSet-Cookie: a=secret\r\nContent-Digest: sha-256=:x:\r\n\r\n';
    world.upstream.respond = rawBytes(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`);
    const result = await rawRequest(world.port, world.head('/api/orders/1'));
    expect(result.body).toBe('hello');
    expect(result.responses[0]?.trailers).toEqual([['content-digest', 'sha-256=:x:']]);
  });
});

describe('an upstream that speaks bad HTTP', () => {
  const bad: Record<string, string | Buffer> = {
    'a header with a NUL': 'HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 1\r\n\r\nx',
    'a header with a bare carriage return': 'HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: b=c\r\nContent-Length: 1\r\n\r\nx',
    'a header without a colon': 'HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 1\r\n\r\nx',
    'a header of 40 kB': `HTTP/1.1 200 OK\r\nX-A: ${'x'.repeat(40_000)}\r\nContent-Length: 1\r\n\r\nx`,
    'status 999': 'HTTP/1.1 999 What\r\nContent-Length: 1\r\n\r\nx',
    'status 600': 'HTTP/1.1 600 What\r\nContent-Length: 1\r\n\r\nx',
    'status 099': 'HTTP/1.1 099 What\r\nContent-Length: 1\r\n\r\nx',
    'a status of two digits': 'HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nx',
    'HTTP/0.9': '<html>hello</html>',
    'HTTP/9.9': 'HTTP/9.9 200 OK\r\nContent-Length: 1\r\n\r\nx',
    'a length and chunks': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy',
    'a negative length': 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx',
    'a length with a sign': 'HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx',
    'an unasked 101': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
    'an unasked 100': 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
    'an endless interim answer': `HTTP/1.1 103 Early\r\nX-A: ${'x'.repeat(40_000)}\r\n\r\n`,
    nothing: '',
  };
  for (const [name, bytes] of Object.entries(bad)) {
    it(`T73 answers 502 for ${name}, and the next request is served`, async () => {
      world.upstream.respond = rawBytes(bytes);
      const answer = await world.alice.fetch('/api/orders/1');
      expect(answer.status).toBe(502);
      expect(answer.json<{ code: string }>().code).toMatch(/^BFF_UPSTREAM_(INVALID|UNREACHABLE)$/);
      world.fresh();
      expect((await world.alice.fetch('/api/orders/2')).text).toBe('{"ok":true}');
    });
  }
});

describe("an upstream's own refusal", () => {
  const challenges: [status: number, challenge: string][] = [
    [401, 'Bearer error="insufficient_user_authentication", acr_values="urn:\\"gold\\", silver", max_age=0'],
    [403, 'Bearer error="insufficient_scope", scope="orders:write"'],
    [401, 'DPoP algs="ES256"'],
  ];
  for (const [status, challenge] of challenges) {
    it(`T85 passes ${status} ${challenge} through, tells it from ours and keeps the session`, async () => {
      const tokens = world.provider.tokenRequests().length;
      const answer = await answered([['WWW-Authenticate', challenge]], '/api/orders/1', status);
      expect(answer.status).toBe(status);
      expect(answer.text).toBe('x');
      expect(answer.all('www-authenticate')).toEqual([challenge]);
      expect(answer.header('proxy-status')).toBe(`cloakroom; received-status=${status}`);
      expect(answer.setCookies).toEqual([]);
      expect(world.upstream.requests).toHaveLength(1);
      expect(world.provider.tokenRequests()).toHaveLength(tokens);
      world.fresh();
      expect((await world.alice.fetch('/api/orders/2')).status).toBe(200);
    });
  }

  it('T87 a challenge with a line break ends as 502, not as two headers', async () => {
    world.upstream.respond = rawBytes(
      'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer acr_values="a\rSet-Cookie: b=c"\r\nContent-Length: 0\r\n\r\n',
    );
    const answer = await world.alice.fetch('/api/orders/1');
    expect(answer.status).toBe(502);
    expect(answer.setCookies).toEqual([]);
  });

  it('T85 our own 401 says so', async () => {
    const answer = await world.browser().fetch('/api/orders/1');
    expect(answer.status).toBe(401);
    expect(answer.header('proxy-status')).toContain('BFF_SESSION_REQUIRED');
    expect(answer.header('proxy-status')).not.toContain('received-status');
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('caching and sniffing', () => {
  it('T54 lets nobody store what a session brought, unless the API says so', async () => {
    const headers: HeaderLine[] = [
      ['Cache-Control', 'public, max-age=60'],
      ['Expires', 'Thu, 01 Jan 2099 00:00:00 GMT'],
      ['Age', '1'],
    ];
    const closed = await answered(headers);
    expect(closed.all('cache-control')).toEqual(['no-store']);
    expect([closed.header('expires'), closed.header('age')]).toEqual([undefined, undefined]);
    expect((await answered(headers, '/api/cached/1')).all('cache-control')).toEqual(['private, max-age=60']);
  });

  it('T72 says nosniff and same-origin once, whatever the upstream says', async () => {
    const answer = await answered([
      ['X-Content-Type-Options', 'sniff'],
      ['Cross-Origin-Resource-Policy', 'cross-origin'],
    ]);
    expect(answer.all('x-content-type-options')).toEqual(['nosniff']);
    expect(answer.all('cross-origin-resource-policy')).toEqual(['same-origin']);
  });
});
