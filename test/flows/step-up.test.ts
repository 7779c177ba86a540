import { afterEach, describe, expect, it } from 'vitest';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { startFrontends } from '../support/frontends.ts';
import { answerOf, deliver, startLogin, userOf, withParameters } from '../support/login-steps.ts';
import { ticketOf } from '../support/ticket.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// RFC 9470: a route or an API asks for a stronger or more recent login; the session stays until that login is done.

let world: World;
afterEach(() => world.stop());

const gold = { acr: ['urn:gold'] };
const rules = (data: ConfigData) => {
  const { orders } = data.apis;
  orders.routes = [
    { path: '/refunds', require: gold },
    { path: '/limits', require: { maxAge: '5m' } },
    { path: '/both', require: { ...gold, maxAge: '5m' } },
    { path: '/admin', require: { roles: ['admin'], ...gold } },
  ];
  data.apis.guests = { path: '/api/guests', upstream: orders.upstream, token: 'user-or-client' };
  data.apis.own = { path: '/api/own', upstream: orders.upstream, token: 'client' };
  data.apis.open = { path: '/api/open', upstream: orders.upstream, token: 'none' };
};
const timed = async (config: (data: ConfigData) => void = rules) => {
  world = await startTimedWorld({ config });
};

const call = (browser: Browser, target: string, method = 'GET') =>
  browser.fetch(target, { method, headers: { 'x-csrf': '1' } });
const loginUrlOf = (answer: Page) => {
  expect(answer.json()).toMatchObject({ code: 'BFF_STEP_UP_REQUIRED', status: 401 });
  return answer.json<{ loginUrl: string }>().loginUrl;
};
const stepUpBy = (browser: Browser, answer: Page, returnTo = '/') =>
  browser.navigate(`${loginUrlOf(answer)}&return_to=${encodeURIComponent(returnTo)}`, { from: browser.origin });
const secondsAgo = (seconds: number) => Math.floor(world.clock.now() / 1000) - seconds;

/** What an API says that wants another authentication. */
const challenge = (parameters: string) =>
  reply({
    status: 401,
    headers: [['WWW-Authenticate', `Bearer error="insufficient_user_authentication"${parameters}`]],
    body: 'the API’s own words',
  });

