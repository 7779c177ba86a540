import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, type RawConnection } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { until } from '../support/wait.ts';

// W14: anybody may begin a body at our own endpoints, without a cookie.

let world: ProxyWorld;
const opened: RawConnection[] = [];
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.authorizationServer.responseMode = 'form_post';
  });
});
afterAll(() => world.stop());
beforeEach(() => world.fresh());
afterEach(() => {
  for (const connection of opened.splice(0)) connection.close();
});

const form = 'Content-Type: application/x-www-form-urlencoded';
const places = [
  'POST /bff/backchannel-logout',
  'POST /bff/callback',
  'POST /bff/logout',
  'POST /bff/clear-cookies',
  'GET /bff/session',
  'PUT /bff/login',
  'POST /nothing',
];
async function begin(place: string, lines: string[], body = '', localAddress = '127.0.0.1'): Promise<RawConnection> {
  const connection = await openRaw(world.port, { localAddress });
  opened.push(connection);
  await connection.write([`${place} HTTP/1.1`, `Host: localhost:${world.port}`, ...lines, '', body].join('\r\n'));
  return connection;
}

describe.each(places)('%s', (place) => {
  const status = place.endsWith('/nothing') ? 404 : 413;

  it('W14 refuses a body that is announced as too long at once, and closes', async () => {
    const connection = await begin(place, [form, 'Content-Length: 16385'], 'x');
    const answer = await connection.response();
    expect(answer.status).toBe(status);
    expect(answer.header('content-type')).toContain('application/problem+json');
    expect(answer.header('connection')).toBe('close');
    expect(await connection.peerClosed()).toBe(true);
  });

  it('W14 does not ask for it with 100 Continue', async () => {
    const connection = await begin(place, [form, 'Content-Length: 16385', 'Expect: 100-continue']);
    await connection.response();
    expect(connection.responses().map((answer) => answer.status)).toEqual([status]);
    expect(await connection.peerClosed()).toBe(true);
  });

  it('W14 lets who is still sending see the answer', async () => {
    const connection = await begin(place, [form, 'Content-Length: 4000000'], 'x'.repeat(2_000_000));
    expect((await connection.response()).status).toBe(status);
    expect(await connection.peerClosed()).toBe(true);
  });
});

it('W14 ends a body in chunks where it gets too long', async () => {
  const connection = await begin('POST /bff/backchannel-logout', [form, 'Transfer-Encoding: chunked']);
  await connection.write(`8000\r\n${'x'.repeat(0x8000)}\r\n`);
  expect((await connection.response()).status).toBe(413);
  expect(await connection.peerClosed()).toBe(true);
});

it('W14 waits ten seconds for a body, wherever it was begun', async () => {
  const waiting = ['POST /bff/backchannel-logout', 'POST /bff/callback', 'POST /bff/clear-cookies'];
  const answers = waiting.map(async (place) => {
    const connection = await begin(place, [form, 'Content-Length: 100'], 'x');
    const startedAt = performance.now();
    const answer = await connection.response(1, 15_000);
    expect(performance.now() - startedAt).toBeGreaterThan(9000);
    expect([answer.status, answer.header('connection')], place).toEqual([408, 'close']);
    expect(await connection.peerClosed()).toBe(true);
  });
  await Promise.all(answers);
});

it('W14 one address has 64 bodies on their way; others, and bodies that come with their head, pass', async () => {
  const slow = () => begin('POST /bff/backchannel-logout', [form, 'Content-Length: 100'], 'x', '127.0.0.2');
  for (let index = 0; index < 64; index++) await slow();
  const refused = await until(async () => {
    const connection = await slow();
    return connection.response(1, 200).catch(() => undefined);
  });
  expect(refused.status).toBe(429);
  expect(headerValues(refused.headers, 'retry-after')).toEqual(['10']);
  expect(JSON.parse(refused.body)).toMatchObject({ code: 'BFF_RATE_LIMITED' });

  const whole = ['Content-Length: 14'];
  const same = await begin('POST /bff/backchannel-logout', [form, ...whole], 'logout_token=x', '127.0.0.2');
  expect((await same.response()).status).toBe(400);
  const other = await begin('POST /bff/backchannel-logout', [form, ...whole], '', '127.0.0.3');
  await other.write('logout_token=x');
  expect((await other.response()).status).toBe(400);

  for (const connection of opened) connection.close();
  const again = await until(async () => {
    const connection = await slow();
    await connection.write('x'.repeat(99));
    const answer = await connection.response().catch(() => undefined);
    return answer?.status === 400 && answer;
  });
  expect(again.header('connection')).not.toBe('close');
});

