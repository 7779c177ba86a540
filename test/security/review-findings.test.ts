import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { rawBytes, reset } from '../support/echo-upstream/answers.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// What a review with fresh eyes found, each as the story that showed it.

const csrf = { 'x-csrf': '1' };
let world: World;
afterEach(() => world.stop());

describe('a session without a refresh token', () => {
  it('RF survives POST /bff/refresh while its access token lives', async () => {
    world = await startWorld({ provider: { issueRefreshToken: false } });
    const browser = await world.loggedIn();
    const refreshed = await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    expect(refreshed.status).toBe(200);
    expect(refreshed.json()).toMatchObject({ authenticated: true, token: { refreshable: false } });
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect(world.provider.tokenRequests('refresh_token')).toEqual([]);
  });

  it('RF ends with its access token', async () => {
    world = await startWorld({ store: 'memory', provider: { issueRefreshToken: false, accessTokenSeconds: 60 } });
    const browser = await world.loggedIn();
    world.clock.advance(61_000);
    expect((await browser.fetch('/api/orders/1')).status).toBe(401);
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: false });
  });
});

it('SE13 a slow call of an old session does not clear the cookie of a new login', async () => {
  world = await startWorld();
  const browser = await world.loggedIn('alice');
  const old = browser.clone();
  await browser.login('/'); // replaces the session
  const late = await old.fetch('/api/orders/1');
  expect(late.status).toBe(401);
  expect(late.setCookies).toEqual([]);
  expect((await browser.fetch('/api/orders/1')).status).toBe(200);
  await old.close();
});

it('SE13 a look at a session that a login just replaced does not clear the cookie of the new one, on any replica', async () => {
  world = await startWorld({ replicas: 2 });
  const browser = await world.loggedIn('alice');
  const copyOn = (replica: number) => {
    const copy = world.browser(replica);
    for (const { name, value } of browser.cookies()) copy.setCookie(`${name}=${value}; Path=/`, { force: true });
    return copy;
  };
  const old = [copyOn(0), copyOn(1)];
  await browser.login('/'); // replaces the session
  for (const tab of old) {
    const late = await tab.fetch('/bff/session');
    expect(late.json()).toMatchObject({ authenticated: false });
    expect(late.setCookies).toEqual([]);
  }
  // One that is over for another reason is taken back, or its browser would never be a guest again (DT8).
  const ended = copyOn(0);
  await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
  expect((await ended.fetch('/bff/session')).setCookies.join()).toContain('cloakroom=;');
});

describe('what a login was asked for is verified, whoever asked (CB7)', () => {
  it.each([
    ['acr_values of extraParameters', { extraParameters: { acr_values: 'gold' } }, '/bff/login'],
    ['acr_values of the browser', { loginParameters: { acr_values: ['gold'] } }, '/bff/login?acr_values=gold'],
  ])('T40 %s', async (_name, settings, start) => {
    world = await startWorld({ config: (data) => Object.assign(data.authorizationServer, settings) });
    world.provider.nextLogin({ sub: 'alice', acr: 'bronze' });
    expect((await world.browser().navigate(start)).status).toBe(403);
    world.provider.nextLogin({ sub: 'alice', acr: 'gold' });
    const strong = world.browser();
    await strong.navigate(start);
    expect((await strong.fetch('/bff/session')).json()).toMatchObject({ authenticated: true });
  });

  it('T40 max_age of the browser', async () => {
    world = await startWorld({ config: (data) => (data.authorizationServer.loginParameters = { max_age: ['60'] }) });
    world.provider.nextLogin({ sub: 'alice', authTime: Math.floor(Date.now() / 1000) - 600 });
    expect((await world.browser().navigate('/bff/login?max_age=60')).status).toBe(403);
  });
});

