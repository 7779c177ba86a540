import { Redis } from 'ioredis';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { forceRefresh, logOut } from '../support/api-calls.ts';
import type { StreamedPage } from '../support/browser/streamed-page.ts';
import type { Browser } from '../support/browser.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { onReplica } from '../support/ticket.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const csrf = { 'x-csrf': '1' };
const beatFast = (data: ConfigData) => Object.assign(data.session, { idleTimeout: '8s' }); // a beat of 400 ms
const hear = (browser: Browser, headers: Record<string, string> = {}) => browser.open('/bff/events', { headers });

/** The data of the events of one kind so far. */
function eventsOf(stream: StreamedPage, kind: string): Record<string, unknown>[] {
  const blocks = stream.text().split('\n\n').slice(0, -1);
  return blocks
    .filter((block) => block.split('\n').includes(`event: ${kind}`))
    .map((block) => JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? 'null'));
}

async function untilEvent(stream: StreamedPage, kind: string): Promise<Record<string, unknown>> {
  await until(() => eventsOf(stream, kind).length > 0, { message: `the event ${kind}` });
  return eventsOf(stream, kind)[0] as Record<string, unknown>;
}

describe('GET /bff/events', () => {
  it('is not for anonymous browsers, other sites, or other methods', async () => {
    world = await startWorld();
    const refused = await hear(world.browser());
    expect([refused.status, refused.header('content-type')]).toEqual([401, 'application/problem+json; charset=utf-8']);
    const browser = await world.loggedIn();
    browser.setCookie(`cloakroom=${browser.cookie('cloakroom')?.value}; Path=/; SameSite=None; Secure`, {
      force: true,
    });
    const foreign = await browser.crossSite('/bff/events', { from: 'https://evil.example', kind: 'fetch' });
    expect([foreign.status, foreign.text.includes('BFF_CSRF_REJECTED')]).toEqual([403, true]);
    expect((await browser.fetch('/bff/events', { method: 'POST', headers: csrf })).header('allow')).toBe('GET');
  });

  it('answers as an event stream that nobody keeps or buffers, with a jittered retry', async () => {
    world = await startWorld();
    const browser = await world.loggedIn();
    const retries = new Set<number>();
    for (let count = 0; count < 8; count++) {
      const stream = await hear(browser);
      expect(stream.status).toBe(200);
      expect(stream.header('content-type')).toBe('text/event-stream');
      expect(stream.header('cache-control')).toBe('no-store');
      expect(stream.header('x-accel-buffering')).toBe('no');
      expect(stream.header('x-content-type-options')).toBe('nosniff');
      const retry = Number(/^retry: (\d+)$/m.exec(await stream.readUntil((text) => text.includes('retry: ')))?.[1]);
      expect(retry).toBeGreaterThanOrEqual(2000);
      expect(retry).toBeLessThan(7000);
      retries.add(retry);
      stream.abort();
    }
    expect(retries.size).toBeGreaterThan(1);
  });

  it('says on every replica that the session ended, with the reason, and closes', async () => {
    world = await startWorld({ replicas: 2 });
    const browser = await world.loggedIn();
    const streams = [
      await hear(browser),
      await hear(onReplica(world, 1, browser)),
      await hear(onReplica(world, 1, browser)),
    ];
    const other = await hear(await world.loggedIn('bob'));
    expect((await logOut(browser)).status).toBe(200);
    for (const stream of streams) {
      expect(await untilEvent(stream, 'ended')).toEqual({ reason: 'logout' });
      expect(await stream.ended).toBe('complete');
    }
    expect(eventsOf(other, 'ended')).toEqual([]);
    expect((await hear(onReplica(world, 1, browser))).status).toBe(401);
    other.abort();
  });

  it('says claims_changed after a refresh that brought new roles, not after any other', async () => {
    world = await startWorld({ replicas: 2 });
    const browser = await world.loggedIn('alice', { roles: ['reader'] });
    const stream = await hear(onReplica(world, 1, browser));
    expect((await forceRefresh(browser)).status).toBe(200);
    world.provider.faults.refreshIdToken = [{ claims: { roles: ['reader', 'admin'] } }];
    expect((await forceRefresh(browser)).status).toBe(200);
    await untilEvent(stream, 'claims_changed');
    expect((await onReplica(world, 1, browser).fetch('/bff/session')).json<{ user: object }>().user).toMatchObject({
      roles: ['reader', 'admin'],
    });
    await logOut(browser); // the last that it hears, so that nothing is still on its way when we count
    await untilEvent(stream, 'ended');
    expect(eventsOf(stream, 'claims_changed')).toHaveLength(1);
  });

  it('tells a browser that comes back what it missed', async () => {
    world = await startWorld();
    const browser = await world.loggedIn();
    const idOf = async (stream: StreamedPage) =>
      /^id: (.+)$/m.exec(await stream.readUntil((text) => text.includes('id: ')))?.[1] ?? '';
    const first = await hear(browser);
    const id = await idOf(first);
    first.abort();
    const again = await hear(browser, { 'last-event-id': id });
    await again.readUntil((text) => text.includes(':\n\n'));
    expect(eventsOf(again, 'claims_changed')).toEqual([]);
    again.abort();

    await forceRefresh(browser);
    const later = await hear(browser, { 'last-event-id': id });
    await untilEvent(later, 'claims_changed');
    const now = await idOf(later);
    later.abort();
    await browser.login('/'); // the same generation of another session
    await forceRefresh(browser);
    const other = await hear(browser, { 'last-event-id': now });
    await untilEvent(other, 'claims_changed');
    other.abort();
  });

  it('gives one session 16 streams, and gives the place of a closed one to the next', async () => {
    world = await startWorld();
    const browser = await world.loggedIn();
    const fill = async () => {
      const streams: StreamedPage[] = [];
      for (let count = 0; count < 16; count++) streams.push(await hear(browser));
      return streams;
    };
    const streams = await fill();
    expect(streams.map(({ status }) => status)).toEqual(Array(16).fill(200));
    const refused = await hear(browser);
    expect([refused.status, refused.header('retry-after')]).toEqual([429, '30']);
    const other = await hear(await world.loggedIn('bob'));
    expect(other.status).toBe(200);
    for (const stream of [...streams, other]) stream.abort();
    // All 16 places come back: none of them leaked.
    await until(
      async () => {
        const again = await fill();
        for (const stream of again) stream.abort();
        return again.every(({ status }) => status === 200);
      },
      { message: '16 free places' },
    );
  });
});

