import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import { forceRefresh, logOut, type SessionView } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { onReplica } from '../support/ticket.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, type PageSocket, refusalOf } from '../support/websocket/page.ts';
import { createWebSocketApi, echo, type WebSocketApi } from '../support/websocket/upstream.ts';
import { type ConfigData, startWorld, type World, type WorldOptions } from '../support/world.ts';

// What ends a WebSocket, and what either side hears of it.

let world: World;
let api: WebSocketApi;
afterEach(() => world.stop());

const offer =
  (settings: object = {}, more: (data: ConfigData) => void = () => undefined) =>
  (data: ConfigData) => {
    data.apis.orders.websocket = settings;
    more(data);
  };
const beatFast = (data: ConfigData) => Object.assign(data.session, { idleTimeout: '8s' }); // a beat of 400 ms

async function start(options: WorldOptions, starter: typeof startWorld = startWorld): Promise<void> {
  api = createWebSocketApi(echo);
  world = await starter(options);
  world.upstream.respond = api.respond;
}

/** Sends something and waits until it is back. */
async function exchange(page: PageSocket, text = randomBytes(4).toString('hex')): Promise<void> {
  page.socket.send(text);
  await until(() => page.messages.includes(text), { message: 'the echo' });
}

/** Milliseconds until it was closed, for "within five seconds". */
async function timed<T>(work: Promise<T>): Promise<T> {
  const before = performance.now();
  const result = await work;
  expect(performance.now() - before).toBeLessThan(5000);
  return result;
}

describe('a close', () => {
  it.each([
    [4321, 'as I like'],
    [1000, ''],
    [3000, 'x'.repeat(123)],
  ])('of the page with %s reaches the API, of the API the page', async (code, reason) => {
    await start({ store: 'memory', config: offer() });
    const browser = await world.loggedIn();
    const page = await openWebSocket(world, browser);
    page.socket.close(code, reason);
    await until(() => api.closed.length === 1);
    expect([api.closed[0], await page.closed]).toEqual([
      { code, reason },
      { code, reason },
    ]);
    const other = await openWebSocket(world, browser);
    for (const socket of api.sockets) socket.close(code, reason);
    expect(await other.closed).toEqual({ code, reason });
  });

  it('without a code stays one', async () => {
    await start({ store: 'memory', config: offer() });
    const browser = await world.loggedIn();
    const page = await openWebSocket(world, browser);
    page.socket.close();
    await until(() => api.closed.length === 1);
    expect(api.closed[0]).toEqual({ code: 1005, reason: '' });
    const other = await openWebSocket(world, browser);
    for (const socket of api.sockets) socket.close();
    expect(await other.closed).toEqual({ code: 1005, reason: '' });
  });

  it('comes after everything that was sent before', async () => {
    await start({ store: 'memory', config: offer() });
    const received: number[] = [];
    world.upstream.respond = createWebSocketApi((socket) => {
      socket.on('message', (data) => received.push((data as Buffer).length));
    }).respond;
    const page = await openWebSocket(world, await world.loggedIn());
    for (let count = 0; count < 50; count++) page.socket.send(Buffer.alloc(100_000));
    page.socket.close();
    await until(() => received.length === 50);
  });

  it('is told of when one side just vanishes', async () => {
    await start({ store: 'memory', config: offer() });
    const browser = await world.loggedIn();
    const page = await openWebSocket(world, browser);
    page.socket.terminate();
    await until(() => api.closed.length === 1);
    expect(api.closed[0]?.code).toBe(1001);
    const other = await openWebSocket(world, browser);
    for (const socket of api.sockets) socket.terminate();
    expect(await other.closed).toEqual({ code: 1014, reason: '' });
  });

  it('comes when nobody said anything for long, not before', async () => {
    await start({ store: 'memory', config: offer({ idle: '2s' }) });
    const page = await openWebSocket(world, await world.loggedIn());
    const before = performance.now();
    while (performance.now() - before < 3000) {
      await exchange(page);
      await delay(200);
    }
    expect(await page.closed).toEqual({ code: 4408, reason: 'idle' });
    expect(performance.now() - before).toBeGreaterThan(4500);
    await until(() => api.closed.length === 1);
  });

  it('comes when a page answers no pings any more, though the API goes on talking', async () => {
    await start({ store: 'memory', config: offer({ idle: '3s' }) });
    world.upstream.respond = createWebSocketApi((socket) => {
      const timer = setInterval(() => socket.send('tick'), 100);
      socket.on('close', () => clearInterval(timer));
    }).respond;
    const browser = await world.loggedIn();
    const alive = await openWebSocket(world, browser);
    const dead = await openWebSocket(world, browser, { autoPong: false });
    expect((await dead.closed).code).toBe(1006);
    const seen = alive.messages.length;
    await until(() => alive.messages.length > seen);
    expect(world.log.lines.find(({ msg }) => msg === 'websocket closed')).toMatchObject({ by: 'unresponsive' });
    alive.socket.terminate();
  });
});

