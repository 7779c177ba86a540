import { afterEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

/** Two Cloakrooms on localhost: to a browser one host, as cookies know no ports. */
let one: World;
let two: World;
const start = async (cookie: ConfigData = {}) => {
  const config = (data: ConfigData) => Object.assign(data, { cookie });
  [one, two] = [await startWorld({ config }), await startWorld({ config })];
};
afterEach(async () => {
  await one.stop();
  await two.stop();
});

const isLoggedIn = async (browser: Browser, { origin }: World) =>
  (await browser.navigate(`${origin}/bff/session`, { from: origin })).json<{ authenticated: boolean }>().authenticated;

/** As far as the provider’s redirect: the callback is for later. */
async function beginLogin(browser: Browser, { origin, provider }: World): Promise<string> {
  const begun = await browser.navigate(`${origin}/bff/login`, { from: origin, followRedirects: false });
  provider.nextLogin({ sub: 'alice' });
  const location = begun.header('location') ?? '';
  return (await browser.navigate(location, { from: origin, followRedirects: false })).header('location') ?? '';
}

async function logIn(browser: Browser, world: World): Promise<void> {
  const callback = await beginLogin(browser, world);
  await browser.navigate(callback, { from: world.provider.issuer });
}

const logOut = ({ origin }: World, browser: Browser) =>
  browser.fetch(`${origin}/bff/logout`, { method: 'POST', headers: { 'x-csrf': '1', origin } });

const namesOf = (browser: Browser) => browser.cookies().map(({ name }) => name);

describe('W7 two Cloakrooms on one host', () => {
  it('W7 have cookies of their own by default: neither ends the other’s session or login', async () => {
    await start();
    const browser = one.browser();
    const pending = await beginLogin(browser, one);
    await logIn(browser, two);
    expect(await isLoggedIn(browser, one)).toBe(false);
    await browser.navigate(pending, { from: one.provider.issuer });
    expect(new Set(namesOf(browser))).toEqual(new Set([`cloakroom_${one.port}`, `cloakroom_${two.port}`]));
    expect([await isLoggedIn(browser, one), await isLoggedIn(browser, two)]).toEqual([true, true]);

    await logOut(one, browser);
    expect([await isLoggedIn(browser, one), await isLoggedIn(browser, two)]).toEqual([false, true]);
  });

  it('W7 leave each other’s session alone where the name was given, but for a login or logout', async () => {
    await start({ name: 'mine' });
    const browser = two.browser();
    await logIn(browser, two);
    expect(await isLoggedIn(browser, one)).toBe(false);
    for (const path of ['/api/orders/1', '/bff/session', '/bff/sessions', '/bff/logout'])
      await browser.navigate(`${one.origin}${path}`, { from: one.origin });
    await browser.navigate(`${one.origin}/bff/callback?state=x&code=y`, { from: one.origin });
    expect(await isLoggedIn(browser, two)).toBe(true);

    await logIn(browser, one);
    expect([await isLoggedIn(browser, one), await isLoggedIn(browser, two)]).toEqual([true, false]);
    expect(await isLoggedIn(browser, one)).toBe(true);
  });

  it('W7 leave each other’s logins alone where the name was given', async () => {
    await start({ name: 'mine' });
    const browser = two.browser();
    const pending = await beginLogin(browser, two);
    const [login = ''] = namesOf(browser);
    // As many as fit, and more: of its own the oldest go.
    for (let count = 0; count < 7; count++) await beginLogin(browser, one);
    expect(namesOf(browser)).toContain(login);
    await logIn(browser, one);
    expect(namesOf(browser)).toContain(login);
    await browser.navigate(pending, { from: two.provider.issuer });
    expect(await isLoggedIn(browser, two)).toBe(true);
  });
});

describe('a session cookie that can’t be read', () => {
  const ask = async (method: string, path: string, cookie: string) => {
    const head = [`${method} ${path} HTTP/1.1`, `Host: localhost:${one.port}`, 'x-csrf: 1', `Cookie: ${cookie}`];
    const own = [`Origin: ${one.origin}`, 'Sec-Fetch-Site: same-origin', 'Content-Length: 0'];
    const answer = await rawRequest(one.port, `${[...head, ...own].join('\r\n')}\r\n\r\n`);
    return { status: answer.status, setCookies: headerValues(answer.headers, 'set-cookie') };
  };

  it('W7 is cleared by nothing but a logout that the page asks for', async () => {
    await start({ name: 'mine' });
    const browser = one.browser();
    await logIn(browser, one);
    const ticket = browser.cookie('mine')?.value;
    for (const cookie of ['mine=forged', 'mine=', `mine=${ticket}; mine=forged`, `mine=forged; mine=${ticket}`]) {
      for (const [method, path] of [
        ['GET', '/api/orders/1'],
        ['POST', '/api/orders/1'],
        ['GET', '/bff/session'],
        ['GET', '/bff/sessions'],
        ['DELETE', '/bff/sessions'],
        ['POST', '/bff/refresh'],
        ['GET', '/bff/events'],
        ['GET', '/bff/callback?state=x'],
        // Whoever links to it proves nothing: the link's `sid` belongs to a session.
        ['GET', '/bff/logout'],
        ['GET', '/bff/unknown'],
      ] as const)
        expect((await ask(method, path, cookie)).setCookies, `${method} ${path} ${cookie.slice(0, 20)}`).toEqual([]);
      const { status, setCookies } = await ask('POST', '/bff/logout', cookie);
      expect([status, setCookies.length, setCookies[0]]).toEqual([
        200,
        1,
        expect.stringMatching(/^mine=; Max-Age=0; /),
      ]);
    }
    expect(await isLoggedIn(browser, one)).toBe(true);
  });

  it('W7 is no obstacle to a login', async () => {
    await start({ name: 'mine' });
    const browser = one.browser();
    browser.setCookie('mine=planted; Path=/');
    await logIn(browser, one);
    expect(await isLoggedIn(browser, one)).toBe(true);
  });
});