describe('a rule of the configuration', () => {
  it('PO7 answers 401 with a challenge and a loginUrl, and leaves the session alone', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const before = ticketOf(alice);
    const answer = await call(alice, '/api/orders/refunds/7');
    expect(answer.status).toBe(401);
    expect(answer.header('content-type')).toContain('application/problem+json');
    expect(answer.header('www-authenticate')).toBe(
      'Session realm="cloakroom", error="insufficient_user_authentication", acr_values="urn:gold"',
    );
    expect(answer.header('cache-control')).toBe('no-store');
    expect(loginUrlOf(answer)).toMatch(/^\/bff\/login\?step_up=[\w-]+$/);
    expect(answer.setCookies).toEqual([]);
    expect(world.upstream.requests).toEqual([]);
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
    expect(ticketOf(alice)).toBe(before);
    expect(world.log.lines.find(({ audit }) => audit === 'step_up')).toMatchObject({ by: 'rule', outcome: 'required' });
  });

  it('names max_age too, and asks for both in one login', async () => {
    await timed();
    world.provider.nextLogin({ sub: 'alice', authTime: secondsAgo(400) });
    const alice = world.browser();
    await alice.login('/');
    const answer = await call(alice, '/api/orders/both');
    expect(answer.header('www-authenticate')).toBe(
      'Session realm="cloakroom", error="insufficient_user_authentication", acr_values="urn:gold", max_age="300"',
    );
    const started = await alice.navigate(loginUrlOf(answer), { from: alice.origin, followRedirects: false });
    const { searchParams } = new URL(started.header('location') ?? '');
    expect(searchParams.getAll('acr_values')).toEqual(['urn:gold']);
    expect(searchParams.getAll('max_age')).toEqual(['300']);
  });

  it('PO7 lets the call through after the login, under a new session id; the old one is dead (SE3)', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const old = alice.clone();
    const before = ticketOf(alice);
    const page = await stepUpBy(alice, await call(alice, '/api/orders/refunds/7'), '/refunds?x=1#y');
    expect(page.hops.find(({ url }) => url.includes('/bff/callback'))?.location).toBe('/refunds?x=1#y');
    expect(ticketOf(alice)).not.toBe(before);
    expect((await call(alice, '/api/orders/refunds/7')).status).toBe(200);
    expect((await call(old, '/api/orders/7')).status).toBe(401);
    await old.close();
  });

  it('T40 T87 refuses an answer that is not as strong as asked, and keeps the old session', async () => {
    await timed();
    for (const claims of [{ acr: 'urn:silver' }, { acr: undefined }, { acr: ['urn:gold'] }]) {
      const alice = await world.loggedIn('alice');
      const before = ticketOf(alice);
      world.provider.nextLogin({ sub: 'alice', claims });
      const page = await stepUpBy(alice, await call(alice, '/api/orders/refunds/7'));
      expect(page.status).toBe(403);
      expect(page.text).toContain('BFF_LOGIN_NOT_STRONG_ENOUGH');
      expect(ticketOf(alice)).toBe(before);
      expect(await userOf(alice)).toBe('alice');
      expect((await call(alice, '/api/orders/7')).status).toBe(200);
      loginUrlOf(await call(alice, '/api/orders/refunds/7'));
    }
  });

  it('keeps the old session when the login is abandoned, refused, or never comes back', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const answer = await call(alice, '/api/orders/refunds/7');
    await alice.navigate(loginUrlOf(answer), { from: alice.origin, followRedirects: false });
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
    world.provider.faults.authorize = { error: 'access_denied' };
    expect((await stepUpBy(alice, answer)).text).toContain('BFF_LOGIN_REFUSED');
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
  });

  it('asks again when the authentication has become too old, at the exact second', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    expect((await call(alice, '/api/orders/limits')).status).toBe(200);
    world.clock.advance(310_000); // with the tolerance of 10 s
    expect((await call(alice, '/api/orders/limits')).status).toBe(200);
    world.clock.advance(1000);
    const answer = await call(alice, '/api/orders/limits');
    await stepUpBy(alice, answer);
    expect((await call(alice, '/api/orders/limits')).status).toBe(200);
    // The same step-up again, because time went by: a login helps, so this is no loop.
    world.clock.advance(311_000);
    await stepUpBy(alice, await call(alice, '/api/orders/limits'));
    expect((await call(alice, '/api/orders/limits')).status).toBe(200);
  });

  it('sends nobody to log in for what stays forbidden', async () => {
    await timed();
    const mallory = await world.loggedIn('mallory', { roles: ['user'] });
    const answer = await call(mallory, '/api/orders/admin');
    expect(answer.status).toBe(403);
    expect(answer.json()).not.toHaveProperty('loginUrl');
    const admin = await world.loggedIn('bob', { roles: ['admin'] });
    await stepUpBy(admin, await call(admin, '/api/orders/admin'));
    expect((await call(admin, '/api/orders/admin')).status).toBe(200);
  });

  it('never redirects, not even a navigation to the API', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const page = await alice.navigate('/api/orders/refunds/7', { from: alice.origin });
    expect(page.status).toBe(401);
    expect(page.header('content-type')).toContain('application/problem+json');
    expect(page.header('refresh') ?? page.header('location')).toBeUndefined();
  });

  it('holds against what the login is configured to ask for: both must be satisfied', async () => {
    await timed((data) => {
      rules(data);
      data.authorizationServer.acrValues = ['urn:silver', 'urn:gold'];
      data.authorizationServer.maxAge = '2m';
      data.authorizationServer.loginParameters = { acr_values: ['*'], max_age: ['*'], prompt: ['login'] };
    });
    const alice = await world.loggedIn('alice');
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/both'));
    const more = '&acr_values=urn:bronze&max_age=99999&prompt=login';
    const started = await alice.navigate(`${loginUrl}${more}`, { from: alice.origin, followRedirects: false });
    const { searchParams } = new URL(started.header('location') ?? '');
    expect(searchParams.getAll('acr_values')).toEqual(['urn:gold']);
    expect(searchParams.getAll('max_age')).toEqual(['120']);
    expect(searchParams.get('prompt')).toBe('login');
    world.provider.nextLogin({ sub: 'alice', acr: 'urn:gold', authTime: secondsAgo(200) });
    expect((await stepUpBy(alice, await call(alice, '/api/orders/both'))).text).toContain(
      'BFF_LOGIN_NOT_STRONG_ENOUGH',
    );
  });

  it('a step-up by max_age alone opens no other acr to the browser', async () => {
    await timed((data) => {
      rules(data);
      data.authorizationServer.loginParameters = { acr_values: ['*'], max_age: ['*'] };
    });
    const alice = await world.loggedIn('alice');
    world.clock.advance(400_000);
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/limits'));
    const started = await alice.navigate(`${loginUrl}&acr_values=urn:weak&max_age=9`, {
      from: alice.origin,
      followRedirects: false,
    });
    const { searchParams } = new URL(started.header('location') ?? '');
    expect(searchParams.get('acr_values')).toBeNull();
    expect(searchParams.getAll('max_age')).toEqual(['300']);
  });

  it('answers 403 when two rules accept no authentication in common', async () => {
    await timed((data) => {
      rules(data);
      data.apis.orders.routes.push({ path: '/*/special', require: { acr: ['urn:silver'] } });
    });
    const alice = await world.loggedIn('alice');
    const answer = await call(alice, '/api/orders/refunds/special');
    expect(answer.status).toBe(403);
    expect(answer.json()).toMatchObject({ code: 'BFF_POLICY_DENIED' });
    expect(world.log.lines.find(({ audit }) => audit === 'policy_denied')).toMatchObject({ reason: 'acr' });
  });
});