describe('T103 the end of the session', () => {
  it('by a logout closes its WebSockets on every replica, and no others', async () => {
    await start({ replicas: 2, config: offer() });
    const browser = await world.loggedIn('alice');
    const pages = [
      await openWebSocket(world, browser),
      await openWebSocket(world, browser, { replica: 1 }),
      await openWebSocket(world, browser, { replica: 1 }),
    ];
    const other = await openWebSocket(world, await world.loggedIn('bob'), { replica: 1 });
    await logOut(browser);
    expect(await timed(Promise.all(pages.map(({ closed }) => closed)))).toEqual(
      pages.map(() => ({ code: 4401, reason: 'logout' })),
    );
    await until(() => api.closed.length === 3);
    expect(api.closed).toEqual(pages.map(() => ({ code: 1001, reason: '' })));
    await exchange(other);
    other.socket.terminate();
  });

  it('by every other kind of logout too, with its reason', async () => {
    const adminKey = randomBytes(32).toString('hex');
    await start({ replicas: 2, config: offer({}, (data) => Object.assign(data.ops, { adminKey })) });
    const issuer = encodeURIComponent(world.provider.issuer);
    const kinds: Record<string, (browser: Browser, sid: string) => Promise<unknown>> = {
      'back-channel-logout': (_browser, sid) => logOutByProvider(world, { sid, sub: null }),
      'front-channel-logout': (_browser, sid) =>
        world.browser().navigate(`/bff/frontchannel-logout?iss=${issuer}&sid=${sid}`),
      admin: (_browser, sid) =>
        world.app.ops.inject({
          method: 'DELETE',
          url: `/admin/sessions?iss=${issuer}&sid=${sid}`,
          headers: { authorization: `Bearer ${adminKey}` },
        }),
      'revoked-by-user': (browser) => browser.fetch('/bff/sessions', { method: 'DELETE', headers: { 'x-csrf': '1' } }),
      replaced: (browser) => browser.login('/'),
      'refresh-rejected': (browser) => {
        world.provider.faults.refreshResponse = [
          { status: 400, body: { error: 'invalid_grant' } },
          { status: 400, body: { error: 'invalid_grant' } },
        ];
        return forceRefresh(browser);
      },
    };
    for (const [reason, end] of Object.entries(kinds)) {
      const sid = `sid-${reason}`;
      world.provider.nextLogin({ sub: reason, sid });
      const browser = world.browser();
      await browser.login('/');
      const page = await openWebSocket(world, browser, { replica: 1 });
      await end(browser, sid);
      expect(await timed(page.closed), reason).toEqual({ code: 4401, reason });
    }
  });

  it('by its lifetime closes its WebSockets, however busy they are', async () => {
    await start({ config: offer({}, beatFast) }, startTimedWorld as typeof startWorld);
    const page = await openWebSocket(world, await world.loggedIn());
    await exchange(page);
    world.clock.advance(8000);
    const talk = setInterval(() => page.socket.send('still here'), 20);
    expect(await timed(page.closed)).toEqual({ code: 4401, reason: 'expired' });
    clearInterval(talk);
  });

  it('lets not one more message through, although the page is told a moment later', async () => {
    await start({ store: 'memory', config: offer() });
    const received: string[] = [];
    world.upstream.respond = createWebSocketApi((socket) => {
      socket.on('message', (data) => received.push(String(data)));
    }).respond;
    const browser = await world.loggedIn();
    const pages = [];
    for (let count = 0; count < 8; count++) pages.push(await openWebSocket(world, browser));
    await logOut(browser);
    for (const page of pages) page.socket.send('after the logout');
    const told = await Promise.all(pages.map(async ({ closed }) => (await closed) && performance.now()));
    expect(received).toEqual([]);
    // Spread, so that all the pages of a site do not come back in the same instant.
    expect(Math.max(...told) - Math.min(...told)).toBeGreaterThan(50);
    expect(Math.max(...told) - Math.min(...told)).toBeLessThan(2500);
  });

  it('while the API took its time to answer closes the WebSocket at once', { timeout: 10_000 }, async () => {
    await start({ store: 'memory', config: offer() }); // on Redis our own message would come back late, and help
    const { promise: opened, resolve: open } = Promise.withResolvers<void>();
    world.upstream.respond = async (request, socket) => {
      await opened;
      await api.respond(request, socket);
    };
    const browser = await world.loggedIn();
    const opening = openWebSocket(world, browser);
    await until(() => world.upstream.requests.length === 1);
    await logOut(browser);
    open();
    expect((await timed((await opening).closed)).code).toBe(4401);
  });
});

