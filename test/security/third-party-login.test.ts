import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import { startFrontends } from '../support/frontends.ts';
import { leadsTo, pendingLogin, startAgainOf, startLogin, userOf } from '../support/login-steps.ts';
import { ticketOf } from '../support/ticket.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// W34: a portal's tile opens /bff/login, as OpenID Connect Core §4 has it: GET or POST, `iss`, `target_link_uri` and
// `login_hint`. By setting only. Another site may begin a login, and nothing else: it chooses neither what is asked for
// nor where it ends, costs nobody a session, and pushes out no login of this site.

const portal = 'https://portal.example';
const configure = (data: ConfigData) => {
  data.authorizationServer.thirdPartyInitiatedLogin = true;
  data.authorizationServer.loginParameters = { prompt: ['login', 'none'], ui_locales: ['*'], acr_values: ['*'] };
};
let world: World;
beforeAll(async () => {
  world = await startWorld({ config: configure });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

type Parameters = Record<string, string | string[]>;

const asked = (parameters: Parameters = {}) => {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries({ iss: world.provider.issuer, ...parameters }))
    for (const one of [value].flat()) all.append(name, one);
  return all;
};
const byLink = (browser: Browser, parameters?: Parameters, from = portal) =>
  browser.crossSite(`/bff/login?${asked(parameters)}`, { from });
const byForm = (browser: Browser, parameters?: Parameters, from = portal) =>
  browser.crossSite('/bff/login', { from, kind: 'form', body: asked(parameters) });
const ways = { GET: byLink, POST: byForm };

/** The page does by itself what it says, as a browser would. */
const follow = (browser: Browser, page: Page, followRedirects = true) =>
  browser.navigate(leadsTo(page) ?? expect.fail(`it leads nowhere: ${page.status} ${page.text}`), {
    from: world.origin,
    followRedirects,
  });
const isNothingStarted = (page: Page) => {
  expect(page.header('location')).toBeUndefined();
  expect(page.setCookies).toEqual([]);
};

describe.each(Object.entries(ways))('W34 by %s', (_method, open) => {
  it('W34 answers a page that comes again from our own origin, and nothing else yet', async () => {
    const page = await open(world.browser(), { target_link_uri: `${world.origin}/shop`, login_hint: 'al ice&x=1' });
    isNothingStarted(page);
    expect([page.status, page.header('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(page.header('cache-control')).toBe('no-store');
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'");
    const next = new URL(leadsTo(page) ?? '', world.origin);
    expect([next.origin, next.pathname]).toEqual([world.origin, '/bff/login']);
    expect(page.text).not.toContain('<script');
  });

  it('W34 logs in and goes to the target, with the hint (Core §4)', async () => {
    const browser = world.browser();
    const target = '/shop/coats?size=m&q=a%26b#winter/2';
    const page = await open(browser, { target_link_uri: world.origin + target, login_hint: 'alice@example.com' });
    const landed = await follow(browser, page);
    const [request] = world.provider.requestsTo('authorize');
    expect(request?.params.getAll('login_hint')).toEqual(['alice@example.com']);
    expect(landed.hops.find(({ url }) => url.includes('/bff/callback'))?.location).toBe(target);
    expect(await userOf(browser)).toBe('alice');
  });

  it('W34 goes straight to the target when a session of that issuer lives', async () => {
    const browser = await world.loggedIn('alice');
    const before = [ticketOf(browser), world.provider.requestsTo('authorize').length];
    world.provider.nextLogin({ sub: 'mallory' });
    const landed = await follow(browser, await open(browser, { target_link_uri: `${world.origin}/shop?x=1` }), false);
    expect([landed.status, landed.header('location')]).toEqual([303, '/shop?x=1']);
    expect([ticketOf(browser), world.provider.requestsTo('authorize').length]).toEqual(before);
    expect(await userOf(browser)).toBe('alice');
  });

  it('W34 goes to the start page without a target, with a relative one and with a return_to too', async () => {
    const browser = await world.loggedIn();
    const targets: [Parameters, string][] = [
      [{}, '/'],
      [{ target_link_uri: '' }, '/'],
      [{ target_link_uri: '/shop' }, '/shop'],
      [{ return_to: '/shop' }, '/shop'],
      [{ return_to: '/shop', target_link_uri: `${world.origin}/desk` }, '/desk'],
    ];
    for (const [parameters, target] of targets)
      expect((await follow(browser, await open(browser, parameters), false)).header('location')).toBe(target);
  });

  const evil = [
    'https://evil.example/',
    '//evil.example/',
    'javascript:alert(1)',
    'data:text/html,x',
    '/\\evil.example',
    'OWN.evil.example/',
    'OWN@evil.example/',
    'OWN//evil.example',
    'OWN/\\evil.example',
    'OWN/%5cevil.example',
    'OWN/%0d%0aSet-Cookie:x=1',
    'OWN/bff/logout?sid=1',
    'OWN/bff/login?prompt=login',
    'blob:OWN/x',
    `OWN/${'a'.repeat(3000)}`,
  ];
  it.each(evil)('W34 takes no target %s', async (target) => {
    const browser = await world.loggedIn();
    const page = await open(browser, { target_link_uri: target.replace('OWN', world.origin) });
    expect((await follow(browser, page, false)).header('location')).toBe('/');
  });

  it('W34 carries nobody to an API, which no other site can call', async () => {
    const browser = await world.loggedIn();
    const before = world.upstream.requests.length;
    expect((await browser.crossSite('/api/orders/1', { from: portal })).status).toBe(401);
    for (const path of ['/api/orders/1?delete=1', '/api/orders', '/x/../api/orders/1']) {
      const page = await open(browser, { target_link_uri: world.origin + path });
      expect((await follow(browser, page)).url).toBe(`${world.origin}/`);
    }
    expect(world.upstream.requests).toHaveLength(before);
    // Beside it there may be a page of the application.
    const page = await open(browser, { target_link_uri: `${world.origin}/api/orders-of-today` });
    expect((await follow(browser, page, false)).header('location')).toBe('/api/orders-of-today');
  });

  const ignored = {
    prompt: 'none',
    ui_locales: 'de',
    acr_values: '0',
    scope: 'admin',
    client_id: 'evil',
    redirect_uri: 'https://evil.example/',
    step_up: 'x',
    max_age: '0',
    login_hint: 'x'.repeat(257),
  };
  it.each(Object.entries(ignored))('W34 ignores %s', async (name, value) => {
    const browser = world.browser();
    const regular = await startLogin(world.browser());
    const started = await follow(browser, await open(browser, { [name]: value }), false);
    const url = new URL(started.header('location') ?? '');
    expect([...url.searchParams.keys()].sort()).toEqual([...regular.searchParams.keys()].sort());
    expect(url.searchParams.getAll(name)).not.toContain(value);
  });

  const wrong = {
    'of nobody': '',
    'of another server': 'https://evil.example',
    'with a slash more': 'ISSUER/',
    'in another case': 'UPPER',
    'that is there twice': ['ISSUER', 'ISSUER'],
  };
  it.each(Object.entries(wrong))('W34 asks for a click with an iss %s, which keeps the target', async (_what, iss) => {
    const { issuer } = world.provider;
    const said = [iss].flat().map((one) => one.replace('ISSUER', issuer).replace('UPPER', issuer.toUpperCase()));
    const page = await open(world.browser(), { iss: said, target_link_uri: `${world.origin}/shop` });
    isNothingStarted(page);
    expect([page.status, leadsTo(page)]).toEqual([403, undefined]);
    expect(startAgainOf(page)).toBe('/bff/login?return_to=%2Fshop');
  });

  it('W34 is the same for another port or sibling of one site', async () => {
    const browser = world.browser();
    const page = await open(browser, { target_link_uri: '/shop' }, 'http://localhost:1');
    expect(page.hops[0]?.requestHeaders['sec-fetch-site']).toBe('same-site');
    expect((await follow(browser, page)).url).toBe(`${world.origin}/shop`);
  });
});

describe('W34 what begins no login', () => {
  it.each(['image', 'iframe', 'script', 'prefetch', 'fetch'] as const)('W34 a %s of another site', async (kind) => {
    const page = await world.browser().crossSite(`/bff/login?${asked()}`, { from: portal, kind });
    isNothingStarted(page);
    expect([leadsTo(page), page.status >= 400]).toEqual([undefined, true]);
  });

  it('W34 a page that a browser loads before anyone asked for it', async () => {
    for (const headers of [{ 'sec-purpose': 'prefetch;prerender' }, { purpose: 'prefetch' }]) {
      const page = await world.browser().navigate(`/bff/login?${asked()}`, { from: portal, headers });
      isNothingStarted(page);
      expect([page.status, leadsTo(page)]).toEqual([403, undefined]);
    }
  });

  it('W34 never comes again twice, whatever the browser says of the second time', async () => {
    const browser = world.browser();
    const page = await byLink(browser, { target_link_uri: '/shop' });
    const again = await browser.crossSite(leadsTo(page) ?? '', { from: portal });
    isNothingStarted(again);
    expect([again.status, leadsTo(again)]).toEqual([403, undefined]);
    expect(startAgainOf(again)).toBe('/bff/login?return_to=%2Fshop');
  });

  it('W34 takes small forms only', async () => {
    const send = (body: string | URLSearchParams | Record<string, string>) =>
      world.browser().navigate('/bff/login', { method: 'POST', from: portal, body });
    expect((await send(asked({ x: 'x'.repeat(20_000) }))).status).toBe(413);
    expect((await send({ iss: world.provider.issuer })).status).not.toBe(200);
    expect((await send(JSON.stringify({ iss: world.provider.issuer }))).status).toBe(415);
    // What a form sends is in its body.
    const page = await world.browser().crossSite(`/bff/login?${asked()}`, { from: portal, kind: 'form', body: 'x=1' });
    expect([page.status, leadsTo(page)]).toEqual([403, undefined]);
  });

  it('W34 without the setting: a click for GET, nothing for POST', async () => {
    const plain = await startWorld({ store: 'memory' });
    const target = `/bff/login?iss=${encodeURIComponent(plain.provider.issuer)}&target_link_uri=%2Fshop`;
    const page = await plain.browser().crossSite(target, { from: portal });
    isNothingStarted(page);
    expect([page.status, leadsTo(page), startAgainOf(page)]).toEqual([403, undefined, '/bff/login?return_to=%2Fshop']);
    const posted = await plain.browser().crossSite('/bff/login', { from: portal, kind: 'form', body: 'iss=x' });
    expect([posted.status, posted.header('allow')]).toEqual([405, 'GET']);
    // Our own page may name the issuer for whatever reason; it begins a login.
    const browser = await plain.loggedIn();
    const started = await browser.navigate(target, { from: plain.origin, followRedirects: false });
    expect(started.header('location')).toContain('/authorize?');
    await plain.stop();
  });
});

it('W34 begins a login for a browser that says nothing of where a request comes from', async () => {
  const page = await world.browser().navigate(`/bff/login?${asked({ target_link_uri: '/shop' })}`, {
    headers: { 'sec-fetch-site': undefined, 'sec-fetch-mode': undefined, 'sec-fetch-dest': undefined },
    followRedirects: false,
  });
  expect(page.header('location')).toContain('/authorize?');
});

describe('W34 logins that another site began', () => {
  const loginCookies = (browser: Browser) => browser.allCookies().filter(({ name }) => name.includes('.login.'));
  const names = (browser: Browser) => loginCookies(browser).map(({ name }) => name);
  const openTile = async (browser: Browser, target = '/') =>
    follow(browser, await byLink(browser, { target_link_uri: target }), false);

  it('W34 push out none of this site’s, only one another', async () => {
    const browser = world.browser();
    const own = [await pendingLogin(browser, '/own-1'), await pendingLogin(browser, '/own-2')];
    const kept = names(browser);
    for (let count = 0; count < 50; count++) expect((await openTile(browser, `/${count}`)).status).toBe(303);
    expect(loginCookies(browser)).toHaveLength(5);
    expect(names(browser)).toEqual(expect.arrayContaining(kept));
    for (const [index, { callbackUrl }] of own.entries()) {
      const page = await browser.navigate(callbackUrl, { from: world.provider.issuer, followRedirects: false });
      expect(page.header('location')).toBe(`/own-${index + 1}`);
    }
  });

  it('W34 go first when this site needs room', async () => {
    const browser = world.browser();
    for (let count = 0; count < 5; count++) await openTile(browser);
    const own = [];
    for (let count = 0; count < 5; count++) own.push(await pendingLogin(browser, `/own-${count}`));
    for (const { callbackUrl } of own) {
      const page = await browser.clone().navigate(callbackUrl, { from: world.origin, followRedirects: false });
      expect(page.status).toBe(303);
    }
  });

  it('W34 ask for a click where there is no room', async () => {
    const browser = world.browser();
    for (let count = 0; count < 5; count++) await startLogin(browser);
    const before = names(browser);
    const page = await openTile(browser, '/shop');
    isNothingStarted(page);
    expect([page.status, startAgainOf(page)]).toEqual([403, '/bff/login?return_to=%2Fshop']);
    expect(names(browser)).toEqual(before);
    const clicked = await browser.navigate(startAgainOf(page) ?? '', { from: world.origin, followRedirects: false });
    expect(clicked.status).toBe(303);
    expect(loginCookies(browser)).toHaveLength(5);
  });

  it('W34 ask for a click where their cookie is too large beside this site’s', async () => {
    const browser = world.browser();
    await startLogin(browser, `/${'a'.repeat(1500)}`);
    const before = names(browser);
    expect((await openTile(browser, `/${'b'.repeat(2000)}`)).status).toBe(403);
    expect(names(browser)).toEqual(before);
    expect((await openTile(browser, '/b')).status).toBe(303);
    expect(names(browser)).toEqual(expect.arrayContaining(before));
  });
});

it('W34 logs nobody out at the neighbour on the same host', async () => {
  const all = await startFrontends('path', (frontends) => {
    frontends.shop.authorizationServer.thirdPartyInitiatedLogin = true;
  });
  const browser = all.browser(new URL(all.shop).origin, { loginPath: '/shop/bff/login' });
  await browser.login('/shop/');
  for (const path of ['/office/bff/logout', '/office/bff/end-session', '/office/%62ff/logout', '/office/api/staff']) {
    const parameters = new URLSearchParams({ iss: all.world.provider.issuer, target_link_uri: path });
    const page = await browser.crossSite(`/shop/bff/login?${parameters}`, { from: portal });
    const landed = await browser.navigate(leadsTo(page) ?? '', { from: new URL(all.shop).origin });
    expect(landed.hops.map(({ url }) => new URL(url).pathname)).toEqual(['/shop/bff/login', '/shop/']);
  }
  expect(all.officeProvider.requestsTo('endSession')).toEqual([]);
  await all.stop();
});
