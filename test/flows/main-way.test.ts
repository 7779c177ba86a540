import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';

describe.each(['memory', 'redis'] as const)('the main way, on %s', (store) => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld({ store });
  });
  afterEach(() => world.stop());

  it('logs in, calls an API with the bearer token, refreshes and logs out', async () => {
    const browser = world.browser();
    world.provider.nextLogin({ sub: 'alice', claims: { name: 'Alice', roles: ['admin'] } });
    expect((await browser.fetch('/bff/session')).json()).toEqual({ authenticated: false, loginUrl: '/bff/login' });
    expect((await browser.fetch('/api/orders/7', { headers: { 'x-csrf': '1' } })).status).toBe(401);

    const landed = await browser.login('/shop?x=1#there');
    expect(landed.url).toBe(`${world.origin}/shop?x=1#there`);
    const session = (await browser.fetch('/bff/session')).json<Record<string, unknown>>();
    expect(session).toMatchObject({
      authenticated: true,
      user: { sub: 'alice', name: 'Alice', roles: ['admin'] },
      token: { refreshable: true },
    });

    const answer = await browser.fetch('/api/orders/7?a=1&b=%2F', { headers: { 'x-csrf': '1' } });
    expect(answer.status).toBe(200);
    expect(answer.json()).toEqual({ ok: true });
    const [arrived] = world.upstream.requests;
    expect(arrived?.target).toBe('/7?a=1&b=%2F');
    const firstToken = arrived?.header('authorization');
    expect(firstToken).toMatch(/^Bearer /);
    expect(arrived?.header('cookie')).toBeUndefined();

    const refreshed = await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(refreshed.status).toBe(200);
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);
    await browser.fetch('/api/orders/8');
    expect(world.upstream.requests[1]?.header('authorization')).not.toBe(firstToken);

    const loggedOut = await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(loggedOut.status).toBe(200);
    expect(loggedOut.json<{ endSessionUrl: string }>().endSessionUrl).toContain(world.provider.issuer);
    expect(browser.cookies()).toEqual([]);
    expect((await browser.fetch('/api/orders/9')).status).toBe(401);
  });
});
