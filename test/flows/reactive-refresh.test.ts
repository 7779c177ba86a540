import { afterEach, describe, expect, it } from 'vitest';
import { bearers, call, createGate, sessionOf } from '../support/api-calls.ts';
import { type Respond, rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { problemCode } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import type { ConfigData, World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const start = async (config: (data: ConfigData) => void = () => undefined) => {
  world = await startTimedWorld({ config });
  return world.loggedIn();
};
const refusal = reply({
  status: 401,
  headers: [['WWW-Authenticate', 'Bearer realm="orders", error="invalid_token", error_description="revoked"']],
  body: 'no',
});
const fine = reply({ body: { ok: true } });
/** The API no longer takes the tokens that it has seen until now. */
const refuseOldTokens = (): Respond => {
  const old = new Set(bearers(world));
  return (request, socket) => (old.has(request.header('authorization')) ? refusal : fine)(request, socket);
};
const refreshes = () => world.provider.tokenRequests('refresh_token').length;

describe('an API that refuses a token which should be good', () => {
  it('T85 gets another one, and the browser notices nothing', async () => {
    const browser = await start();
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    expect((await call(browser)).status).toBe(200);
    expect(refreshes()).toBe(1);
    expect(world.upstream.requests).toHaveLength(3);
    expect((await call(browser)).status).toBe(200);
    expect(refreshes()).toBe(1);
  });

  it('T85 PO6 refreshes once for many calls that are refused together', async () => {
    const browser = await start();
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    const answers = await Promise.all(Array.from({ length: 20 }, () => call(browser)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(refreshes()).toBe(1);
  });

  it('T85 refuses always: one refresh and one repetition, then its answer is passed on, without a loop', async () => {
    const browser = await start();
    world.upstream.respond = refusal;
    const answer = await call(browser);
    expect([answer.status, answer.text]).toEqual([401, 'no']);
    expect(answer.header('proxy-status')).toBe('cloakroom; received-status=401');
    expect(answer.all('www-authenticate')).toHaveLength(1);
    expect(world.upstream.requests).toHaveLength(2);
    for (let round = 0; round < 3; round++) expect((await call(browser)).status).toBe(401);
    expect(refreshes()).toBe(1);
    expect(world.upstream.requests).toHaveLength(5);
    expect((await sessionOf(browser)).authenticated).toBe(true);
  });

  it('T85 may refuse the token of an ordinary refresh again', async () => {
    const browser = await start();
    world.upstream.respond = refusal;
    await call(browser);
    world.clock.advance(300_000);
    world.upstream.respond = fine;
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    expect((await call(browser)).status).toBe(200);
    expect(refreshes()).toBe(3);
  });

  it.each(['POST', 'PUT', 'DELETE', 'PATCH'])('T86 to a %s: refreshed, not repeated', async (method) => {
    const browser = await start();
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    const answer = await browser.fetch('/api/orders/1', { method, headers: { 'x-csrf': '1' }, body: 'a body' });
    expect([answer.status, answer.text]).toEqual([401, 'no']);
    expect(world.upstream.requests.filter((request) => request.method === method)).toHaveLength(1);
    await until(() => refreshes() === 1);
    await until(async () => (await call(browser)).status === 200);
    expect(refreshes()).toBe(1);
  });

  it('T86 to a GET with a body: refreshed, not repeated', async () => {
    const browser = await start();
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    const answer = await browser.fetch('/api/orders/1', {
      headers: { 'x-csrf': '1', 'content-length': '6' },
      body: 'a body',
    });
    expect(answer.status).toBe(401);
    expect(world.upstream.requests).toHaveLength(2);
  });

  it.each([
    ['insufficient_scope', 403, 'Bearer error="insufficient_scope"'],
    ['no error', 401, 'Bearer realm="orders"'],
    ['another scheme', 401, 'Basic realm="orders", error="invalid_token"'],
    ['two challenges in one', 401, 'Bearer error="invalid_token", error="invalid_token"'],
    ['nonsense', 401, 'Bearer error="invalid_token" "x'],
  ])('PO8 with %s: passed on, no refresh', async (_what, status, challenge) => {
    const browser = await start();
    world.upstream.respondWith({ status, headers: [['WWW-Authenticate', challenge]], body: 'no' });
    expect((await call(browser)).status).toBe(status);
    expect(refreshes()).toBe(0);
    expect(world.upstream.requests).toHaveLength(1);
  });

  it('PO6 when the server can’t be asked: 503, and the session is kept', async () => {
    const browser = await start();
    world.upstream.respond = refusal;
    world.provider.faults.refreshResponse = { status: 503 };
    const answer = await call(browser);
    expect([answer.status, problemCode(answer)]).toEqual([503, 'BFF_TOKEN_UNAVAILABLE']);
    expect((await sessionOf(browser)).authenticated).toBe(true);
  });

  it('PO6 when the grant is gone: 401, logged out', async () => {
    const browser = await start();
    world.upstream.respond = refusal;
    world.provider.revokeGrants('alice');
    expect(problemCode(await call(browser))).toBe('BFF_SESSION_REQUIRED');
    expect((await sessionOf(browser)).authenticated).toBe(false);
  });

  it('PO6 without a refresh token: passed on', async () => {
    world = await startTimedWorld({ provider: { issueRefreshToken: false } });
    const browser = await world.loggedIn();
    world.upstream.respond = refusal;
    const answer = await call(browser);
    expect([answer.status, answer.text]).toEqual([401, 'no']);
  });

  it.each([
    ['exchange', { token: 'exchange', audience: 'orders' }, 'urn:ietf:params:oauth:grant-type:token-exchange'],
    ['user with a resource', { resource: 'urn:test:orders' }, 'refresh_token'],
    ['client', { token: 'client' }, 'client_credentials'],
  ])('PO6 with token: %s: what is kept is dropped, and another one fetched', async (_mode, api, grantType) => {
    const browser = await start((data) => Object.assign(data.apis.orders, api));
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    expect((await call(browser)).status).toBe(200);
    expect(world.provider.tokenRequests(grantType)).toHaveLength(2);
    world.upstream.respond = refusal;
    expect((await call(browser)).status).toBe(401);
    expect(world.provider.tokenRequests(grantType)).toHaveLength(2);
  });

  it('PX14 a refusal that never ends is not waited for', async () => {
    const browser = await start();
    await call(browser);
    const old = refuseOldTokens();
    const refused = new Set(bearers(world));
    const stuck = rawBytes(
      'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 9\r\n\r\nhalf',
      { end: 'keep' },
    );
    world.upstream.respond = (request, socket) =>
      (refused.has(request.header('authorization')) ? stuck : old)(request, socket);
    expect((await call(browser)).status).toBe(200);
  });

  it('T95 is not asked again for a browser that left meanwhile', async () => {
    const browser = await start();
    await call(browser);
    world.upstream.respond = refuseOldTokens();
    const gate = createGate();
    world.provider.faults.refreshResponse = { holdUntil: gate.opened };
    const leaving = new AbortController();
    const left = call(browser, leaving.signal).catch(() => 'left');
    const connections = () => new Promise<number>((done) => world.app.server.server.getConnections((_, n) => done(n)));
    await until(() => refreshes() === 1);
    const before = await connections();
    leaving.abort();
    expect(await left).toBe('left');
    await until(async () => (await connections()) < before, { message: 'Cloakroom to know' });
    gate.open();
    await until(() => world.log.lines.some(({ msg }) => msg === 'request cut short'));
    expect(world.upstream.requests).toHaveLength(2);
    expect((await call(browser)).status).toBe(200);
    expect(world.upstream.requests).toHaveLength(3);
  });

  it('PX14 a long refusal is not read to its end', async () => {
    const browser = await start();
    await call(browser);
    const old = refuseOldTokens();
    const endless = reply({
      status: 401,
      headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']],
      body: (function* () {
        for (;;) yield Buffer.alloc(16_384, 'x');
      })(),
    });
    const refused = new Set(bearers(world));
    world.upstream.respond = (request, socket) =>
      refused.has(request.header('authorization')) ? endless(request, socket) : old(request, socket);
    expect((await call(browser)).status).toBe(200);
  });
});