describe('a challenge of the API', () => {
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']) {
    it(`PO7 becomes our answer for ${method}, and the API’s own words are kept back`, async () => {
      await timed();
      const alice = await world.loggedIn('alice');
      const before = ticketOf(alice);
      world.upstream.respond = challenge(', acr_values="urn:gold urn:platinum", max_age=60');
      const hasBody = ['POST', 'PUT', 'PATCH'].includes(method);
      const answer = await alice.fetch('/api/orders/7', {
        method,
        headers: { 'x-csrf': '1' },
        ...(hasBody ? { body: { amount: 7 } } : {}),
      });
      expect(answer.status).toBe(401);
      expect(answer.all('www-authenticate')).toEqual([
        'Session realm="cloakroom", error="insufficient_user_authentication", acr_values="urn:gold urn:platinum", max_age="60"',
      ]);
      expect(answer.text).not.toContain('own words');
      expect(answer.setCookies).toEqual([]);
      expect(world.upstream.requests).toHaveLength(1); // and never sent again
      expect(ticketOf(alice)).toBe(before);
      if (method === 'HEAD') return;
      const started = await alice.navigate(loginUrlOf(answer), { from: alice.origin, followRedirects: false });
      const { searchParams } = new URL(started.header('location') ?? '');
      expect(searchParams.getAll('acr_values')).toEqual(['urn:gold urn:platinum']);
      expect(searchParams.getAll('max_age')).toEqual(['60']);
    });
  }

  it('is answered at once although the API never ends its own answer', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const head =
      'HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer error="insufficient_user_authentication", max_age=0\r\nContent-Length: 9\r\n\r\n1';
    world.upstream.respond = rawBytes(head, { end: 'keep' });
    loginUrlOf(await call(alice, '/api/orders/7'));
  });

  it('T87 is gone after the login that it asked for', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const old = ticketOf(alice);
    world.upstream.respond = challenge(', acr_values="urn:gold"');
    await stepUpBy(alice, await call(alice, '/api/orders/7'));
    world.upstream.respondWith({ body: { ok: true } });
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
    expect(ticketOf(alice)).not.toBe(old);
  });

  it('comes after another token was fetched too', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    let count = 0;
    const first = reply({ status: 401, headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']] });
    const second = challenge(', acr_values="urn:gold"');
    world.upstream.respond = (request, socket) => (count++ === 0 ? first : second)(request, socket);
    loginUrlOf(await call(alice, '/api/orders/7'));
    expect(count).toBe(2);
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);
  });

  it('makes a guest log in, and passes through where no user is meant', async () => {
    await timed();
    world.upstream.respond = challenge(', acr_values="urn:gold"');
    const guest = world.browser();
    const answer = await call(guest, '/api/guests/1');
    await stepUpBy(guest, answer);
    expect(await userOf(guest)).toBe('alice');
    // The token is the application's own: no login of anybody changes it.
    for (const target of ['/api/own/1', '/api/open/1']) {
      const passed = await call(guest, target);
      expect([passed.status, passed.text]).toEqual([401, 'the API’s own words']);
    }
  });

  const malformed: Record<string, string> = {
    'nothing asked for': '',
    'an empty list': ', acr_values=""',
    'a quote in a value': ', acr_values="a\\"b"',
    'a backslash': ', acr_values="a\\\\b"',
    'a closed quote and more': ', acr_values="a"b"',
    'a header after an encoded line break': ', acr_values="a\\\r\\\nSet-Cookie: x=1"',
    'a tab': ', acr_values="a\tb"',
    'two spaces': ', acr_values="a  b"',
    'a final space': ', acr_values="a "',
    'non-ASCII': ', acr_values="gold-é"',
    'UTF-8': ', acr_values="\u00e2\u0082\u00ac"',
    'a list of 257 characters': `, acr_values="${'a'.repeat(257)}"`,
    'a parameter twice': ', acr_values="a", acr_values="b"',
    'a number that is none': ', acr_values="a", max_age="1e3"',
    'a negative age': ', max_age="-1"',
    'an age of ten digits': ', max_age="1234567890"',
    'an age with a unit': ', max_age="5m"',
    'no comma': ' acr_values="a"',
    'an open quote': ', acr_values="a',
    'another scheme behind it': ', acr_values="a", Basic realm="x"',
    'an error behind it': ', acr_values="a", error="invalid_token"',
  };
  it.each(Object.entries(malformed))('T87 with %s passes through and enters nothing of ours', async (_name, text) => {
    await timed();
    const alice = await world.loggedIn('alice');
    // A carriage return and line feed that stay one header line, if anybody lets them.
    world.upstream.respond = challenge(text.replace(/\r\\\n/, '\r\n '));
    const answer = await call(alice, '/api/orders/7');
    expect([401, 502]).toContain(answer.status);
    expect(answer.text).not.toContain('step_up');
    expect(answer.header('set-cookie')).toBeUndefined();
    expect(answer.all('www-authenticate').join()).not.toContain('Session');
    expect(world.log.lines.filter(({ audit }) => audit === 'step_up')).toEqual([]);
  });

  it('T87 two challenges in one answer are nobody’s', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const line = 'Bearer error="insufficient_user_authentication", acr_values="a"';
    world.upstream.respondWith({ status: 401, headers: Array(2).fill(['WWW-Authenticate', line]), body: 'x' });
    expect((await call(alice, '/api/orders/7')).text).toBe('x');
  });

  it('T87 with another status than 401 passes through', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const line = 'Bearer error="insufficient_user_authentication", acr_values="a"';
    world.upstream.respondWith({ status: 403, headers: [['WWW-Authenticate', line]], body: 'x' });
    const answer = await call(alice, '/api/orders/7');
    expect([answer.status, answer.text]).toEqual([403, 'x']);
  });

  it('T87 whatever else is in the values stays text, in the header and in the authorization request', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const values = `urn:a&prompt=none#x ?redirect_uri=//evil ;<script> %0d%0aSet-Cookie:x ${'z'.repeat(100)}`;
    world.upstream.respond = challenge(`, acr_values="${values}"`);
    const answer = await call(alice, '/api/orders/7');
    expect(answer.header('www-authenticate')).toContain(`acr_values="${values}"`);
    expect(answer.header('set-cookie')).toBeUndefined();
    const started = await alice.navigate(
      `${loginUrlOf(answer)}&return_to=${encodeURIComponent(`/${'r'.repeat(2000)}`)}`,
      { from: alice.origin, followRedirects: false },
    );
    const { searchParams } = new URL(started.header('location') ?? '');
    expect(searchParams.getAll('acr_values')).toEqual([values]);
    expect(searchParams.get('prompt')).toBeNull();
    // Its login still fits into one cookie.
    world.provider.nextLogin({ sub: 'alice', acr: ';<script>' });
    await deliver(alice, await answerOf(started.header('location') ?? ''));
    world.upstream.respondWith({ body: { ok: true } });
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
  });
});

