import { expect } from 'vitest';
import { until } from '../../support/wait.ts';
import { post } from '../support/real-server.ts';
import { call, isLoggedIn, logIn, type RealWorld, refresh } from '../support/real-world.ts';

/** The claims of the ID token in a token response, unverified. */
export function idTokenIn(answer: string): Record<string, unknown> {
  const { id_token: token } = JSON.parse(answer) as { id_token: string };
  return JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString());
}

/** With a server that takes each refresh token once and never again. */
function strictly(play: (world: RealWorld) => Promise<void>) {
  return async (world: RealWorld): Promise<void> => {
    await world.server.detectReuse(true);
    try {
      await play(world);
    } finally {
      await world.server.detectReuse(false);
    }
  };
}

export const refreshes = {
  'refresh with rotation': strictly(async ({ shop, server, ...world }: RealWorld) => {
    const browser = await world.loggedIn(await server.addUser());
    const before = server.relay.refreshes().length;
    for (let count = 0; count < 3; count++) expect((await refresh(browser, shop)).status).toBe(200);
    const grants = server.relay.refreshes().slice(before);
    expect(grants.map(({ status }) => status)).toEqual([200, 200, 200]);
    const sent = grants.map(({ form }) => form.get('refresh_token'));
    const received = grants.map(({ answer }) => JSON.parse(answer).refresh_token);
    expect(new Set([...sent, received.at(-1)]).size).toBe(4);
    expect(sent.slice(1)).toEqual(received.slice(0, -1));
    expect((await call(browser, shop, '/api/orders/1')).status).toBe(200);
  }),

  'a stolen refresh token that comes again ends that session': strictly(
    async ({ shop, server, ...world }: RealWorld) => {
      const user = await server.addUser();
      const browser = await world.loggedIn(user);
      const elsewhere = await world.loggedIn(user);
      const before = server.relay.refreshes().length;
      // Keycloak tells an old token from a new one by whole seconds.
      const second = Math.floor(Date.now() / 1000);
      await until(() => Date.now() / 1000 >= second + 1);
      for (let count = 0; count < 2; count++) expect((await refresh(browser, shop)).status).toBe(200);
      const stolen = server.relay.refreshes()[before]?.form.get('refresh_token') as string;
      const form = { grant_type: 'refresh_token', refresh_token: stolen };
      await expect(post(server.tokenEndpoint, shop, form)).rejects.toThrow('invalid_grant');

      const answer = await refresh(browser, shop);
      expect({ status: answer.status, ...answer.json() }).toMatchObject({ status: 401, code: 'BFF_SESSION_REQUIRED' });
      expect([await isLoggedIn(browser, shop), await isLoggedIn(elsewhere, shop)]).toEqual([false, true]);
      expect((await refresh(elsewhere, shop)).status).toBe(200);
    },
  ),

  '50 parallel calls at expiry: one refresh, and the session lives': strictly(
    async ({ shop, server, ...world }: RealWorld) => {
      await server.setAccessTokenLife(8);
      const browser = await world.loggedIn(await server.addUser());
      const order = async () => (await call(browser, shop, '/api/orders/1')).status;
      expect(await order()).toBe(200);
      const { token } = (await call(browser, shop, '/bff/session')).json<{ token: { expiresAt: number } }>();
      await until(() => Date.now() / 1000 > token.expiresAt + 1, { timeoutMs: 20_000 });

      const before = server.relay.refreshes().length;
      const statuses = await Promise.all(Array.from({ length: 50 }, order));
      expect(statuses).toEqual(Array(50).fill(200));
      expect(server.relay.refreshes()).toHaveLength(before + 1);
      expect(await isLoggedIn(browser, shop)).toBe(true);
      await server.setAccessTokenLife(60);
      expect((await refresh(browser, shop)).status).toBe(200);
    },
  ),

  async 'W38 the same user logs in on a second device, and the first one refreshes'({
    shop,
    server,
    ...world
  }: RealWorld) {
    const user = await server.addUser();
    const first = await world.loggedIn(user);
    const refund = async () => (await call(first, shop, '/api/orders/1/refund', { method: 'POST' })).status;
    // The rule about refunds wants a login of the last ten seconds at the one server, and `gold` at the other.
    await until(async () => (await refund()) === 401, { timeoutMs: 20_000 });
    const second = world.browser();
    await logIn(second, shop, user);

    expect((await refresh(first, shop)).status).toBe(200);
    expect([await isLoggedIn(first, shop), await isLoggedIn(second, shop)]).toEqual([true, true]);
    expect((await call(first, shop, '/api/orders/1')).status).toBe(200);
    // Nobody has authenticated in this browser meanwhile.
    expect(await refund()).toBe(401);
  },
};
