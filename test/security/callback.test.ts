import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  answerOf,
  deliver,
  isLoggedIn,
  pendingLogin,
  startLogin,
  userOf,
  withParameters,
} from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ store: 'memory' });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

/** A response that changes its parameters in one way. */
type Change = (callbackUrl: string) => string;
const tokenRequests = () => world.provider.tokenRequests().length;

/** Delivers a changed response to the browser that started the login; nothing may come of it. */
async function expectRefused(change: Change, statuses = [400]): Promise<void> {
  const browser = world.browser();
  const { callbackUrl } = await pendingLogin(browser, '/shop');
  const page = await deliver(browser, change(callbackUrl));
  expect(statuses).toContain(page.status);
  expect(page.header('location')).toBeUndefined();
  expect(tokenRequests()).toBe(0);
  expect(browser.cookie('cloakroom')).toBeUndefined();
  expect(await isLoggedIn(browser)).toBe(false);
}

const set =
  (name: string, value: string | null): Change =>
  (url) =>
    withParameters(url, { [name]: value });
const append =
  (query: string): Change =>
  (url) =>
    `${url}&${query}`;
const twice =
  (name: string): Change =>
  (url) =>
    `${url}&${name}=${encodeURIComponent(new URL(url).searchParams.get(name) ?? '')}`;

describe('T13 a response to somebody else’s login', () => {
  it('T13 refuses the attacker’s code and state in a browser that started no login', async () => {
    const { callbackUrl } = await pendingLogin(world.browser());
    const victim = world.browser();
    const page = await victim.crossSite(callbackUrl, { from: 'https://evil.example', kind: 'link' });
    expect(page.status).toBe(400);
    expect(tokenRequests()).toBe(0);
    expect(await isLoggedIn(victim)).toBe(false);
  });

  it('T13 refuses them in a browser that has a login of its own under way, and lets that one finish', async () => {
    const { callbackUrl } = await pendingLogin(world.browser());
    const victim = world.browser();
    world.provider.nextLogin({ sub: 'victim' });
    const own = await pendingLogin(victim);
    expect((await deliver(victim, callbackUrl)).status).toBe(400);
    expect(tokenRequests()).toBe(0);
    expect((await deliver(victim, own.callbackUrl)).status).toBe(303);
    expect(await userOf(victim)).toBe('victim');
  });

  it('T13 refuses a login cookie under the name of another login', async () => {
    const attacker = await pendingLogin(world.browser());
    const attackerCookie = world.browser();
    await startLogin(attackerCookie);
    const [cookie] = attackerCookie.allCookies();
    const victim = world.browser();
    const wanted = await pendingLogin(victim);
    const [own] = victim.allCookies();
    victim.setCookie(`${own?.name}=${cookie?.value}; Path=/`, { force: true });
    expect((await deliver(victim, wanted.callbackUrl)).status).toBe(400);
    expect((await deliver(victim, attacker.callbackUrl)).status).toBe(400);
    expect(tokenRequests()).toBe(0);
  });
});

describe('T14 the attacker’s code in the victim’s login', () => {
  it('T14 fails on PKCE', async () => {
    world.provider.nextLogin({ sub: 'attacker' });
    const attacker = await pendingLogin(world.browser());
    const victim = world.browser();
    const { callbackUrl } = await pendingLogin(victim);
    const code = new URL(attacker.callbackUrl).searchParams.get('code');
    const page = await deliver(victim, withParameters(callbackUrl, { code }));
    expect(page.status).toBe(400);
    expect(page.text).toContain('BFF_LOGIN_RESPONSE_INVALID');
    expect(await isLoggedIn(victim)).toBe(false);
  });

  it('T14 fails on the nonce when the attacker knows the code challenge', async () => {
    const victim = world.browser();
    const { callbackUrl, authorizationUrl } = await pendingLogin(victim);
    world.provider.nextLogin({ sub: 'attacker' });
    const injected = await answerOf(withParameters(authorizationUrl, { nonce: 'of-the-attacker' }));
    const code = new URL(injected).searchParams.get('code');
    const page = await deliver(victim, withParameters(callbackUrl, { code }));
    expect(page.status).toBe(502);
    expect(page.text).toContain('BFF_LOGIN_ANSWER_INVALID');
    expect(tokenRequests()).toBe(1);
    expect(await isLoggedIn(victim)).toBe(false);
  });
});

describe('T15 a response that comes twice', () => {
  it('T15 redeems the code once when it comes twice at the same time', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const pages = await Promise.all([deliver(browser, callbackUrl), deliver(browser.clone(), callbackUrl)]);
    expect(pages.map(({ status }) => status).sort()).toEqual([303, 400]);
    expect(tokenRequests()).toBe(1);
    expect(pages.flatMap(({ setCookies }) => setCookies.filter((one) => one.startsWith('cloakroom=')))).toHaveLength(1);
  });

  it('T15 refuses a used response and keeps the session it made (back button)', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    await deliver(browser, callbackUrl);
    const page = await deliver(browser, callbackUrl);
    expect(page.status).toBe(400);
    expect(tokenRequests()).toBe(1);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('T15 refuses a used response in a browser that kept the login cookie', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const thief = browser.clone();
    await deliver(browser, callbackUrl);
    expect((await deliver(thief, callbackUrl)).status).toBe(400);
    expect(tokenRequests()).toBe(1);
    expect(await isLoggedIn(thief)).toBe(false);
  });
});

