import { afterEach, describe, expect, it } from 'vitest';
import { bearers, call, createGate, forceRefresh, logOut, sessionOf } from '../support/api-calls.ts';
import { ageing, expired, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import type { World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const refreshes = () => world.provider.tokenRequests('refresh_token');

describe('an access token', () => {
  it('is used as it is while it is fresh', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    world.clock.advance(239_000);
    await call(browser);
    expect(refreshes()).toEqual([]);
  });

  it('is refreshed ahead of its end, and nobody waits for that', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    world.clock.advance(ageing);
    expect((await call(browser)).status).toBe(200);
    expect((await call(browser)).status).toBe(200);
    await until(() => refreshes().length === 1);
    gate.open();
    await until(async () => {
      await call(browser);
      return new Set(bearers(world)).size === 2;
    });
    expect(refreshes()).toHaveLength(1);
  });

  it('that has expired is waited for', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    world.clock.advance(expired);
    const answer = call(browser);
    await until(() => refreshes().length === 1);
    expect(world.upstream.requests).toEqual([]);
    gate.open();
    expect((await answer).status).toBe(200);
    expect(bearers(world)).toEqual([`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`]);
  });

  it('is asked for once by 50 calls at the same time', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    world.clock.advance(expired);
    const answers = Array.from({ length: 50 }, () => call(browser));
    await until(() => refreshes().length === 1);
    gate.open();
    for (const answer of answers) expect((await answer).status).toBe(200);
    expect(refreshes()).toHaveLength(1);
    expect(new Set(bearers(world)).size).toBe(1);
    expect(world.provider.reuseDetected()).toBe(0);
  });

  it('T113 is fetched and stored although the browser left right after the refresh began', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    world.clock.advance(expired);
    const abort = new AbortController();
    const aborted = call(browser, abort.signal);
    await until(() => refreshes().length === 1);
    abort.abort();
    await expect(aborted).rejects.toThrow();
    gate.open();
    expect((await call(browser)).status).toBe(200);
    expect(refreshes()).toHaveLength(1);
    expect(world.provider.reuseDetected()).toBe(0);
  });

  it('T118 that arrives after the logout brings nothing back, and its refresh token is revoked', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const thief = browser.clone();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    world.clock.advance(expired);
    const answer = call(thief);
    await until(() => refreshes().length === 1);
    await logOut(browser);
    gate.open();
    expect((await answer).status).toBe(401);
    const last = String(world.provider.issuedSecrets('refresh_token').at(-1));
    await until(() => world.provider.revoked.includes(last));
    expect((await call(thief)).status).toBe(401);
    expect(world.upstream.requests).toEqual([]);
    await thief.close();
  });
});

describe('a refresh', () => {
  it.each(['omit', 'same'] as const)(
    'T115 that brings no new refresh token (%s) keeps the old one',
    async (rotation) => {
      world = await startTimedWorld({ provider: { rotation } });
      const browser = await world.loggedIn();
      for (const _ of [1, 2, 3]) expect((await forceRefresh(browser)).status).toBe(200);
      const [refreshToken] = world.provider.issuedSecrets('refresh_token');
      expect(refreshes().map(({ params }) => params.get('refresh_token'))).toEqual([
        refreshToken,
        refreshToken,
        refreshToken,
      ]);
    },
  );

  it.each(['', null])('T115 that brings an empty refresh token (%j) never overwrites the old one', async (empty) => {
    world = await startTimedWorld({ provider: { rotation: 'same' } });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { mutate: (json) => ({ ...json, refresh_token: empty }) };
    await forceRefresh(browser);
    delete world.provider.faults.refreshResponse;
    world.clock.advance(31_000);
    expect((await forceRefresh(browser)).status).toBe(200);
    expect(new Set(refreshes().map(({ params }) => params.get('refresh_token'))).size).toBe(1);
  });

  it('T115 that rotates is followed every time', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    for (const _ of [1, 2, 3]) expect((await forceRefresh(browser)).status).toBe(200);
    expect(new Set(refreshes().map(({ params }) => params.get('refresh_token'))).size).toBe(3);
    expect(world.provider.reuseDetected()).toBe(0);
  });

  it('T115 that narrows the scope is taken at its word, now and after the next one', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    expect((await sessionOf(browser)).token.scope).toBe('openid profile');
    world.provider.faults.refreshResponse = { times: 1, mutate: (json) => ({ ...json, scope: 'openid' }) };
    await forceRefresh(browser);
    expect((await sessionOf(browser)).token.scope).toBe('openid');
    world.provider.faults.refreshResponse = { times: 1, mutate: ({ scope: _, ...json }) => json };
    await forceRefresh(browser);
    expect((await sessionOf(browser)).token.scope).toBe('openid');
  });

  it('T115 without an ID token keeps who the user is', async () => {
    world = await startTimedWorld({ provider: { refreshIdToken: false } });
    const browser = await world.loggedIn('alice', { name: 'Alice' });
    expect((await forceRefresh(browser)).status).toBe(200);
    expect((await sessionOf(browser)).user).toEqual({ sub: 'alice', name: 'Alice', email: 'alice@example.com' });
  });

  it('T115 may repeat the nonce of the login', async () => {
    world = await startTimedWorld();
    const browser = await world.loggedIn();
    const nonce = world.provider.refreshFamilies()[0]?.nonce;
    expect(nonce).toBeTypeOf('string');
    world.provider.faults.refreshIdToken = { claims: { nonce } };
    for (const _ of [1, 2]) expect((await forceRefresh(browser)).status).toBe(200);
  });

  it('brings a new role into the session and into the very next call', async () => {
    world = await startTimedWorld({
      config: ({ apis }) => {
        apis.orders.require = { roles: ['admin'] };
      },
    });
    const browser = await world.loggedIn('alice', { roles: ['user'] });
    expect((await call(browser)).status).toBe(403);
    world.provider.faults.refreshIdToken = { claims: { roles: ['user', 'admin'] } };
    expect((await forceRefresh(browser)).json()).toMatchObject({ user: { sub: 'alice', roles: ['user', 'admin'] } });
    expect((await call(browser)).status).toBe(200);
    expect(bearers(world)).toEqual([`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`]);
  });

  it('takes a role away as well', async () => {
    world = await startTimedWorld({
      config: ({ apis }) => {
        apis.orders.require = { roles: ['admin'] };
      },
    });
    const browser = await world.loggedIn('alice', { roles: ['admin'] });
    expect((await call(browser)).status).toBe(200);
    world.provider.faults.refreshIdToken = { claims: { roles: undefined } };
    await forceRefresh(browser);
    expect((await call(browser)).status).toBe(403);
  });

  it('does not make the session live longer than its absolute end', async () => {
    world = await startTimedWorld({
      config: ({ session }) => {
        Object.assign(session, { idleTimeout: '10m', absoluteTimeout: '10m' });
      },
    });
    const browser = await world.loggedIn();
    for (const _ of [1, 2]) {
      world.clock.advance(expired - 1000);
      await forceRefresh(browser);
    }
    world.clock.advance(1999);
    expect((await sessionOf(browser)).authenticated).toBe(true);
    world.clock.advance(1);
    expect((await sessionOf(browser)).authenticated).toBe(false);
  });
});
