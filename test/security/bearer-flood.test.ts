import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { sendJson } from '../support/introspection-server.ts';
import { rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// W9: whoever has no token can make up as many as they like, and an API that asks its issuer about each would ask for all
// of them. The flood comes from 127.0.0.1 to 127.0.0.9; others have addresses of their own.

let world: BearerWorld;

beforeAll(async () => {
  world = await startBearerWorld({
    config: (data) => {
      const { bearerIssuers } = data;
      data.trustedProxies = ['127.0.0.11/32'];
      bearerIssuers.opaque.timeout = '20s'; // the test holds answers back
    },
  });
});
beforeEach(() => {
  world.fresh();
  world.clock.advance(61_000); // answers and failures are forgotten
});
afterAll(() => world.stop(), 60_000);

let made = 0;
const madeUp = () => `made-up-${made++}`;
const lineOf = (token: string) => `Authorization: Bearer ${token}`;

async function call(token: string, from: string, lines: string[] = []) {
  const head = ['GET /api/both/1 HTTP/1.1', `Host: localhost:${world.port}`, lineOf(token), ...lines, '', ''].join(
    '\r\n',
  );
  const { status, headers, body } = await rawRequest(world.port, head, { localAddress: from, timeoutMs: 15_000 });
  const retryAfter = headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1];
  return { status, code: status === 200 ? undefined : (JSON.parse(body) as { code: string }).code, retryAfter };
}