describe('time', () => {
  it('warns before the idle end, then says that it came; watching moves it not', async () => {
    world = await startTimedWorld({ config: beatFast });
    const browser = await world.loggedIn();
    const stream = await hear(browser);
    await stream.readUntil((text) => text.split(':\n\n').length > 3); // beats, at an instant that stands still
    expect(eventsOf(stream, 'expiring')).toEqual([]);
    world.clock.advance(5000);
    const warned = await untilEvent(stream, 'expiring');
    expect(warned).toMatchObject({ kind: 'idle', expiresInSeconds: 3 });
    world.clock.advance(2999);
    await stream.readUntil((text) => text.split(':\n\n').length > 6);
    expect([eventsOf(stream, 'expiring').length, eventsOf(stream, 'ended')]).toEqual([1, []]);
    world.clock.advance(1);
    expect(await untilEvent(stream, 'ended')).toEqual({ reason: 'expired' });
    expect(await stream.ended).toBe('complete');
  });

  it('warns again after a use, and before the absolute end', async () => {
    world = await startTimedWorld({
      config: (data) => Object.assign(data.session, { idleTimeout: '8s', absoluteTimeout: '14s' }),
    });
    const browser = await world.loggedIn();
    const stream = await hear(browser);
    world.clock.advance(5000);
    await untilEvent(stream, 'expiring');
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    world.clock.advance(6000);
    await until(() => eventsOf(stream, 'expiring').length === 2, { message: 'the second warning' });
    expect(eventsOf(stream, 'expiring')[1]).toMatchObject({ kind: 'idle', expiresInSeconds: 2 });
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    await until(() => eventsOf(stream, 'expiring').length === 3, { message: 'the third warning' });
    expect(eventsOf(stream, 'expiring')[2]).toMatchObject({ kind: 'absolute', expiresInSeconds: 3 });
    world.clock.advance(3000);
    expect(await untilEvent(stream, 'ended')).toEqual({ reason: 'expired' });
  });
});

describe('trouble', () => {
  it('goes on while Redis is gone, and hears of an end that it missed', async () => {
    const proxy = await startRedisProxy();
    world = await startWorld({ redisUrl: proxy.redisUrl, config: beatFast });
    const stream = await hear(await world.loggedIn());
    const beats = () => stream.text().split(':\n\n').length - 1;
    await until(() => beats() > 0);
    proxy.refuse();
    const before = beats();
    await until(() => beats() >= before + 3, { message: 'heartbeats without Redis' });
    expect(eventsOf(stream, 'ended')).toEqual([]);
    // Another replica ends the session meanwhile: nobody hears of it.
    const redis = new Redis(inject('redisUrl'));
    const [record = ''] = await redis.keys(`${world.keyPrefix}*:s`);
    expect(await redis.del(record)).toBe(1);
    redis.disconnect();
    proxy.reset();
    expect(await untilEvent(stream, 'ended')).toEqual({ reason: 'expired' });
    expect(await stream.ended).toBe('complete');
  });

  it('lets its streams go when the process stops, without saying that the session ended', async () => {
    world = await startWorld({ replicas: 2 });
    const browser = await world.loggedIn();
    const [leaving] = world.apps.splice(1, 1);
    const stream = await hear(onReplica(world, 1, browser));
    leaving?.startDraining();
    const late = await hear(onReplica(world, 1, browser));
    expect([late.status, late.header('connection')]).toEqual([200, 'close']);
    await leaving?.close();
    expect(await Promise.all([stream.ended, late.ended])).toEqual(['complete', 'complete']);
    expect([...eventsOf(stream, 'ended'), ...eventsOf(late, 'ended')]).toEqual([]);
  });
});
