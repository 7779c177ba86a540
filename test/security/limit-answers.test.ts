import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hang } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, type RawConnection } from '../support/raw-client.ts';
import type { RawResponse } from '../support/raw-response.ts';
import { until } from '../support/wait.ts';

// Issue 12, 7: limits answer for themselves, also those that Node finds before there is a request.

let world: ProxyWorld;
const opened: RawConnection[] = [];
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.limits = { loginsPerMinute: 3, headersTimeout: '1s', requestTimeout: '2s' };
    data.apis.narrow = {
      path: '/api/narrow',
      upstream: data.apis.orders.upstream,
      token: 'none',
      limits: { connections: 1, queue: 1, requestBody: '1KiB' },
    };
  });
});
afterAll(() => world.stop());
afterEach(() => {
  for (const connection of opened.splice(0)) connection.close();
  world.fresh();
});

async function ask(bytes: string): Promise<RawResponse> {
  const connection = await openRaw(world.port);
  opened.push(connection);
  await connection.write(bytes).catch(() => undefined);
  return connection.response();
}
const counted = async (code: string) => {
  const text = (await world.app.ops.inject({ url: '/metrics' })).payload;
  return Number(new RegExp(`problems_total\\{code="${code}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
};
const host = () => `Host: localhost:${world.port}`;
const long = (bytes: number) => 'x'.repeat(bytes);
const narrow = () => world.head('/api/narrow/1');

const cases: [status: number, code: string, what: string, bytes: () => string][] = [
  [414, 'BFF_URI_TOO_LONG', 'a long URL', () => world.head(`/api/orders/${long(17_000)}`)],
  [431, 'BFF_HEADERS_TOO_LARGE', 'large headers', () => world.head('/api/orders/1', [`X-Long: ${long(17_000)}`])],
  [431, 'BFF_HEADERS_TOO_LARGE', 'more than Node reads', () => world.head('/', [`X-Long: ${long(200_000)}`])],
  [400, 'BFF_REQUEST_MALFORMED', 'what is no HTTP', () => 'hello\r\n\r\n'],
  [400, 'BFF_HOST_INVALID', 'no Host', () => 'GET / HTTP/1.1\r\n\r\n'],
  [417, 'BFF_EXPECTATION_FAILED', 'an unknown expectation', () => world.head('/', ['Expect: x'])],
  [408, 'BFF_REQUEST_TIMEOUT', 'a head that does not end', () => `GET / HTTP/1.1\r\n${host()}\r\n`],
  [413, 'BFF_BODY_TOO_LARGE', 'a body for an API', () => world.head('/api/narrow', ['Content-Length: 2000'], 'POST')],
  [413, 'BFF_BODY_TOO_LARGE', 'a body for us', () => world.head('/bff/logout', ['Content-Length: 20000'], 'POST')],
];
describe.each(cases)('%i %s', (status, code, what, bytes) => {
  it(`answers ${what} with a problem that has a code and a request id, and counts it`, async () => {
    const before = await counted(code);
    const answer = await ask(bytes());
    expect(answer.status).toBe(status);
    expect(answer.header('content-type')).toContain('application/problem+json');
    expect(answer.header('cache-control')).toBe('no-store');
    expect(answer.json()).toMatchObject({
      type: 'about:blank',
      code,
      status,
      requestId: expect.stringMatching(/.{8,}/),
    });
    expect(await counted(code)).toBe(before + 1);
    expect((await world.alice.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
  });
});

it('429: too many logins get a page or a problem, and hear when to come back', async () => {
  const login = (...lines: string[]) => ask([`GET /bff/login HTTP/1.1`, host(), ...lines, '', ''].join('\r\n'));
  const answer = await until(async () => {
    const one = await login();
    return one.status === 429 && one;
  });
  expect(Number(answer.header('retry-after'))).toBeGreaterThan(0);
  expect(answer.json()).toMatchObject({ code: 'BFF_RATE_LIMITED', status: 429 });
  const page = await login('Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document');
  expect([page.status, page.header('content-type')]).toEqual([429, 'text/html; charset=utf-8']);
  expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
});

it('503: a call that is one too many for its API hears when to come back', async () => {
  world.upstream.respond = hang();
  for (const _place of ['connection', 'line']) {
    const connection = await openRaw(world.port);
    opened.push(connection);
    await connection.write(narrow());
  }
  const answer = await until(() => ask(narrow()).catch(() => undefined));
  expect(answer.status).toBe(503);
  expect(Number(answer.header('retry-after'))).toBeGreaterThan(0);
  expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_BUSY', status: 503 });
});