describe('no loops', () => {
  it('T87 the same challenge after its own login: 403, without a loginUrl, and the session is kept', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    world.upstream.respond = challenge(', acr_values="urn:gold"');
    await stepUpBy(alice, await call(alice, '/api/orders/7'));
    const after = ticketOf(alice);
    const again = await call(alice, '/api/orders/7');
    expect(again.status).toBe(403);
    expect(again.json()).toMatchObject({ code: 'BFF_STEP_UP_FAILED', status: 403 });
    expect(again.json()).not.toHaveProperty('loginUrl');
    expect(again.setCookies).toEqual([]);
    expect(ticketOf(alice)).toBe(after);
    expect(await userOf(alice)).toBe('alice');
    expect(world.log.lines.filter(({ audit }) => audit === 'step_up').at(-1)).toMatchObject({
      level: 'warn',
      outcome: 'failed',
    });
  });

  it('T87 what the session has already, as far as we know, is asked of nobody', async () => {
    await timed();
    world.provider.nextLogin({ sub: 'alice', acr: 'urn:gold' });
    const alice = world.browser();
    await alice.login('/');
    world.upstream.respond = challenge(', acr_values="urn:gold", max_age=300');
    expect((await call(alice, '/api/orders/7')).status).toBe(403);
    // Near the limit the clock of the API may see it otherwise: there a login does help.
    world.clock.advance(291_000);
    loginUrlOf(await call(alice, '/api/orders/7'));
  });

  it('T87 max_age=0 is asked for once, not for ever', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    world.upstream.respond = challenge(', max_age=0');
    await stepUpBy(alice, await call(alice, '/api/orders/7'));
    expect((await call(alice, '/api/orders/7')).status).toBe(403);
    world.clock.advance(10_000);
    loginUrlOf(await call(alice, '/api/orders/7'));
  });

  it('T87 an API that names no age and is not content with its acr stays at 403', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    world.upstream.respond = challenge(', acr_values="urn:gold"');
    await stepUpBy(alice, await call(alice, '/api/orders/7'));
    world.clock.advance(600_000);
    expect((await call(alice, '/api/orders/7')).status).toBe(403);
  });

  it('T87 another challenge than the one before is not the same', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    world.upstream.respond = challenge(', acr_values="urn:gold"');
    await stepUpBy(alice, await call(alice, '/api/orders/7'));
    world.upstream.respond = challenge(', acr_values="urn:platinum"');
    loginUrlOf(await call(alice, '/api/orders/7'));
  });

  it('T87 a rule whose login never satisfies it, because clocks disagree, ends with 403', async () => {
    // Redis has the real time; this replica and its provider live an hour ago.
    const hourMs = 3600_000;
    world = await startWorld({ config: rules, skews: [-hourMs], provider: { now: () => Date.now() - hourMs } });
    const alice = await world.loggedIn('alice');
    await stepUpBy(alice, await call(alice, '/api/orders/limits'));
    const again = await call(alice, '/api/orders/limits');
    expect(again.status).toBe(403);
    expect(again.json()).toMatchObject({ code: 'BFF_STEP_UP_FAILED' });
    expect((await call(alice, '/api/orders/7')).status).toBe(200);
  });

  it('T87 an API that asks for what the login may not bring: 403 at once', async () => {
    await timed((data) => {
      rules(data);
      data.authorizationServer.acrValues = ['urn:silver', 'urn:gold'];
    });
    const alice = await world.loggedIn('alice');
    world.upstream.respond = challenge(', acr_values="urn:platinum"');
    const answer = await call(alice, '/api/orders/7');
    expect(answer.json()).toMatchObject({ code: 'BFF_STEP_UP_FAILED' });
    expect(world.log.lines.find(({ audit }) => audit === 'step_up')).toMatchObject({ outcome: 'impossible' });
  });
});