describe('T103 the end of the token', () => {
  it('closes the WebSocket, and the page opens another with the next token', async () => {
    await start({ config: offer(), provider: { accessTokenSeconds: 3 } });
    const browser = await world.loggedIn();
    const page = await openWebSocket(world, browser);
    const before = performance.now();
    expect(await page.closed).toEqual({ code: 4401, reason: 'token-expired' });
    expect(performance.now() - before).toBeLessThan(3000 + 5000);
    const again = await openWebSocket(world, browser);
    await exchange(again);
    const tokens = world.upstream.requests.map((request) => request.header('authorization'));
    expect([tokens.length, new Set(tokens).size]).toEqual([2, 2]);
    again.socket.terminate();
  });

  it('is survived with outliveToken, the end of the session is not', async () => {
    await start({ config: offer({ outliveToken: true }), provider: { accessTokenSeconds: 2 } });
    const browser = await world.loggedIn();
    const page = await openWebSocket(world, browser);
    const before = performance.now();
    while (performance.now() - before < 5000) {
      await exchange(page);
      await delay(250);
    }
    await logOut(browser);
    expect(await timed(page.closed)).toEqual({ code: 4401, reason: 'logout' });
  });

  it('that was over before the handshake makes a new one first', async () => {
    await start({ config: offer(), provider: { accessTokenSeconds: 60 } }, startTimedWorld as typeof startWorld);
    const browser = await world.loggedIn();
    world.clock.advance(120_000);
    const page = await openWebSocket(world, browser);
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);
    await exchange(page);
    page.socket.terminate();
  });
});

describe('T103 other rights', () => {
  const forClerks = offer({ outliveToken: true }, (data) => {
    data.apis.orders.require = { roles: ['clerk'] };
    data.apis.orders.routes = [{ path: '/prices', require: { roles: ['pricing'] } }];
  });
  const refreshWith = async (browser: Browser, roles: string[]) => {
    world.provider.faults.refreshIdToken = [{ claims: { roles } }];
    expect((await forceRefresh(browser)).status).toBe(200);
  };

  it('close what they do not reach any more, on every replica, and nothing else', async () => {
    await start({ replicas: 2, config: forClerks });
    const browser = await world.loggedIn('alice', { roles: ['clerk', 'pricing'] });
    const prices = await openWebSocket(world, browser, { path: '/api/orders/prices', replica: 1 });
    const orders = await openWebSocket(world, browser, { replica: 1 });
    await refreshWith(browser, ['clerk']);
    expect(await timed(prices.closed)).toEqual({ code: 4401, reason: 'policy-changed' });
    await exchange(orders);
    await refreshWith(browser, ['reader']);
    expect(await timed(orders.closed)).toEqual({ code: 4401, reason: 'policy-changed' });
    expect((await refusalOf(world, browser)).code).toBe('BFF_POLICY_DENIED');
    expect(
      (await onReplica(world, 1, browser).fetch('/bff/session')).json<{ authenticated: boolean }>().authenticated,
    ).toBe(true);
  });

  it('that are still enough close nothing', async () => {
    await start({ replicas: 2, config: forClerks });
    const browser = await world.loggedIn('alice', { roles: ['clerk'] });
    const page = await openWebSocket(world, browser, { replica: 1 });
    await refreshWith(browser, ['clerk', 'admin']);
    const other = await openWebSocket(world, browser, { replica: 1 });
    await logOut(browser); // the last that both hear
    expect(await page.closed).toEqual({ code: 4401, reason: 'logout' });
    expect(await other.closed).toEqual({ code: 4401, reason: 'logout' });
  });

  it('close it also when the message about them got lost; an outage of the store closes nothing', async () => {
    const proxy = await startRedisProxy();
    const rules = offer({ outliveToken: true }, (data) => {
      beatFast(data);
      data.apis.orders.require = { roles: ['clerk'] };
    });
    await start({ replicas: 2, redisUrl: proxy.redisUrl, config: rules });
    const browser = await world.loggedIn('alice', { roles: ['clerk'] });
    const page = await openWebSocket(world, browser, { replica: 1 });
    proxy.refuse();
    const before = performance.now();
    while (performance.now() - before < 1500) {
      await exchange(page);
      await delay(100);
    }
    proxy.reset();
    await until(async () => (await browser.fetch('/bff/session')).status === 200);
    let swallowed = 0;
    proxy.faults.answer = (sent) => {
      if (!/^\*3\r\n\$7\r\npublish\r\n/i.test(sent.toString('latin1')) || !sent.includes('claims_changed'))
        return undefined;
      swallowed++;
      return ':0\r\n';
    };
    await refreshWith(browser, ['reader']);
    expect(await timed(page.closed)).toEqual({ code: 4401, reason: 'policy-changed' });
    expect(swallowed).toBe(1);
  });
});

