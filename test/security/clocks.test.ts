import { afterEach, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';

// T53: one replica's clock is five minutes off; Redis and the provider are right.

let world: World;
afterEach(() => world.stop());

describe.each([5, -5])('T53 a replica whose clock is %i minutes off', (minutes) => {
  it('kills no session, refreshes no token early or late, and shows the same times', async () => {
    world = await startWorld({ replicas: 2, skews: [0, minutes * 60_000], provider: { accessTokenSeconds: 240 } });
    const browser = await world.loggedIn();
    const elsewhere = world.browser(1);
    for (const { name, value } of browser.cookies()) elsewhere.setCookie(`${name}=${value}; Path=/`);

    for (const one of [browser, elsewhere, browser, elsewhere]) {
      expect((await one.fetch('/api/orders/1')).status).toBe(200);
    }
    expect(world.provider.tokenRequests('refresh_token')).toEqual([]);
    type Times = { session: { idleExpiresInSeconds: number }; token: { expiresInSeconds: number } };
    const right = (await browser.fetch('/bff/session')).json<Times>();
    const wrong = (await elsewhere.fetch('/bff/session')).json<Times>();
    expect(Math.abs(right.token.expiresInSeconds - wrong.token.expiresInSeconds)).toBeLessThanOrEqual(2);
    expect(Math.abs(right.session.idleExpiresInSeconds - wrong.session.idleExpiresInSeconds)).toBeLessThanOrEqual(2);
  });

  it('refreshes without ending the session, and without claims that it could not judge', async () => {
    world = await startWorld({ replicas: 2, skews: [0, minutes * 60_000], provider: { idTokenSeconds: 60 } });
    const browser = await world.loggedIn();
    const elsewhere = world.browser(1);
    for (const { name, value } of browser.cookies()) elsewhere.setCookie(`${name}=${value}; Path=/`);

    const refreshed = await elsewhere.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(refreshed.status).toBe(200);
    expect(refreshed.json<{ token: { expiresInSeconds: number } }>().token.expiresInSeconds).toBeGreaterThan(290);
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    const ours = world.upstream.requests.at(-1)?.header('authorization');
    expect(ours).toBe(`Bearer ${world.provider.issuedSecrets('access_token').at(-1)}`);
    expect(world.provider.reuseDetected()).toBe(0);
  });
});