describe('the sealed parameter', () => {
  const open = (browser: Browser, url: string) =>
    browser.navigate(url, { from: browser.origin, followRedirects: false });

  it('LG9 is refused when anything in it was changed, with a way back', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/refunds'));
    const sealed = new URL(loginUrl, world.origin).searchParams.get('step_up') ?? '';
    const middle = sealed.length >> 1;
    const changed = [
      '',
      'x',
      sealed.slice(0, -1),
      `${sealed}A`,
      `${sealed.slice(0, middle)}${sealed[middle] === 'A' ? 'B' : 'A'}${sealed.slice(middle + 1)}`,
      Buffer.from('{"acrValues":["urn:weak"],"expiresAt":9e15}').toString('base64url'),
      `${sealed}%0d%0ax`,
      'é',
    ].map((value) => `/bff/login?step_up=${value}&return_to=/x`);
    changed.push(`${loginUrl}&step_up=${sealed}&return_to=/x`, `/bff/login?step_up[]=${sealed}&return_to=/x`);
    for (const url of changed) {
      const page = await open(alice, url);
      // A name of its own is another parameter: an ordinary login, which opens nothing.
      if (url.includes('[]')) {
        expect(new URL(page.header('location') ?? '').searchParams.get('acr_values'), url).toBeNull();
        continue;
      }
      expect(page.status, url).toBe(400);
      expect(page.text).toContain('BFF_LOGIN_STEP_UP_INVALID');
      expect(page.text).toContain('href="/bff/login?return_to=%2Fx"');
      expect(page.setCookies).toEqual([]);
    }
    expect(await userOf(alice)).toBe('alice');
    expect(world.provider.requestsTo('authorize').filter(({ params }) => params.has('acr_values'))).toEqual([]);
  });

  it('is good for ten minutes', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/refunds'));
    world.clock.advance(600_000);
    expect((await open(alice, loginUrl)).status).toBe(303);
    world.clock.advance(1);
    expect((await open(alice, loginUrl)).status).toBe(400);
  });

  it('LG9 nothing else of ours that is sealed with the same keys is taken for one', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    await startLogin(alice);
    const [transaction] = alice.cookies().filter(({ name }) => name.includes('.login.'));
    expect((await open(alice, `/bff/login?step_up=${transaction?.value}`)).status).toBe(400);
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/refunds'));
    const sealed = new URL(loginUrl, world.origin).searchParams.get('step_up');
    const answer = await answerOf(await startLogin(alice));
    for (const { name } of alice.cookies().filter(({ name }) => name.includes('.login.')))
      alice.setCookie(`${name}=${sealed}; Path=/`, { force: true });
    expect((await deliver(alice, answer)).text).toContain('BFF_LOGIN_TRANSACTION_MISSING');
  });

  it('another site can neither start it nor frame it', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const loginUrl = loginUrlOf(await call(alice, '/api/orders/refunds'));
    for (const kind of ['link', 'iframe', 'image', 'prefetch'] as const) {
      const page = await alice.crossSite(loginUrl, { from: 'https://evil.example', kind });
      expect(page.status, kind).toBeGreaterThanOrEqual(400);
    }
    expect(alice.cookies().filter(({ name }) => name.includes('.login.'))).toEqual([]);
  });

  it('is kept when a late callback starts again by itself', async () => {
    await timed();
    const alice = await world.loggedIn('alice');
    const started = await open(alice, `${loginUrlOf(await call(alice, '/api/orders/refunds'))}&return_to=/x`);
    const callbackUrl = await answerOf(started.header('location') ?? '');
    world.clock.advance(11 * 60_000);
    const late = await alice.navigate(callbackUrl, {
      from: 'http://127.0.0.1',
      followMetaRefresh: false,
      followRedirects: false,
    });
    const again = /url=(.*)$/.exec(late.header('refresh') ?? '')?.[1] ?? '';
    expect(again).toMatch(/^\/bff\/login\?step_up=[\w-]+&return_to=%2Fx$/);
    await alice.navigate(again, { from: alice.origin });
    expect((await call(alice, '/api/orders/refunds')).status).toBe(200);
  });

  it('is pushed with the rest when the server takes pushed requests', async () => {
    world = await startTimedWorld({ config: rules, provider: { par: 'required' } });
    const alice = await world.loggedIn('alice');
    const started = await open(alice, loginUrlOf(await call(alice, '/api/orders/refunds')));
    expect(new URL(started.header('location') ?? '').searchParams.has('acr_values')).toBe(false);
    expect(world.provider.requestsTo('par').at(-1)?.params.get('acr_values')).toBe('urn:gold');
  });
});

