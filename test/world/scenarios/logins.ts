import { expect } from 'vitest';
import { submit } from '../support/form.ts';
import { call, credentials, type RealWorld, refresh } from '../support/real-world.ts';

export const logins = {
  async 'a login by the server’s own form'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser();
    const browser = world.browser();
    const form = await browser.login('/');
    expect(form.url).toContain(server.relay.url);
    const again = await submit(browser, form, { ...credentials(user), password: 'wrong' });
    expect(again.url).toContain(server.relay.url);
    const page = await submit(browser, again, credentials(user));
    expect({ url: page.url, text: page.text }).toEqual({
      url: `${shop.origin}/`,
      text: expect.stringContaining('<title>Shop</title>'),
    });
    expect((await call(browser, shop, '/bff/session')).json()).toMatchObject({
      authenticated: true,
      user: {
        sub: user.sub,
        name: 'Alice Adams',
        preferred_username: user.username,
        email: `${user.username}@example.com`,
      },
    });
    expect(browser.rejectedCookies).toEqual([]);
  },

  async 'roles, as the server has them at the last refresh'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser([]);
    const browser = await world.loggedIn(user);
    const before = shop.api.requests.length;
    const order = async () => (await call(browser, shop, '/api/orders/1')).status;
    expect(await order()).toBe(403);
    expect(shop.api.requests).toHaveLength(before);

    await server.setRoles(user, ['clerk']);
    expect((await refresh(browser, shop)).status).toBe(200);
    expect(await order()).toBe(200);
    await server.setRoles(user, []);
    expect((await refresh(browser, shop)).status).toBe(200);
    expect(await order()).toBe(403);
  },
};
