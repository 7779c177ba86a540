import { expect } from 'vitest';
import type { Browser } from '../../support/browser.ts';
import { until } from '../../support/wait.ts';
import { call, isLoggedIn, type RealWorld, refresh } from '../support/real-world.ts';
import { isRefresh } from '../support/relay.ts';

export const trouble = {
  async 'W44 a new signing key, and another one at once'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser();
    const browser = await world.loggedIn(user);
    await server.changeKey();
    expect((await refresh(browser, shop)).status).toBe(200);
    const { removeOld } = await server.changeKey();
    const second = await world.loggedIn(user);
    for (const each of [browser, second]) expect((await refresh(each, shop)).status).toBe(200);
    await removeOld();
    const third = await world.loggedIn(user);
    for (const each of [browser, second, third]) {
      expect((await refresh(each, shop)).status).toBe(200);
      expect((await call(each, shop, '/api/orders/1')).status).toBe(200);
    }
    expect(shop.log()).not.toContain('a refreshed ID token could not be verified');
  },

  async 'the server is killed during a refresh and comes back: nobody is logged out'({
    shop,
    server,
    ...world
  }: RealWorld) {
    await server.setAccessTokenLife(6); // refreshes all the time
    const browsers: Browser[] = [];
    for (let count = 0; count < 4; count++) browsers.push(await world.loggedIn(await server.addUser()));
    // A server that is killed may forget the last second (Keycloak's H2 writes twice a second): all of this is older,
    // when the next refresh comes in half the life of a token.
    for (const browser of browsers) expect((await refresh(browser, shop)).status).toBe(200);
    const statuses = new Set<number>();
    const begun = server.relay.refreshes().length;
    const over = new AbortController();
    const work = async (browser: Browser) => {
      while (!over.signal.aborted) {
        const startedAt = performance.now();
        statuses.add((await call(browser, shop, '/api/orders/1')).status);
        await until(() => performance.now() > startedAt + 200);
      }
    };
    const works = browsers.map(work);

    await server.relay.next(isRefresh);
    await server.kill();
    await until(() => statuses.has(503), { timeoutMs: 60_000, message: 'a call without a token' });
    await server.restart();
    const before = server.relay.refreshes().length;
    const done = () => server.relay.refreshes().filter(({ status }, index) => index >= before && status === 200);
    await until(() => done().length >= 8, { timeoutMs: 120_000, message: 'refreshes' });
    over.abort();
    await Promise.all(works);

    const refused = server.relay.refreshes().filter(({ status }, index) => index >= begun && status >= 400);
    expect(refused.map(({ status, answer }) => `${status} ${answer}`)).toEqual([]);
    expect([...statuses].toSorted()).toEqual([200, 503]);
    for (const browser of browsers) {
      // A pause after a failure may not be over yet.
      await until(async () => (await refresh(browser, shop)).status !== 503, { timeoutMs: 60_000 });
      expect(await isLoggedIn(browser, shop)).toBe(true);
      expect((await call(browser, shop, '/api/orders/1')).status).toBe(200);
    }
    await server.setAccessTokenLife(60);
  },
};