/** Keeps `atOnce` calls with made-up tokens under way until `total` were made; what became of them, by code. */
async function flood(total: number, from: string, tokenOf: () => string = madeUp, atOnce = 32) {
  const answers: Record<string, number> = {};
  let left = total;
  const worker = async () => {
    while (left-- > 0) {
      const { code = '200', retryAfter } = await call(tokenOf(), from);
      answers[code] = (answers[code] ?? 0) + 1;
      if (code !== 'BFF_BEARER_INVALID') expect(Number(retryAfter), code).toBeGreaterThan(0);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return answers;
}

describe('W9 made-up opaque tokens', () => {
  it('W9 cost the issuer a bounded number of calls, and whoever has good ones nothing', async () => {
    const known = world.opaque.issue();
    expect((await call(known, '127.0.0.1')).status).toBe(200);
    const heapBefore = process.memoryUsage().heapUsed;
    const flooding = flood(1500, '127.0.0.1');
    await until(() => world.opaque.requests.length > 50);

    const during: { status: number; ms: number }[] = [];
    for (let index = 0; index < 10; index++) {
      const startedAt = performance.now();
      const { status } = await call(world.opaque.issue(), `127.0.1.${index + 1}`);
      during.push({ status, ms: performance.now() - startedAt });
      // From the very address of the flood too.
      expect((await call(known, '127.0.0.1')).status).toBe(200);
    }
    expect(during.map(({ status }) => status)).toEqual(during.map(() => 200));
    expect(Math.max(...during.map(({ ms }) => ms))).toBeLessThan(1000);

    const answers = await flooding;
    expect(Object.keys(answers)).toEqual(expect.arrayContaining(['BFF_BEARER_INVALID', 'BFF_RATE_LIMITED']));
    expect(world.opaque.requests.length).toBeLessThan(200);
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(166 * 1024 * 1024);
    // And after a while the address is as good as any other.
    expect(await call(world.opaque.issue(), '127.0.0.1')).toMatchObject({ status: 429, code: 'BFF_RATE_LIMITED' });
    world.clock.advance(61_000);
    expect((await call(world.opaque.issue(), '127.0.0.1')).status).toBe(200);
  }, 60_000);

  it('W9 wait in a line with an end, in which each address has its turn', async () => {
    const waiting: (() => void)[] = [];
    world.opaque.respond = (response, token) => {
      const answer = () =>
        sendJson(
          response,
          200,
          token.startsWith('made-up') ? { active: false } : { active: true, aud: 'api', sub: 'x' },
        );
      waiting.push(answer);
    };
    const answers: (string | undefined)[] = [];
    const bad = Array.from({ length: 400 }, () => call(madeUp(), '127.0.0.2').then(({ code }) => answers.push(code)));
    // Those for whom there is no place are told so at once.
    await until(() => answers.length >= 400 - 16 - 128);
    expect(new Set(answers)).toEqual(new Set(['BFF_BEARER_UNAVAILABLE']));
    expect(waiting.length).toBe(16);
    const good = call(world.opaque.issue(), '127.0.1.1');
    // One of the flood had to leave for it; one turn is free, and it is its.
    await until(() => answers.length > 400 - 16 - 128);
    waiting.shift()?.();
    waiting.shift()?.();
    await until(() => waiting.length === 16);
    const asked = world.opaque.requests.map(({ token }) => String(token).startsWith('made-up'));
    expect(asked.slice(16)).toContain(false);
    world.opaque.respond = undefined; // no wait from here on
    for (const answer of waiting) answer();
    expect((await good).status).toBe(200);
    await Promise.all(bad);
    expect(world.opaque.requests.length).toBeLessThanOrEqual(16 + 128);
  }, 30_000);

  it('W9 are answered from memory when they come again, and one question is enough for all that wait', async () => {
    const token = madeUp();
    await Promise.all(Array.from({ length: 300 }, (_, index) => call(token, `127.0.0.${(index % 9) + 1}`)));
    for (let index = 0; index < 200; index++) expect((await call(token, '127.0.0.3')).code).toBe('BFF_BEARER_INVALID');
    expect(world.opaque.requests.length).toBe(1);
    // What cost nothing counts as nothing.
    expect((await call(world.opaque.issue(), '127.0.0.3')).status).toBe(200);
  });
});

describe('W9 good opaque tokens beside a flood of their own address', () => {
  const used = async (token: string) => expect((await call(token, '127.0.0.7')).status).toBe(200);
  /** Until the address is refused. */
  const flooded = async () => {
    await flood(130, '127.0.0.7', madeUp, 8);
    expect((await call(madeUp(), '127.0.0.7')).code).toBe('BFF_RATE_LIMITED');
  };

  it('W9 are asked about again once their answer is too old, or was too long to be kept', async () => {
    const [known, long] = [world.opaque.issue(), world.opaque.issue({ groups: 'x'.repeat(9000) })];
    for (const token of [known, long]) await used(token);
    await flooded();
    await used(long);
    world.clock.advance(31_000); // `cache` is 30 s
    world.opaque.requests.length = 0;
    await used(known);
    expect(world.opaque.requests.map(({ token }) => token)).toEqual([known]);
    // One that nobody has seen is not.
    expect((await call(world.opaque.issue(), '127.0.0.7')).code).toBe('BFF_RATE_LIMITED');
    expect(world.opaque.requests).toHaveLength(1);
  });

  it('W9 are as bad as any other from the moment that their issuer says so', async () => {
    const token = world.opaque.issue({ groups: 'x'.repeat(9000) }); // asked about every time
    await used(token);
    await flooded();
    world.opaque.revoke(token);
    expect((await call(token, '127.0.0.7')).code).toBe('BFF_BEARER_INVALID');
    world.clock.advance(31_000);
    expect((await call(token, '127.0.0.7')).code).toBe('BFF_RATE_LIMITED');
  });

  it('W9 are known for an hour at most, and never longer than they live', async () => {
    const seconds = Math.floor(world.clock.now() / 1000);
    const [short, long] = [world.opaque.issue({ exp: seconds + 600 }), world.opaque.issue({ exp: seconds + 7200 })];
    for (const token of [short, long]) await used(token);
    world.clock.advance(610_000);
    await flooded();
    expect((await call(short, '127.0.0.7')).code).toBe('BFF_RATE_LIMITED');
    await used(long);
    world.clock.advance(3_610_000);
    await flooded();
    expect((await call(long, '127.0.0.7')).code).toBe('BFF_RATE_LIMITED');
  });
});

describe('W9 whose failures count together', () => {
  const behindProxy = (token: string, address: string) => call(token, '127.0.0.11', [`X-Forwarded-For: ${address}`]);

  it('W9 an IPv6 host is its /64, however many addresses it has', async () => {
    for (let index = 0; index < 120; index++)
      expect((await behindProxy(madeUp(), `2001:db8:0:1::${index.toString(16)}`)).code).toBe('BFF_BEARER_INVALID');
    expect(await behindProxy(madeUp(), '2001:db8:0:1:ffff::1')).toMatchObject({ status: 429, retryAfter: '60' });
    expect((await behindProxy(world.opaque.issue(), '2001:db8:0:2::1')).status).toBe(200);
    expect((await behindProxy(world.opaque.issue(), '192.0.2.1')).status).toBe(200);
    expect(world.opaque.requests.length).toBe(122);
  });
});

describe('W9 bad JWTs', () => {
  it('W9 cost no more signatures than an address may fail, and stop no good one that is known', async () => {
    const good = world.mobile.accessToken();
    expect((await call(good, '127.0.0.4')).status).toBe(200);
    const forged = () => world.mobile.accessToken({ alg: 'forged', claims: { jti: String(made++) } });
    const answers = await flood(300, '127.0.0.4', forged, 20);
    expect(answers.BFF_BEARER_INVALID).toBeLessThan(150);
    expect(answers.BFF_RATE_LIMITED).toBeGreaterThan(100);
    expect((await call(good, '127.0.0.4')).status).toBe(200);
    expect((await call(world.mobile.accessToken(), '127.0.1.4')).status).toBe(200);
  });

  it('W9 with unknown keys make their issuer give its keys once, and too long ones nothing at all', async () => {
    expect((await call(world.mobile.accessToken(), '127.0.0.5')).status).toBe(200);
    const keyRequests = () => world.mobile.requests.filter(({ endpoint }) => endpoint === 'jwks').length;
    const before = keyRequests();
    const unknown = () => world.mobile.accessToken({ alg: 'forged', header: { kid: `made-up-${made++}` } });
    await flood(300, '127.0.0.5', unknown, 20);
    expect(keyRequests() - before).toBeLessThanOrEqual(1);
    expect((await call(`x${'y'.repeat(12 * 1024)}`, '127.0.0.6')).code).toBe('BFF_BEARER_INVALID');
    expect(world.opaque.requests).toEqual([]);
  });
});
