import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Frontends, startFrontends } from '../support/frontends.ts';
import { deliver, isLoggedIn, pendingLogin, startLogin, userOf } from '../support/login-steps.ts';

const csrf = { headers: { 'x-csrf': '1' } };
const bearerClaims = (authorization = '') =>
  JSON.parse(Buffer.from(authorization.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;

describe.each(['host', 'path'] as const)('two frontends, apart by %s', (apart) => {
  let all: Frontends;
  let shopPath: string;
  let officePath: string;
  beforeAll(async () => {
    all = await startFrontends(apart);
    shopPath = new URL(all.shop).pathname.replace(/\/$/, '');
    officePath = new URL(all.office).pathname.replace(/\/$/, '');
  });
  afterAll(() => all.stop());
  beforeEach(() => {
    all.world.provider.reset();
    all.officeProvider.reset();
    all.world.upstream.requests.length = 0;
  });

  /** A browser on a page of that frontend. On one host both frontends have the same origin. */
  const shopBrowser = () => all.browser(new URL(all.shop).origin, { loginPath: `${shopPath}/bff/login` });
  const officeBrowser = () => all.browser(new URL(all.office).origin, { loginPath: `${officePath}/bff/login` });

  it('logs in at each with its own client, redirect URI and API', async () => {
    const shop = shopBrowser();
    const office = officeBrowser();
    all.world.provider.nextLogin({ sub: 'alice' });
    all.officeProvider.nextLogin({ sub: 'bob' });
    expect((await shop.login(`${shopPath}/cart`)).url).toBe(`${all.shop}/cart`);
    expect((await office.login(`${officePath}/desk`)).url).toBe(`${all.office}/desk`);
    const [atShop] = all.world.provider.requestsTo('authorize');
    const [atOffice] = all.officeProvider.requestsTo('authorize');
    expect(atShop?.params.get('redirect_uri')).toBe(`${all.shop}/bff/callback`);
    expect(atShop?.params.get('client_id')).toBe('shop-client');
    expect(atOffice?.params.get('redirect_uri')).toBe(`${all.office}/bff/callback`);
    expect(atOffice?.params.get('client_id')).toBe('office-client');
    expect(await userOf(shop, `${shopPath}/bff/session`)).toBe('alice');
    expect(await userOf(office, `${officePath}/bff/session`)).toBe('bob');

    await shop.fetch(`${shopPath}/api/orders/1`, csrf);
    await office.fetch(`${officePath}/api/staff/1`, csrf);
    const [orders, staff] = all.world.upstream.requests;
    expect(orders?.target).toBe('/orders/1');
    expect(bearerClaims(orders?.header('authorization'))).toMatchObject({ sub: 'alice', aud: 'shop-api' });
    expect(staff?.target).toBe('/staff/1');
    expect(bearerClaims(staff?.header('authorization'))).toMatchObject({ sub: 'bob', aud: 'office-api' });
  });

  it('gives each its own cookie, and the cookie of one means nothing to the other', async () => {
    const shop = shopBrowser();
    await shop.login(`${shopPath}/`);
    const nameOf = (frontend: string) =>
      `cloakroom-${frontend}_${all.world.port}${apart === 'path' ? `__${frontend}` : ''}`;
    expect(shop.cookies().map(({ name }) => name)).toEqual([nameOf('shop')]);
    const stolen = shop.cookie(nameOf('shop'))?.value;

    const office = officeBrowser();
    for (const name of [nameOf('shop'), nameOf('office')]) {
      office.setCookie(`${name}=${stolen}; Path=/`, { force: true });
      expect(await isLoggedIn(office, `${officePath}/bff/session`)).toBe(false);
      expect((await office.fetch(`${officePath}/api/staff/1`, csrf)).status).toBe(401);
    }
    expect(all.world.upstream.requests).toHaveLength(0);
    expect(await isLoggedIn(shop, `${shopPath}/bff/session`)).toBe(true);
  });

  it('serves no API of the other', async () => {
    const shop = shopBrowser();
    await shop.login(`${shopPath}/`);
    expect((await shop.fetch(`${shopPath}/api/staff/1`, csrf)).status).toBe(404);
    expect((await shop.fetch(`/api/orders/1`, csrf)).status).toBe(apart === 'host' ? 200 : 404);
  });

  it('logs out of one and stays logged in at the other', async () => {
    // On one host a browser holds both cookies at once.
    const shop = shopBrowser();
    const office = apart === 'host' ? officeBrowser() : shop;
    await shop.login(`${shopPath}/`);
    const officeLogin = `${officePath}/bff/login?return_to=${officePath}/`;
    await office.navigate(officeLogin, { from: office.origin });
    const page = await shop.fetch(`${shopPath}/bff/logout`, { method: 'POST', ...csrf });
    expect(page.json<{ endSessionUrl: string }>().endSessionUrl).toContain(all.world.provider.issuer);
    expect(await isLoggedIn(shop, `${shopPath}/bff/session`)).toBe(false);
    expect(await isLoggedIn(office, `${officePath}/bff/session`)).toBe(true);
  });

  it('T18 sends no code to the wrong server: the response of one frontend is nothing to the other', async () => {
    const shop = shopBrowser();
    const office = officeBrowser();
    const atShop = await pendingLogin(shop, `${shopPath}/`, `${shopPath}/bff/login`);
    const atOffice = await pendingLogin(office, `${officePath}/`, `${officePath}/bff/login`);
    const crossed = `${all.office}/bff/callback${new URL(atShop.callbackUrl).search}`;
    expect((await deliver(office, crossed)).status).toBe(400);
    expect((await deliver(shop, `${all.shop}/bff/callback${new URL(atOffice.callbackUrl).search}`)).status).toBe(400);
    expect(all.officeProvider.tokenRequests()).toHaveLength(0);
    expect(all.world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T18 refuses the code of one server under the state of the other (mix-up)', async () => {
    for (const withIss of [true, false]) {
      const shop = shopBrowser();
      const atShop = await pendingLogin(shop, `${shopPath}/`, `${shopPath}/bff/login`);
      const atOffice = await pendingLogin(officeBrowser(), `${officePath}/`, `${officePath}/bff/login`);
      const mixed = new URL(atOffice.callbackUrl);
      mixed.searchParams.set('state', new URL(atShop.callbackUrl).searchParams.get('state') ?? '');
      if (!withIss) mixed.searchParams.delete('iss');
      expect((await deliver(shop, `${all.shop}/bff/callback${mixed.search}`)).status).toBe(400);
      expect(await isLoggedIn(shop, `${shopPath}/bff/session`)).toBe(false);
    }
    expect(all.officeProvider.tokenRequests()).toHaveLength(0);
    expect(all.world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T18 refuses a login cookie that was carried over from the other frontend', async () => {
    const shop = shopBrowser();
    const atShop = await pendingLogin(shop, `${shopPath}/`, `${shopPath}/bff/login`);
    const office = officeBrowser();
    for (const { name, value } of shop.allCookies()) {
      office.setCookie(`${name}=${value}; Path=/`, { force: true });
      office.setCookie(`${name.replace('shop', 'office')}=${value}; Path=/`, { force: true });
    }
    const page = await deliver(office, `${all.office}/bff/callback${new URL(atShop.callbackUrl).search}`);
    expect(page.status).toBe(400);
    expect(all.officeProvider.tokenRequests()).toHaveLength(0);
  });
});

it('T9 serves each frontend under its own host only', async () => {
  const all = await startFrontends('host');
  const shop = all.browser(all.shop);
  for (const host of [`evil.localhost:${all.world.port}`, `localhost:${all.world.port}`, 'shop.localhost']) {
    expect((await shop.navigate('/bff/login', { headers: { host }, followRedirects: false })).status).toBe(421);
  }
  const headers = { 'x-forwarded-host': new URL(all.office).host };
  const page = await shop.navigate('/bff/login', { from: all.shop, headers, followRedirects: false });
  expect(new URL(page.header('location') ?? '').searchParams.get('redirect_uri')).toBe(`${all.shop}/bff/callback`);
  await all.stop();
});

it('keeps the cookies of frontends apart whose names begin alike', async () => {
  const all = await startFrontends('path', (frontends) => {
    const { publicUrl } = frontends.office;
    frontends['shop-login'] = { ...frontends.office, publicUrl: `${publicUrl}-1` };
    frontends['shop-login-desk'] = { ...frontends.office, publicUrl: `${publicUrl}-2` };
    frontends['shop-restarted'] = { ...frontends.office, publicUrl: `${publicUrl}-3` };
  });
  const browser = all.browser(new URL(all.shop).origin, { loginPath: '/shop/bff/login' });
  for (const number of [1, 2, 3]) await browser.navigate(`/office-${number}/bff/login`, { from: browser.origin });
  await startLogin(browser, '/office-1/', '/office-1/bff/login');
  const before = browser.allCookies().map(({ name, value }) => `${name}=${value}`);
  expect(before).toHaveLength(4);

  const { callbackUrl } = await pendingLogin(browser, '/shop/', '/shop/bff/login');
  const kept = browser.clone();
  await deliver(browser, callbackUrl);
  await deliver(kept, callbackUrl);
  for (const one of [browser, kept]) {
    expect(one.allCookies().map(({ name, value }) => `${name}=${value}`)).toEqual(expect.arrayContaining(before));
  }
  await kept.close();
  await all.stop();
});