it('T23 tokens of a login are revoked when the store dies, also with an old session in the browser', async () => {
  const proxy = await startFaultProxy(Number(new URL(inject('redisUrl')).port));
  world = await startWorld({ redisUrl: proxy.redisUrl, config: (data) => (data.cookie = { sameSite: 'lax' }) });
  const browser = await world.loggedIn('alice');
  let release = () => {};
  world.provider.faults.tokenResponse = { holdUntil: new Promise<void>((resolve) => (release = resolve)) };
  const before = world.provider.tokenRequests('authorization_code').length;
  const landing = browser.login('/');
  await until(() => world.provider.tokenRequests('authorization_code').length > before);
  proxy.refuse();
  release();
  expect((await landing).status).toBe(503);
  await until(() => world.provider.revoked.length === 1);
  proxy.faults.refuse = false;
  await until(async () => (await browser.fetch('/bff/session')).status === 200);
  await world.stop();
  await proxy.stop();
  world = await startWorld({ store: 'memory' }); // for afterEach
});

describe('reads of another site (CS3)', () => {
  it.each(['cross-site', 'same-site'])('T58 a GET that says %s is refused, header or not', async (site) => {
    world = await startWorld();
    const browser = await world.loggedIn();
    const cookie = browser
      .cookies()
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
    for (const path of ['/api/orders/1', '/bff/session']) {
      const answer = await browser.fetch(path, { headers: { ...csrf, cookie, 'sec-fetch-site': site } });
      expect(answer.status).toBe(403);
    }
    expect(world.upstream.requests).toEqual([]);
  });
});

describe('retries (PX12)', () => {
  it('T96 a safe request whose connection failed is tried once more, another one is not', async () => {
    const port = await freePort();
    world = await startWorld({ config: (data) => (data.apis.orders.upstream = `http://127.0.0.1:${port}`) });
    const browser = await world.loggedIn();
    // A gate that refuses by closing at once would count as sent; a closed port is refused before a byte.
    const attempts = countConnectionErrors();
    expect((await browser.fetch('/api/orders/1')).status).toBe(502);
    expect(attempts.take()).toBe(2);
    expect((await browser.fetch('/api/orders/1', { method: 'POST', body: {}, headers: csrf })).status).toBe(502);
    expect(attempts.take()).toBe(1);
    attempts.stop();
  });

  it.each(['GET', 'POST'])('T96 a %s that was sent is not repeated', async (method) => {
    world = await startWorld();
    const browser = await world.loggedIn();
    world.upstream.respond = method === 'GET' ? reset() : rawBytes('', { end: 'fin' });
    expect((await browser.fetch('/api/orders/1', { method, headers: csrf })).status).toBe(502);
    expect(world.upstream.requests).toHaveLength(1);
  });
});

it('RF15 policy is judged by what a refresh left', async () => {
  world = await startWorld({
    store: 'memory',
    provider: { accessTokenSeconds: 60 },
    config: (data) => (data.apis.orders.require = { roles: ['admin'] }),
  });
  const browser = await world.loggedIn('alice', { roles: ['admin'] });
  expect((await browser.fetch('/api/orders/1')).status).toBe(200);
  world.provider.faults.refreshIdToken = { claims: { roles: [] } };
  world.clock.advance(61_000);
  expect((await browser.fetch('/api/orders/1')).status).toBe(403);
});

it('PX10 a host name in other letters is the same host, with several frontends too', async () => {
  world = await startWorld({
    config(data) {
      const { publicUrl, authorizationServer, apis } = data;
      delete data.publicUrl;
      delete data.authorizationServer;
      delete data.apis;
      data.frontends = {
        one: { publicUrl, authorizationServer, apis },
        two: { publicUrl: publicUrl.replace('localhost', 'two.localhost'), authorizationServer },
      };
    },
  });
  const answer = await world.browser().fetch('/bff/session', { headers: { host: `LocalHost:${world.port}` } });
  expect(answer.status).toBe(200);
});

/** undici tells of every connection that could not be opened. */
function countConnectionErrors() {
  let count = 0;
  const listener = () => count++;
  subscribe('undici:client:connectError', listener);
  return {
    take() {
      const seen = count;
      count = 0;
      return seen;
    },
    stop: () => unsubscribe('undici:client:connectError', listener),
  };
}