describe('T16 state', () => {
  const changes: Record<string, Change> = {
    missing: set('state', null),
    empty: set('state', ''),
    wrong: set('state', 'x'.repeat(43)),
    'in another case': (url) => url.replace(/state=([^&]+)/, (_, state: string) => `state=${swapCase(state)}`),
    'with a space behind it': (url) => url.replace(/(state=[^&]+)/, '$1%20'),
    duplicated: twice('state'),
    'duplicated with another value': append('state=x'),
    'an array': (url) => url.replace('state=', 'state[]='),
    __proto__: set('state', '__proto__'),
    constructor: set('state', 'constructor'),
  };
  it.each(Object.entries(changes))('T16 refuses a state that is %s before it asks anyone', (_name, change) =>
    expectRefused(change),
  );

  it('T16 refuses a response that comes eleven minutes after the start', async () => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    world.clock.advance(11 * 60_000);
    expect((await deliver(browser, callbackUrl)).status).toBe(400);
    expect(tokenRequests()).toBe(0);
    expect(await isLoggedIn(browser)).toBe(false);
  });

  it('T16 accepts one that comes after nine', async () => {
    const browser = world.browser();
    const started = await startLogin(browser);
    world.clock.advance(9 * 60_000);
    world.provider.faults = { idToken: { claims: { iat: Math.floor(world.clock.now() / 1000), exp: 4_000_000_000 } } };
    expect((await deliver(browser, await answerOf(started))).status).toBe(303);
  });
});

describe('T17 iss', () => {
  const other =
    (change: (issuer: string) => string): Change =>
    (url) =>
      withParameters(url, { iss: change(world.provider.issuer) });
  const changes: Record<string, Change> = {
    missing: set('iss', null),
    empty: set('iss', ''),
    'another server': set('iss', 'https://evil.example'),
    'longer by a slash': other((issuer) => `${issuer}/`),
    'in another case': other((issuer) => issuer.toUpperCase()),
    'a path below': other((issuer) => `${issuer}/tenant`),
    'with user info': other((issuer) => issuer.replace('://', '://x@')),
    duplicated: twice('iss'),
    'duplicated with another value': append('iss=https://evil.example'),
  };
  it.each(Object.entries(changes))('T17 refuses an iss that is %s and calls no endpoint', (_name, change) =>
    expectRefused(change),
  );

  it('T17 refuses a wrong iss in an error response too', async () => {
    await expectRefused((url) =>
      withParameters(url, { code: null, error: 'access_denied', iss: 'https://evil.example' }),
    );
  });
});

describe('T20 what no code response has', () => {
  const changes: Record<string, Change> = {
    'an ID token': append('id_token=eyJhbGciOiJub25lIn0.e30.'),
    'an access token': append('access_token=x'),
    'a refresh token': append('refresh_token=x'),
    'a JARM response': append('response=eyJhbGciOiJub25lIn0.e30.'),
    'two codes': append('code=x'),
    'no code': set('code', null),
    'an empty code': set('code', ''),
    'a code and an empty code': append('code='),
    'two errors': append('error=a&error=b'),
  };
  it.each(Object.entries(changes))('T20 refuses a response with %s', (_name, change) => expectRefused(change));

  it.each(['HEAD', 'OPTIONS', 'PUT', 'PATCH', 'DELETE', 'POST'])('T20 refuses a response by %s', async (method) => {
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    const body = method === 'POST' ? new URL(callbackUrl).searchParams : undefined;
    const page = await browser.navigate(callbackUrl, { method, ...(body ? { body } : {}), followRedirects: false });
    expect(page.status).toBe(405);
    expect(page.header('allow')).toBe('GET');
    expect(tokenRequests()).toBe(0);
    expect(await isLoggedIn(browser)).toBe(false);
  });
});

describe('T21 absurd sizes', () => {
  const changes: Record<string, Change> = {
    'a code of 5000 characters': set('code', 'c'.repeat(5000)),
    'a code of 1 MB': set('code', 'c'.repeat(1_000_000)),
    'a non-ASCII code': (url) => url.replace(/code=[^&]+/, 'code=%C3%B6'),
    'a code with line ends': (url) => url.replace(/code=[^&]+/, 'code=a%0d%0ab'),
    'a code of invalid UTF-8': (url) => url.replace(/code=[^&]+/, 'code=%ff%fe'),
    '200 parameters': append(Array.from({ length: 200 }, (_, index) => `p${index}=1`).join('&')),
  };
  it.each(Object.entries(changes))('T21 refuses %s and goes on serving', (_name, change) =>
    expectRefused(change, [400, 414, 431]),
  );
});

function swapCase(text: string): string {
  return [...text].map((each) => (each === each.toLowerCase() ? each.toUpperCase() : each.toLowerCase())).join('');
}