describe('two frontends', () => {
  for (const apart of ['host', 'path'] as const) {
    it(`LG9 a step-up of one means nothing to the other (${apart})`, async () => {
      const both = await startFrontends(apart, ({ shop }) => {
        shop.apis.orders.require = gold;
      });
      world = { ...both.world, stop: both.stop };
      const path = new URL(both.shop).pathname.replace(/\/$/, '');
      const alice = both.browser(new URL(both.shop).origin, { loginPath: `${path}/bff/login` });
      await alice.login(`${path}/`);
      const loginUrl = loginUrlOf(await call(alice, `${path}/api/orders/1`));
      expect(loginUrl.startsWith(`${path}/bff/login?step_up=`)).toBe(true);
      const sealed = new URL(loginUrl, both.shop).searchParams.get('step_up');
      const office = new URL(both.office).pathname.replace(/\/$/, '');
      const other = both.browser(new URL(both.office).origin);
      const page = await other.navigate(
        withParameters(`${both.office.replace(/\/$/, '')}/bff/login?x=1`, { step_up: sealed }),
      );
      expect(page.status).toBe(400);
      expect(page.text).toContain(`href="${office}/bff/login?return_to=`);
      expect(page.text).toContain('BFF_LOGIN_STEP_UP_INVALID');
    });
  }
});
