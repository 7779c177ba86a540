import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, forceRefresh } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { onReplica } from '../support/ticket.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// SE2: how long a session may last, the provider may say too; only ever shorter than the configuration does.

const hour = 3600;
const lifetimes = { idleTimeout: '10h', absoluteTimeout: '10h' };

interface Ends {
  expiresInSeconds: number;
}
const left = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ session?: Ends }>().session?.expiresInSeconds;

describe('on a clock that is moved by hand', () => {
  let world: World;
  beforeEach(async () => {
    world = await startTimedWorld({ config: (data) => Object.assign(data.session, lifetimes) });
  });
  afterEach(() => world.stop());

  const now = () => Math.floor(world.clock.now() / 1000);
  const answers = (seconds: unknown) => ({
    mutate: (json: Record<string, unknown>) => ({ ...json, authorization_expires_in: seconds }),
  });

  it('SE2 a session ends when the ID token of the login says', async () => {
    const browser = await world.loggedIn('alice', { session_expiry: now() + hour });
    expect(await left(browser)).toBe(hour);
    world.clock.advance(hour * 1000 - 1000);
    expect((await call(browser)).status).toBe(200);
    world.clock.advance(1000);
    expect((await call(browser)).status).toBe(401);
  });

  it('SE2 a session ends when the token response of the login says', async () => {
    world.provider.faults.tokenResponse = [answers(hour)];
    const browser = await world.loggedIn();
    expect(await left(browser)).toBe(hour);
    world.clock.advance(hour * 1000);
    expect((await call(browser)).status).toBe(401);
  });

  it('SE2 the nearer of the two counts', async () => {
    world.provider.faults.tokenResponse = [answers(2 * hour)];
    expect(await left(await world.loggedIn('alice', { session_expiry: now() + hour }))).toBe(hour);
    world.provider.faults.tokenResponse = [answers(hour)];
    expect(await left(await world.loggedIn('alice', { session_expiry: now() + 2 * hour }))).toBe(hour);
  });

  it('SE2 a provider can’t lengthen a session, nor can nonsense shorten it', async () => {
    const configured = 10 * hour;
    for (const claims of [
      { session_expiry: now() + 100 * hour },
      { session_expiry: String(now() + hour) },
      { session_expiry: null },
      { session_expiry: [now() + hour] },
    ])
      expect(await left(await world.loggedIn('alice', claims)), JSON.stringify(claims)).toBe(configured);
    for (const seconds of [100 * hour, '3600', null, {}]) {
      world.provider.faults.tokenResponse = [answers(seconds)];
      expect(await left(await world.loggedIn()), JSON.stringify(seconds)).toBe(configured);
    }
  });

  it('SE2 refresh_expires_in is no ceiling: it begins anew with every refresh', async () => {
    world.provider.faults.tokenResponse = [{ mutate: (json) => ({ ...json, refresh_expires_in: 60 }) }];
    expect(await left(await world.loggedIn())).toBe(10 * hour);
  });

  it('SE2 a refresh moves the end nearer, by either way, and never further', async () => {
    const browser = await world.loggedIn();
    const refreshed = async () => {
      expect((await forceRefresh(browser)).status).toBe(200);
      return left(browser);
    };
    world.provider.faults.refreshIdToken = [{ claims: { session_expiry: now() + 3 * hour } }];
    expect(await refreshed()).toBe(3 * hour);
    world.provider.faults.refreshResponse = [answers(2 * hour)];
    expect(await refreshed()).toBe(2 * hour);
    world.provider.faults.refreshIdToken = [{ claims: { session_expiry: now() + 5 * hour } }];
    world.provider.faults.refreshResponse = [answers(8 * hour)];
    expect(await refreshed()).toBe(2 * hour);
    expect(await refreshed()).toBe(2 * hour);
    world.clock.advance(2 * hour * 1000);
    expect((await call(browser)).status).toBe(401);
  });

  it('SE2 a refresh that says "over" ends the session', async () => {
    const browser = await world.loggedIn();
    const stream = await browser.open('/bff/events');
    world.provider.faults.refreshIdToken = [{ claims: { session_expiry: now() } }];
    expect((await forceRefresh(browser)).status).toBe(401);
    await stream.readUntil((text) => text.includes('event: ended'));
    expect((await call(browser)).status).toBe(401);
    await until(() => world.provider.revoked.length === 1, { message: 'the revocation of what nobody will use' });
  });

  it('SE2 a login that is over before it began is refused, once, and its tokens are revoked', async () => {
    world.provider.nextLogin({ sub: 'alice', claims: { session_expiry: now() } });
    const browser = world.browser();
    const page = await browser.login('/');
    expect(page.status).toBe(403);
    expect(page.text).toContain('BFF_LOGIN_REFUSED');
    expect(browser.cookie('cloakroom')).toBeUndefined();
    await until(() => world.provider.revoked.length === 1, { message: 'the revocation' });
  });
});

describe('on Redis', () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld({ replicas: 2, config: (data) => Object.assign(data.session, lifetimes) });
  });
  afterEach(() => world.stop());

  const now = () => Math.floor(Date.now() / 1000);

  it('SE2 the end of the login and the nearer one of a refresh hold on every replica', async () => {
    const browser = await world.loggedIn('alice', { session_expiry: now() + 2 * hour });
    expect(Math.abs(((await left(browser)) ?? 0) - 2 * hour)).toBeLessThan(10);
    for (const further of [hour, 2 * hour, 20 * hour]) {
      world.provider.faults.refreshIdToken = [{ claims: { session_expiry: now() + further } }];
      expect((await forceRefresh(browser)).status).toBe(200);
    }
    expect(Math.abs(((await left(onReplica(world, 1, browser))) ?? 0) - hour)).toBeLessThan(10);
  });

  it('SE2 a refresh that says "over" ends the session', async () => {
    const browser = await world.loggedIn();
    world.provider.faults.refreshIdToken = [{ claims: { session_expiry: now() - 1 } }];
    await forceRefresh(browser);
    expect((await call(browser)).status).toBe(401);
    expect(await left(browser)).toBeUndefined();
  });
});