it('T103 rights that can’t be judged, because no token can be had, close nothing until they can', async () => {
  await start({
    config: offer({ outliveToken: true }, (data) => {
      data.apis.orders.require = { roles: ['clerk'] };
    }),
    provider: { accessTokenSeconds: 2 },
  });
  const browser = await world.loggedIn('alice', { roles: ['clerk'] });
  const page = await openWebSocket(world, browser);
  const redis = new Redis(world.redisUrl ?? '');
  const handle = /\{(.+)\}:s$/.exec((await redis.keys(`${world.keyPrefix}*:s`))[0] ?? '')?.[1] ?? '';
  await until(async () => (await browser.fetch('/bff/session')).json<SessionView>().token.expiresInSeconds <= 0);
  await world.provider.down();
  const asked = () =>
    world.log.lines.filter(({ level, frontend }) => level === 'warn' && frontend === 'default').length;
  const before = asked();
  await redis.publish(`${world.keyPrefix}events`, JSON.stringify({ kind: 'claims_changed', handle }));
  await until(() => asked() > before, { message: 'a refresh that fails' });
  redis.disconnect();
  await exchange(page);
  await world.provider.up();
  world.provider.faults.refreshIdToken = Array.from({ length: 5 }, () => ({ claims: { roles: ['reader'] } }));
  await until(async () => (await forceRefresh(browser)).status === 200, { timeoutMs: 10_000 });
  expect(await timed(page.closed)).toEqual({ code: 4401, reason: 'policy-changed' });
});

describe('a shutdown', () => {
  it('sends the pages to another replica, not all at once, and does not wait longer', async () => {
    await start({ replicas: 2, config: offer() });
    const browser = await world.loggedIn();
    const pages: PageSocket[] = [];
    for (let count = 0; count < 10; count++) pages.push(await openWebSocket(world, browser, { replica: 1 }));
    const stays = await openWebSocket(world, browser);
    const [leaving] = world.apps.splice(1, 1);
    const closing = leaving?.close();
    const told = await timed(
      Promise.all(
        pages.map(async ({ closed }) => {
          expect(await closed).toEqual({ code: 1001, reason: 'shutting-down' });
          return performance.now();
        }),
      ),
    );
    expect(Math.max(...told) - Math.min(...told)).toBeGreaterThan(100);
    await timed(closing ?? Promise.resolve());
    await exchange(stays);
    stays.socket.terminate();
  });

  it('does not wait for a page that answers no close frame', async () => {
    await start({ replicas: 2, config: offer() });
    const page = await openWebSocket(world, await world.loggedIn(), { replica: 1 });
    page.socket.pause();
    const [leaving] = world.apps.splice(1, 1);
    await timed(leaving?.close() ?? Promise.resolve());
    page.socket.terminate();
  });
});