it('W14 all addresses together have 512 bodies on their way', async () => {
  const slow = (index: number) =>
    begin('POST /bff/backchannel-logout', [form, 'Content-Length: 100'], 'x', `127.0.1.${1 + (index % 20)}`);
  for (let index = 0; index < 512; index++) await slow(index);
  const refused = await until(async () => (await slow(0)).response(1, 200).catch(() => undefined));
  expect(refused.status).toBe(503);
  expect(headerValues(refused.headers, 'retry-after')).toEqual(['10']);
  expect(JSON.parse(refused.body)).toMatchObject({ code: 'BFF_OVERLOADED' });
  expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
});

it('W14 bodies of eight addresses that take all places do not shut the authorization server out', async () => {
  const slow = async (address: number) => {
    const lines = [form, 'Content-Length: 100', 'Expect: 100-continue'];
    const connection = await begin('POST /bff/backchannel-logout', lines, '', `127.0.2.${address}`);
    await connection.readUntil((text) => text.startsWith('HTTP/1.1 100 ')); // its place is taken
    return connection;
  };
  const held: RawConnection[] = [];
  for (let index = 0; index < 63; index++) held.push(await slow(1));
  for (let index = 0; index < 449; index++) held.push(await slow(2 + (index % 8)));
  const [oldest, ...others] = held;

  const logout = await begin('POST /bff/backchannel-logout', [form, 'Content-Length: 14'], '', '127.0.3.1');
  const ended = await oldest?.response();
  expect([ended?.status, ended?.header('connection'), ended?.header('retry-after')]).toEqual([503, 'close', '10']);
  expect(JSON.parse(ended?.body ?? '')).toMatchObject({ code: 'BFF_OVERLOADED' });
  await logout.write('logout_token=x');
  expect((await logout.response()).status).toBe(400);

  // The place that this leaves is the only one; one more of who holds most is refused itself.
  await slow(1);
  const own = await begin('POST /bff/backchannel-logout', [form, 'Content-Length: 100'], '', '127.0.2.1');
  expect((await own.response()).status).toBe(503);
  expect(others.filter((connection) => connection.closed())).toEqual([]);
});

describe('100 Continue', () => {
  it('W14 is said where a body is wanted: at an endpoint', async () => {
    const lines = [form, 'Content-Length: 14', 'Expect: 100-continue'];
    const connection = await begin('POST /bff/backchannel-logout', lines);
    await connection.readUntil((text) => text.startsWith('HTTP/1.1 100 '));
    await connection.write('logout_token=x');
    expect((await connection.response()).status).toBe(400);
  });

  it('W14 is said for an upload to an API, but not to somebody without a session', async () => {
    const upload = ['Content-Length: 5', 'Expect: 100-continue'];
    const mine = await openRaw(world.port);
    opened.push(mine);
    await mine.write(world.head('/api/orders', upload, 'POST'));
    await mine.readUntil((text) => text.startsWith('HTTP/1.1 100 '));
    await mine.write('hello');
    expect((await mine.response()).status).toBe(200);
    expect(world.upstream.requests.at(-1)?.bodyLength).toBe(5);
    const nobody = await begin('POST /api/orders', [...upload, `Origin: ${world.origin}`, 'X-CSRF: 1']);
    await nobody.response();
    expect(nobody.responses().map(({ status }) => status)).toEqual([401]);
  });
});
