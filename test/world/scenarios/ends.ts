import { expect } from 'vitest';
import { findForm } from '../../support/browser/page.ts';
import type { Browser } from '../../support/browser.ts';
import { until } from '../../support/wait.ts';
import { submit } from '../support/form.ts';
import { post, type RealServer } from '../support/real-server.ts';
import { type App, call, isLoggedIn, logIn, type RealWorld, refresh } from '../support/real-world.ts';

/** The user logs out in this application, and at the server as it says. */
async function logOut(browser: Browser, app: App) {
  const answer = await call(browser, app, '/bff/logout', { method: 'POST' });
  const { endSessionUrl } = answer.json<{ endSessionUrl: string }>();
  expect(await isLoggedIn(browser, app)).toBe(false);
  const page = await browser.navigate(endSessionUrl, { from: app.origin });
  const isAsked = new URL(page.url).origin !== app.origin && findForm(page.text, page.url) !== undefined;
  const end = isAsked ? await submit(browser, page) : page;
  return { endSessionUrl, isAsked, url: end.url };
}

/** The next refresh says that the session is over. */
async function expectEndAtRefresh(browser: Browser, app: App): Promise<void> {
  const answer = await refresh(browser, app);
  expect({ status: answer.status, ...answer.json() }).toMatchObject({ status: 401, code: 'BFF_SESSION_REQUIRED' });
  expect(await isLoggedIn(browser, app)).toBe(false);
}

/** What is written on the page's stream of events until it ends. */
async function events(browser: Browser, app: App) {
  const options = { headers: { accept: 'text/event-stream' }, from: app.origin };
  const stream = await browser.open(`${app.origin}/bff/events`, options);
  expect(stream.status).toBe(200);
  return stream;
}

export const ends = {
  async 'W45 logout by the user ends the server’s session too'({ shop, server, ...world }: RealWorld) {
    const browser = await world.loggedIn(await server.addUser());
    expect((await refresh(browser, shop)).status).toBe(200);
    const { refresh_token: last } = JSON.parse(server.relay.refreshes().at(-1)?.answer as string);
    const { endSessionUrl, isAsked, url } = await logOut(browser, shop);
    expect(endSessionUrl).toContain(server.issuer);
    expect(isAsked).toBe(server.asksAtLogout);
    expect(url).toMatch(new RegExp(`^${shop.origin}/(\\?state=.*)?$`));
    const form = await browser.login('/');
    expect(form.url).toContain(server.relay.url);
    expect(form.text).toContain('name="password"');
    expect(await isRefused(server, shop, last as string)).toBe(true);
  },

  async 'W45 logout with the ID token in a form'({ server, ...world }: RealWorld) {
    const gallery = await world.addApp({
      change(data) {
        data.authorizationServer.idTokenHint = 'post';
      },
    });
    const user = await server.addUser();
    const browser = world.browser();
    await logIn(browser, gallery, user);
    const { isAsked, url } = await logOut(browser, gallery);
    expect({ isAsked, url }).toEqual({ isAsked: false, url: expect.stringContaining(`${gallery.origin}/`) });
    expect(server.relay.overheard.some(({ form }) => form.has('id_token_hint'))).toBe(true);
    expect(browser.history.filter((hop) => hop.url.includes('id_token_hint'))).toEqual([]);
    // The server's session is over as well.
    const again = await browser.navigate(`${gallery.origin}/bff/login`, { from: gallery.origin });
    expect(again.text).toContain('name="password"');
  },

  async 'back-channel logout'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser();
    const browser = await world.loggedIn(user);
    const elsewhere = await world.loggedIn(user);
    const stream = await events(browser, shop);
    await server.logOutThere(browser);
    await stream.readUntil((text) => text.includes('"reason":"back-channel-logout"'));
    expect(await stream.ended).toBe('complete');
    expect([await isLoggedIn(browser, shop), await isLoggedIn(elsewhere, shop)]).toEqual([false, true]);
    expect((await call(browser, shop, '/api/orders/1')).status).toBe(401);
  },

  async 'front-channel logout'({ shop, server, ...world }: RealWorld) {
    const gallery = await world.addApp({ isFrontChannel: true });
    const user = await server.addUser();
    const browser = await world.loggedIn(user);
    await logIn(browser, gallery, user);
    const stream = await events(browser, gallery);
    // The server's page loads what it has to tell others in iframes, and goes back to the shop then.
    await logOut(browser, shop);
    const page = browser.history.findLast(({ body }) => body?.includes('<iframe'));
    const frames = page?.body?.toString().matchAll(/<iframe[^>]+src="([^"]+)"/g) ?? [];
    const urls = [...frames].map(([, url]) => (url as string).replaceAll('&amp;', '&'));
    expect(urls).toHaveLength(1);
    await browser.crossSite(urls[0] as string, { kind: 'iframe', from: server.relay.url });
    await stream.readUntil((text) => text.includes('"reason":"front-channel-logout"'));
    expect(await isLoggedIn(browser, gallery)).toBe(false);
  },

  async 'an operator ends the user’s sessions at the server'({ server, ...world }: RealWorld) {
    // Nobody tells this application: it is not registered for the back channel.
    const gallery = await world.addApp({ isFrontChannel: true });
    const user = await server.addUser();
    const browser = world.browser();
    await logIn(browser, gallery, user);
    expect((await refresh(browser, gallery)).status).toBe(200);
    await server.endSessions(user);
    await expectEndAtRefresh(browser, gallery);
  },

  async 'offline access outlives a logout at the server'(world: RealWorld) {
    const { server, shop } = world;
    const { browser, offline, user } = await openOffline(world);
    await logIn(browser, shop, user);
    await server.logOutThere(browser);
    expect((await refresh(browser, offline)).status).toBe(200);
    expect((await call(browser, offline, '/api/orders/1')).status).toBe(200);
  },

  async 'offline access ends with a logout at the application'(world: RealWorld) {
    const { server } = world;
    const { browser, offline } = await openOffline(world);
    expect((await refresh(browser, offline)).status).toBe(200);
    const { refresh_token: last } = JSON.parse(server.relay.refreshes().at(-1)?.answer as string);
    await logOut(browser, offline);
    const isRevoked = () =>
      server.relay.overheard.some(({ form, status }) => form.get('token') === last && status === 200);
    await until(isRevoked, { timeoutMs: 15_000, message: 'a revocation' });
    expect(await isRefused(server, offline, last as string)).toBe(true);
  },
};

/** A user who has logged in at an application that works on without them. */
async function openOffline({ server, ...world }: RealWorld) {
  const offline = await world.addApp({ scopes: ['openid', 'profile', 'offline_access'] });
  const user = await server.addUser();
  const browser = world.browser();
  await logIn(browser, offline, user);
  return { browser, offline, user };
}

/** Does the server take this refresh token from nobody any more? */
async function isRefused(server: RealServer, app: App, token: string): Promise<boolean> {
  return post(server.tokenEndpoint, app, { grant_type: 'refresh_token', refresh_token: token }).then(
    () => false,
    (error: Error) => error.message.includes('invalid_grant'),
  );
}
