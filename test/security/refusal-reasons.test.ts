import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';
import { startWorld } from '../support/world.ts';

// Issue 14, part 7: a refusal says what came, what is expected, and what the usual reason is. Nothing is repeated that
// could be more than a host, an origin or a word.

let world: ProxyWorld;
let origin: string;
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.apis.orders.websocket = {};
    data.apis.pages = {
      path: '/api/pages',
      upstream: data.apis.orders.upstream,
      websocket: { origins: ['https://page.example'] },
    };
  });
  origin = world.origin;
});
afterAll(() => world.stop());
beforeEach(() => {
  world.fresh();
  world.log.clear();
});

/** `detail` of the problem document that came back. */
async function told(method: string, target: string, lines: string[], port = world.port): Promise<[number, unknown]> {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : [`Host: localhost:${world.port}`];
  const answer = await rawRequest(port, [`${method} ${target} HTTP/1.1`, ...host, ...lines, '', ''].join('\r\n'));
  const problem = JSON.parse(answer.body) as { detail?: string };
  return [answer.status, problem.detail];
}

describe('CSRF', () => {
  const own = () => `expected is "${origin}"`;
  const devServer = /Behind a development server’s proxy publicUrl is the address in the browser, and the proxy/;

  it.each<[string, string[], RegExp]>([
    [
      'another port',
      ['Origin: http://localhost:5173', 'X-CSRF: 1'],
      /^Origin is "http:\/\/localhost:5173", expected is/,
    ],
    [
      'a name for it',
      ['Origin: http://127.0.0.1:5173', 'X-CSRF: 1'],
      /^Origin is "http:\/\/127\.0\.0\.1:5173", expected/,
    ],
    [
      'another site',
      ['Origin: https://evil.example', 'X-CSRF: 1'],
      /^Origin is "https:\/\/evil\.example", expected is/,
    ],
    ['no origin', ['Origin: null', 'X-CSRF: 1'], /^Origin is "null", expected is /],
    ['what is none', ['Origin: <script>alert(1)</script>'], /^Origin is no origin, expected is /],
    ['what is long', [`Origin: https://${'a'.repeat(300)}.example`], /^Origin is no origin, expected is /],
    ['another scheme', ['Origin: https://localhost:PORT'], /^Origin is "https:\/\/localhost:\d+", expected is /],
  ])('names the Origin that came and the one that is expected: %s', async (_name, lines, detail) => {
    const sent = lines.map((line) => line.replace('PORT', String(world.port)));
    for (const target of ['/api/orders/1', '/bff/refresh']) {
      const [status, text] = await told('POST', target, [world.cookieLine, ...sent]);
      expect([status, text]).toEqual([403, expect.stringMatching(detail)]);
      expect(text).toContain(own());
      expect(text).not.toMatch(/[<>]|a{100}/);
    }
    const line = world.log.lines.find(({ audit }) => audit === 'csrf_rejected');
    expect(line).toMatchObject({ detail: expect.stringMatching(detail) });
  });

  it('says what is usual where both are on loopback, and only there', async () => {
    expect(await told('POST', '/api/orders/1', [world.cookieLine, 'Origin: http://localhost:5173'])).toEqual([
      403,
      expect.stringMatching(devServer),
    ]);
    const [, foreign] = await told('POST', '/api/orders/1', [world.cookieLine, 'Origin: https://evil.example']);
    expect(foreign).not.toMatch(devServer);
  });

  it.each<[string, string, string[], string]>([
    ['POST', 'a sibling', ['Sec-Fetch-Site: same-site'], 'Sec-Fetch-Site is "same-site", expected is "same-origin".'],
    [
      'GET',
      'a foreign page',
      ['Sec-Fetch-Site: cross-site'],
      'Sec-Fetch-Site is "cross-site", expected is "same-origin".',
    ],
    ['POST', 'nonsense', ['Sec-Fetch-Site: <b>'], 'Sec-Fetch-Site is no word of it, expected is "same-origin".'],
    ['POST', 'nobody’s page', ['Sec-Fetch-Site: none'], 'Sec-Fetch-Site is "none", expected is "same-origin".'],
    ['POST', 'a script', ['X-CSRF: 1'], 'Origin and Sec-Fetch-Site are missing, expected is Origin: OWN.'],
    [
      'GET',
      'a script',
      [],
      'Origin, Sec-Fetch-Site and x-csrf are missing, expected is one of Origin: OWN and x-csrf: 1.',
    ],
    ['POST', 'no header', ['Origin: OWN'], 'x-csrf is missing, expected is "1".'],
    ['POST', 'another value', ['Origin: OWN', 'X-CSRF: true'], 'x-csrf has another value, expected is "1".'],
  ])('%s of %s: says what is missing', async (method, _who, lines, detail) => {
    const sent = lines.map((line) => line.replace('OWN', origin));
    expect(await told(method, '/api/orders/1', [world.cookieLine, ...sent])).toEqual([
      403,
      detail.replace('OWN', origin),
    ]);
  });
});

