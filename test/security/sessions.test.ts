import { Pool } from 'undici';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { hang } from '../support/echo-upstream/answers.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { countCommands } from '../support/redis-commands.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { sessionIdOf, ticketOf } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const csrf = { 'x-csrf': '1' };

describe('T47 session ids outside of the cookie', () => {
  it('T47 ignores them in query, headers, body and other cookies', async () => {
    world = await startWorld();
    const ticket = ticketOf(await world.loggedIn());
    const stranger = world.browser();
    const names = ['cloakroom', 'sessionId', 'sid', 'session', 'connect.sid'];
    const headers = Object.fromEntries(
      names.flatMap((name) => [
        [name, ticket],
        [`x-${name.replaceAll('.', '-')}`, ticket],
      ]),
    );
    const tries = [
      ...names.map((name) => ({ query: `?${name}=${encodeURIComponent(ticket)}` })),
      { headers },
      { headers: { authorization: `Bearer ${ticket}` } },
      { headers: { authorization: `Session ${ticket}` } },
      { headers: { cookie: `sessionId=${ticket}; connect.sid=${ticket}; session=${ticket}` } },
    ];
    for (const { query = '', headers: sent = {} } of tries as { query?: string; headers?: Record<string, string> }[]) {
      const api = await stranger.fetch(`/api/orders/1${query}`, { headers: { ...csrf, ...sent } });
      expect(api.status, JSON.stringify(query || sent)).toBe(401);
      const session = await stranger.fetch(`/bff/session${query}`, { headers: sent });
      expect(session.json()).toMatchObject({ authenticated: false });
    }
    const posted = await stranger.fetch('/bff/refresh', {
      method: 'POST',
      headers: csrf,
      body: new URLSearchParams(Object.fromEntries(names.map((name) => [name, ticket]))),
    });
    expect(posted.status).toBe(401);
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('T48 lifetimes', () => {
  const lifetimes = (data: Record<string, Record<string, unknown>>) => {
    Object.assign(data.session as object, { idleTimeout: '30m', absoluteTimeout: '10h' });
  };
  /** The provider lives on the same clock. */
  const startOnOneClock = async () => {
    let now = Date.now;
    world = await startWorld({ store: 'memory', config: lifetimes, provider: { now: () => now() } });
    now = world.clock.now;
  };

  it('T48 ends a session one second after the idle timeout, not one before', async () => {
    await startOnOneClock();
    const [late, early] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
    world.clock.advance(30 * 60_000 - 2000);
    expect((await early.fetch('/api/orders/1')).status).toBe(200);
    world.clock.advance(3000);
    expect((await late.fetch('/api/orders/1')).status).toBe(401);
    expect((await early.fetch('/api/orders/1')).status).toBe(200);
  });

  it('T48 ends a session at its absolute end, whatever traffic and refreshes there were', async () => {
    await startOnOneClock();
    const browser = await world.loggedIn();
    const expiresAt = (await browser.fetch('/bff/session')).json<{ session: { expiresAt: number } }>().session
      .expiresAt;
    for (let minutes = 20; minutes < 600; minutes += 20) {
      world.clock.advance(20 * 60_000);
      expect((await browser.fetch('/api/orders/1')).status, `after ${minutes} minutes`).toBe(200);
    }
    expect(world.provider.tokenRequests('refresh_token').length).toBeGreaterThan(20);
    const { session } = (await browser.fetch('/bff/session')).json<{ session: Record<string, number> }>();
    expect(session.expiresAt).toBe(expiresAt);
    expect(session.idleExpiresAt).toBe(expiresAt);
    world.clock.advance(20 * 60_000 + 1000);
    const called = world.upstream.requests.length;
    expect((await browser.fetch('/api/orders/1')).status).toBe(401);
    expect(world.upstream.requests).toHaveLength(called);
  });

  it('T48 is not kept alive by checks of the session (SE8)', async () => {
    await startOnOneClock();
    const browser = await world.loggedIn();
    for (let minutes = 5; minutes <= 25; minutes += 5) {
      world.clock.advance(5 * 60_000);
      expect(await isLoggedIn(browser)).toBe(true);
    }
    world.clock.advance(5 * 60_000 + 1000);
    expect(await isLoggedIn(browser)).toBe(false);
  });
});

describe('T51 anonymous visitors', () => {
  it('T51 costs the store nothing for 10 000 requests without a session', async () => {
    const redis: RedisServer = await startRedis();
    onTestFinished(() => redis.stop());
    world = await startWorld({ redisUrl: redis.url });
    const before = await countCommands(redis.url);
    const pool = new Pool(`http://127.0.0.1:${world.port}`, { connections: 8, pipelining: 4 });
    onTestFinished(() => pool.destroy());
    const paths = ['/bff/session', '/api/orders/1', '/bff/session', '/', '/bff/callback?state=x&code=y'];
    const seen = new Set<number>();
    const one = async (index: number) => {
      const { statusCode, body, headers } = await pool.request({
        method: 'GET',
        path: paths[index % paths.length] as string,
        headers: { host: new URL(world.origin).host, ...csrf },
      });
      seen.add(statusCode);
      expect(String(headers['set-cookie'] ?? '')).not.toContain('cloakroom=');
      await body.dump();
    };
    for (let sent = 0; sent < 10_000; sent += 200)
      await Promise.all(Array.from({ length: 200 }, (_, index) => one(sent + index)));
    expect(seen).toEqual(new Set([200, 400, 401, 404]));
    expect((await countCommands(redis.url)) - before).toBe(0);
    expect(await dumpRedis(redis.url)).toEqual([]);
  }, 60_000);

  it('T51 costs the store nothing for a login that is only started', async () => {
    const redis: RedisServer = await startRedis();
    onTestFinished(() => redis.stop());
    world = await startWorld({ redisUrl: redis.url });
    const before = await countCommands(redis.url);
    for (let count = 0; count < 20; count++) {
      const begun = await world.browser().navigate('/bff/login', { followRedirects: false });
      expect(begun.status).toBe(303);
    }
    expect((await countCommands(redis.url)) - before).toBe(0);
  });
});

describe('T54 and T55 what answers and Redis hold', () => {
  it('T54 says no-store wherever it sets a cookie', async () => {
    world = await startWorld();
    const browser = await world.loggedIn();
    await browser.fetch('/api/orders/1');
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    await browser.navigate('/bff/callback?state=unknown&code=x');
    const forger = world.browser();
    await forger.fetch('/api/orders/1', { headers: { cookie: 'cloakroom=a.a; cloakroom=b.b' } });
    forger.setCookie('cloakroom=forged.forged; Path=/');
    await forger.fetch('/bff/session');
    await forger.fetch('/bff/logout', { method: 'POST', headers: csrf });
    const tab = browser.clone();
    await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
    await tab.fetch('/bff/session');
    const cookieHops = [...browser.history, ...forger.history, ...tab.history].filter(
      ({ url, setCookies }) => url.startsWith(world.origin) && setCookies.length > 0,
    );
    expect(cookieHops.length).toBeGreaterThanOrEqual(5);
    for (const { url, headers } of cookieHops) {
      const caching = headers.filter(([name]) => name.toLowerCase() === 'cache-control').map(([, value]) => value);
      expect(caching, url).toEqual(['no-store']);
    }
  });

  it('T55 leaves only keys that end, and end with the session, after everything a user does', async () => {
    world = await startWorld();
    const browser = await world.loggedIn();
    world.upstream.respond = hang();
    const gone = new AbortController();
    const left = browser.fetch('/api/orders/1', { signal: gone.signal }).catch(() => 'left');
    await until(() => world.upstream.active === 1);
    gone.abort();
    expect(await left).toBe('left');
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    world.provider.faults.refreshResponse = [{ status: 503 }];
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(503);
    const ended = await world.loggedIn('bob');
    await ended.fetch('/bff/logout', { method: 'POST', headers: csrf });
    const dump = await dumpRedis(world.redisUrl as string, `${world.keyPrefix}*`);
    expect(dump.length).toBeGreaterThan(4);
    for (const { key, pttl, value } of dump) {
      expect(pttl, key).toBeGreaterThan(0);
      expect(pttl, key).toBeLessThanOrEqual(10 * 3_600_000);
      expect(`${key}${value}`).not.toContain(sessionIdOf(browser));
    }
  });
});
