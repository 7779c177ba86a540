import { afterEach, describe, expect, it } from 'vitest';
import { call, createGate, sessionOf } from '../support/api-calls.ts';
import { expired, startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import type { World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const refreshes = () => world.provider.tokenRequests('refresh_token');

describe('a short-lived access token', () => {
  it('T119 of one second costs one refresh for each call that finds it expired, and never a loop', async () => {
    world = await startTimedWorld({ provider: { accessTokenSeconds: 1 } });
    const browser = await world.loggedIn();
    for (let count = 1; count <= 5; count++) {
      world.clock.advance(1000);
      expect((await call(browser)).status).toBe(200);
      expect(refreshes()).toHaveLength(count);
    }
  });

  it('T119 that is over before it arrives is used once, not refreshed again at once', async () => {
    world = await startTimedWorld({ provider: { accessTokenSeconds: 1 } });
    const browser = await world.loggedIn();
    const gate = createGate();
    world.provider.faults.refreshResponse = { times: 1, holdUntil: gate.opened };
    world.clock.advance(1000);
    const answer = call(browser);
    await until(() => refreshes().length === 1);
    world.clock.advance(10_000);
    gate.open();
    expect((await answer).status).toBe(200);
    expect(refreshes()).toHaveLength(1);
  });

  it.each([10, 60, 61])('T119 of %d s is not refreshed in the first half of its life', async (accessTokenSeconds) => {
    world = await startTimedWorld({ provider: { accessTokenSeconds } });
    const browser = await world.loggedIn();
    world.clock.advance(Math.floor(accessTokenSeconds * 500) - 1);
    for (const _ of [1, 2, 3]) await call(browser);
    expect(refreshes()).toEqual([]);
    world.clock.advance(2);
    for (const _ of [1, 2, 3]) await call(browser);
    await until(async () => (await sessionOf(browser)).token.expiresInSeconds > accessTokenSeconds / 2);
    expect(refreshes()).toHaveLength(1);
  });

  it('T119 without refresh token is used to its end, and then the session is over', async () => {
    world = await startTimedWorld({ provider: { issueRefreshToken: false } });
    const browser = await world.loggedIn();
    world.clock.advance(expired - 1);
    expect((await call(browser)).status).toBe(200);
    world.clock.advance(1);
    expect((await call(browser)).status).toBe(401);
    expect(refreshes()).toEqual([]);
    expect((await sessionOf(browser)).authenticated).toBe(false);
  });
});