describe('a WebSocket of another page', () => {
  const handshake = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
  const open = (target: string, ...lines: string[]) =>
    told('GET', target, [world.cookieLine, ...handshake, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', ...lines]);

  it('is told the origins, where it is our own that is expected', async () => {
    expect(await open('/api/orders/ws', 'Origin: http://localhost:5173')).toEqual([
      403,
      expect.stringMatching(
        /^Origin is "http:\/\/localhost:5173", expected is "http:\/\/localhost:\d+"\. Behind a dev/,
      ),
    ]);
    expect(await open('/api/orders/ws')).toEqual([403, `Origin is missing, expected is "${origin}".`]);
    const [, text] = await open('/api/pages/ws', 'Origin: https://evil.example');
    expect(text).toBeUndefined(); // the title names the setting, and who is on the list is nobody's business
  });
});

describe('Host', () => {
  const lines = () => world.log.lines.filter(({ msg }) => msg === 'a request for a host that no publicUrl has');

  it('names on loopback the one that came and those that are expected', async () => {
    expect(await told('GET', '/', ['Host: 127.0.0.1:5173'])).toEqual([
      421,
      `Host is "127.0.0.1:5173", expected is "localhost:${world.port}". Open the address of publicUrl, or correct it. A development server’s proxy in front must leave Host as it is (changeOrigin: false).`,
    ]);
    for (const host of ['<script>', 'a b', 'a"b', '"'])
      expect((await told('GET', '/', [`Host: ${host}`]))[1]).toBeUndefined();
    const [, long] = await told('GET', '/', [`Host: ${'a'.repeat(300)}`]);
    expect(String(long)).not.toContain('a'.repeat(150));
  });

  it('says so in the log, once for each name', async () => {
    for (let round = 0; round < 3; round++) await told('GET', '/', ['Host: once.example']);
    await told('GET', '/', ['Host: ONCE.example']);
    expect(lines()).toMatchObject([{ host: 'once.example', expected: [`localhost:${world.port}`] }]);
  });

  it('says it no more often than a reader can bear, whoever scans', async () => {
    for (let index = 0; index < 100; index++) await told('GET', '/', [`Host: h${index}.example`]);
    expect(lines().length).toBeGreaterThan(5);
    expect(lines().length).toBeLessThanOrEqual(20);
  });

  it('is left to the log where publicUrl is no loopback, or a proxy brings others', async () => {
    const outside = await startWorld({
      store: 'memory',
      config: (data) => {
        data.publicUrl = 'https://app.example.com';
      },
    });
    onTestFinished(() => outside.stop());
    expect(await told('GET', '/', ['Host: internal:8080'], outside.port)).toEqual([421, undefined]);
    expect(outside.log.lines.filter(({ host }) => host === 'internal:8080')).toMatchObject([
      { expected: ['app.example.com'] },
    ]);
    const behind = await startWorld({
      store: 'memory',
      config: (data) => {
        data.trustedProxies = ['127.0.0.1'];
      },
    });
    onTestFinished(() => behind.stop());
    expect(await told('GET', '/', ['Host: x', 'X-Forwarded-For: 203.0.113.9'], behind.port)).toEqual([421, undefined]);
    expect((await told('GET', '/', ['Host: x', 'X-Forwarded-For: 127.0.0.1'], behind.port))[1]).toMatch(/^Host is "x"/);
  });
});
