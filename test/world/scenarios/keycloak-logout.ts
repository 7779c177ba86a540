import { expect } from 'vitest';
import { findForm } from '../../support/browser/page.ts';
import type { Browser } from '../../support/browser.ts';
import type { ConfigData } from '../../support/config-data.ts';
import { until } from '../../support/wait.ts';
import { type App, call, isLoggedIn, logIn, type RealWorld, refresh } from '../support/real-world.ts';

/** Another application of the user who is logged in at the shop: both share Keycloak's session, as in most companies. */
async function openGallery({ server, shop, ...world }: RealWorld, change: (data: ConfigData) => void) {
  const gallery = await world.addApp({ change: ({ authorizationServer }) => change(authorizationServer) });
  const user = await server.addUser();
  const browser = await world.loggedIn(user);
  await logIn(browser, gallery, user);
  expect([await isLoggedIn(browser, gallery), await isLoggedIn(browser, shop)]).toEqual([true, true]);
  return { gallery, browser };
}

/** The page logs out by `fetch`, and is told where to go on. */
async function endSessionUrlOf(browser: Browser, app: App): Promise<string> {
  const answer = await call(browser, app, '/bff/logout', { method: 'POST' });
  return answer.json<{ endSessionUrl: string }>().endSessionUrl;
}

/** Where a login ends: at the application, or at Keycloak's form. */
const urlOfLogin = async (browser: Browser, app: App) =>
  (await browser.navigate(`${app.origin}/bff/login?return_to=/`, { from: app.origin })).url;

/** What of a logout is Keycloak's alone (W45). */
export const keycloakLogouts = {
  async 'W45 logout with the ID token in a form asks nobody, and ends all that shares the session'(world: RealWorld) {
    const { server, shop } = world;
    const { gallery, browser } = await openGallery(world, (data) => Object.assign(data, { idTokenHint: 'post' }));
    const url = await endSessionUrlOf(browser, gallery);
    expect(url).toMatch(new RegExp(`^${gallery.origin}/bff/end-session\\?state=[\\w-]+&once=[\\w-]+$`));
    const page = await browser.navigate(url, { from: gallery.origin });
    expect(page.hops.map(({ method, url: hop }) => `${method} ${hop.split('?')[0]}`)).toEqual([
      `GET ${gallery.origin}/bff/end-session`,
      `POST ${server.issuer}/protocol/openid-connect/logout`,
      `GET ${gallery.origin}/`,
    ]);
    expect(page.url).toBe(`${gallery.origin}/?state=${new URL(url).searchParams.get('state')}`);
    // Keycloak told the shop by the back channel.
    await until(async () => !(await isLoggedIn(browser, shop)), { message: 'the logout at the shop' });
    for (const app of [gallery, shop]) expect(await urlOfLogin(browser, app)).toContain(server.issuer);
  },

  async 'W45 logout by the link with the ID token in a form'(world: RealWorld) {
    const { server } = world;
    const { gallery, browser } = await openGallery(world, (data) => Object.assign(data, { idTokenHint: 'post' }));
    const { logoutUrl } = (await call(browser, gallery, '/bff/session')).json<{ logoutUrl: string }>();
    const page = await browser.navigate(`${gallery.origin}${logoutUrl}`, { from: gallery.origin });
    expect(page.url).toMatch(new RegExp(`^${gallery.origin}/\\?state=`));
    expect(await urlOfLogin(browser, gallery)).toContain(server.issuer);
  },

  async 'W45 a question that nobody answers leaves the server’s session, and the next login its tokens'(
    world: RealWorld,
  ) {
    const { gallery, browser } = await openGallery(world, (data) => Object.assign(data, { timeout: '3s' }));
    const question = await browser.navigate(await endSessionUrlOf(browser, gallery), { from: gallery.origin });
    expect(question.text).toContain('Do you want to log out?');
    expect(findForm(question.text, question.url)).toBeDefined();
    // What ADR 3 says of a logout without the hint: the next login is silent.
    expect(await urlOfLogin(browser, gallery)).toBe(`${gallery.origin}/`);
    await until(() => gallery.log().includes('its user has logged in again'), {
      timeoutMs: 20_000,
      message: 'the moment of the revocation',
    });
    expect((await refresh(browser, gallery)).status).toBe(200);
  },

  async 'W26 logout after our session ended elsewhere leads to the question, and ends the server’s session'(
    world: RealWorld,
  ) {
    const { server } = world;
    const { gallery, browser } = await openGallery(world, () => undefined);
    const tab = browser.clone();
    await endSessionUrlOf(tab, gallery);
    const question = await browser.navigate(await endSessionUrlOf(browser, gallery), { from: gallery.origin });
    expect(question.text).toContain('Do you want to log out?');
    const form = findForm(question.text, question.url);
    const page = await browser.navigate(form?.action as string, {
      from: new URL(question.url).origin,
      method: 'POST',
      body: new URLSearchParams(form?.body),
    });
    expect(page.url).toMatch(new RegExp(`^${gallery.origin}/\\?state=`));
    expect(await urlOfLogin(browser, gallery)).toContain(server.issuer);
  },
};
