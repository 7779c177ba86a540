import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { call } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import type { LogoutTokenOptions } from '../support/evil-provider.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { logOutByProvider, postForm, sendLogoutToken } from '../support/logout-token.ts';
import { onReplica } from '../support/ticket.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ replicas: 2 });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

const event = 'http://schemas.openid.net/event/backchannel-logout';
const now = () => Math.floor(Date.now() / 1000);

/** Logs in as this user at a provider session of this name. */
async function loggedIn(sub = 'alice', sid?: string): Promise<Browser> {
  world.provider.nextLogin({ sub, ...(sid === undefined ? {} : { sid }) });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

async function expectDead(browser: Browser): Promise<void> {
  expect((await call(onReplica(world, 0, browser))).status).toBe(401);
  expect((await call(onReplica(world, 1, browser))).status).toBe(401);
}

describe('L-1 a logout token', () => {
  const good: Record<string, LogoutTokenOptions> = {
    'of type logout+jwt': {},
    'of type JWT': { header: { typ: 'JWT' } },
    'without a type': { header: { typ: undefined } },
    'for several audiences': { claims: { aud: ['cloakroom', 'other'] } },
    'with a member in the event': { claims: { events: { [event]: { more: 1 }, 'https://other.example': {} } } },
    'with sid alone': { sub: null },
    'with sub alone': { sid: null },
  };
  it.each(Object.entries(good))(
    'L-1 %s ends the session on every replica before its next request',
    async (_, options) => {
      const browser = await loggedIn();
      const answer = await logOutByProvider(world, options, { replica: 1 });
      expect([answer.status, answer.text]).toEqual([200, '']);
      expect(answer.headers['cache-control']).toBe('no-store');
      expect(answer.headers['set-cookie']).toBeUndefined();
      await expectDead(browser);
    },
  );

  const bad: Record<string, LogoutTokenOptions> = {
    'of the type of an access token': { header: { typ: 'at+jwt' } },
    'of a made-up type': { header: { typ: 'secevent+jwt' } },
    'with a type that is no text': { header: { typ: 1 } },
    'without a signature': { alg: 'none' },
    'signed with the client secret': { alg: 'HS256-secret' },
    'signed with the public key as a secret': { alg: 'HS256-public' },
    'signed by somebody else': { alg: 'forged' },
    'with a critical header': { header: { crit: ['b64'], b64: false } },
    'of another issuer': { claims: { iss: 'https://evil.example' } },
    'without an issuer': { claims: { iss: undefined } },
    'for another client': { audience: 'other' },
    'for other clients': { claims: { aud: ['other', 'another'] } },
    'for nobody': { claims: { aud: undefined } },
    'for an empty list': { claims: { aud: [] } },
    'without an end': { claims: { exp: undefined } },
    'that has expired': { claims: { exp: now() - 60 } },
    'with an end that is no number': { claims: { exp: 'never' } },
    'without a time': { claims: { iat: undefined } },
    'made an hour ago': { claims: { iat: now() - 3600, exp: now() + 3600 } },
    'made in an hour': { claims: { iat: now() + 3600, exp: now() + 7200 } },
    'without a jti': { claims: { jti: undefined } },
    'with an empty jti': { claims: { jti: '' } },
    'with a jti that is a number': { claims: { jti: 7 } },
    'with a jti without end': { claims: { jti: 'x'.repeat(513) } },
    'without events': { claims: { events: undefined } },
    'with events as a list': { claims: { events: [event] } },
    'with an empty list of events': { claims: { events: [] } },
    'with events as a text': { claims: { events: event } },
    'with events null': { claims: { events: null } },
    'with no event': { claims: { events: {} } },
    'with another event': { claims: { events: { 'https://other.example': {} } } },
    'with the event null': { claims: { events: { [event]: null } } },
    'with the event as a text': { claims: { events: { [event]: '' } } },
    'with the event as a list': { claims: { events: { [event]: [] } } },
    'with the event true': { claims: { events: { [event]: true } } },
    'with a nonce': { claims: { nonce: 'n' } },
    'with an empty nonce': { claims: { nonce: '' } },
    'with the nonce null': { claims: { nonce: null } },
    'with neither sid nor sub': { sub: null, sid: null },
    'with an empty sid': { sid: '' },
    'with a sid that is a list': { claims: { sid: ['a'] } },
    'with a sub that is a number': { claims: { sub: 7 } },
    'with a sub without end': { claims: { sub: 'x'.repeat(256) } },
    'whose payload is a text': { payload: '"hello"' },
    'whose payload is no JSON': { payload: '{' },
    'that is no JWT': { raw: 'hello' },
    'that is five parts': { raw: 'a.b.c.d.e' },
    'that is empty': { raw: '' },
    'that is 13 KB': { claims: { padding: 'x'.repeat(10_000) } }, // 16 KiB are never read (W14)
  };
  it('L-1 that is not valid is refused in each of its forms, and ends nothing', async () => {
    const browser = await loggedIn();
    for (const [name, options] of Object.entries(bad)) {
      const answer = await logOutByProvider(world, options);
      expect(answer.status, name).toBe(400);
      expect(JSON.parse(answer.text), name).toMatchObject({ error: 'invalid_request' });
      expect(answer.headers['cache-control'], name).toBe('no-store');
    }
    expect((await call(browser)).status).toBe(200);
    const refused = world.log.lines.filter(({ audit }) => audit === 'logout_token_refused');
    expect(refused.length).toBeGreaterThanOrEqual(Object.keys(bad).length);
  });

  it('W39 that is too old, over or ahead is refused with a word that says by how much', async () => {
    await loggedIn();
    const times = [{ iat: now() - 400 }, { iat: now() + 60 }, { exp: now() - 60 }, { nbf: now() + 60 }];
    for (const claims of times) expect((await logOutByProvider(world, { claims })).status).toBe(400);
    const refused = world.log.lines.filter(({ audit }) => audit === 'logout_token_refused').slice(-times.length);
    const words = [
      /^iat is 40\d s ago, 9\d s outside/,
      /^iat is [56]\d s ahead, [45]\d s/,
      /^exp is 6\d s ago/,
      /^nbf is/,
    ];
    for (const [index, word] of words.entries()) expect(refused[index]?.reason).toMatch(word);
  });

  it('LO11 is neither an ID token nor an access token', async () => {
    const browser = await loggedIn();
    await call(browser);
    const [idToken = ''] = world.provider.issuedSecrets('id_token').slice(-1);
    const [accessToken = ''] = world.provider.issuedSecrets('access_token').slice(-1);
    for (const token of [idToken, accessToken, `${accessToken}x`])
      expect((await sendLogoutToken(world, token)).status).toBe(400);
    expect((await call(browser)).status).toBe(200);
  });
});

describe('L-2 a replayed logout token', () => {
  it('L-2 is refused by the same and by another replica', async () => {
    await loggedIn();
    const token = world.provider.logoutToken();
    expect((await sendLogoutToken(world, token)).status).toBe(200);
    expect((await sendLogoutToken(world, token)).status).toBe(400);
    expect((await sendLogoutToken(world, token, { replica: 1 })).status).toBe(400);
  });

  it('L-2 does not end a new login of the same provider session', async () => {
    await loggedIn('alice', 'sid-l2');
    const token = world.provider.logoutToken();
    expect((await sendLogoutToken(world, token)).status).toBe(200);
    const again = await loggedIn('alice', 'sid-l2');
    for (const replica of [0, 1]) await sendLogoutToken(world, token, { replica });
    expect((await call(again)).status).toBe(200);
  });

  it('L-2 that comes late for the first time does not end a login that is newer than it', async () => {
    const old = now() - 60;
    const browser = await loggedIn('alice', 'sid-l2-late');
    expect((await logOutByProvider(world, { claims: { iat: old } })).status).toBe(200);
    expect((await call(browser)).status).toBe(200);
  });

  it('L-2 is told from another one by its jti alone', async () => {
    const browser = await loggedIn();
    const first = world.provider.logoutToken({ sid: 'unknown', sub: null, claims: { jti: 'same' } });
    const second = world.provider.logoutToken({ claims: { jti: 'same' } });
    expect((await sendLogoutToken(world, first)).status).toBe(200);
    expect((await sendLogoutToken(world, second)).status).toBe(400);
    expect((await call(browser)).status).toBe(200);
  });
});

describe('L-3 the request', () => {
  it('L-3 is a form by POST and nothing else', async () => {
    const browser = await loggedIn();
    const token = () => world.provider.logoutToken();
    const form = () => `logout_token=${token()}`;
    const multipart = () => `--b\r\nContent-Disposition: form-data; name="logout_token"\r\n\r\n${token()}\r\n--b--\r\n`;
    const sent: [string, number, Promise<{ status: number }>][] = [
      ['twice', 400, postForm(world, `${form()}&${form()}`)],
      ['as JSON', 415, postForm(world, JSON.stringify({ logout_token: token() }), { type: 'application/json' })],
      ['as text', 415, postForm(world, form(), { type: 'text/plain' })],
      ['without a type', 415, postForm(world, form(), { type: null })],
      ['as multipart', 415, postForm(world, multipart(), { type: 'multipart/form-data; boundary=b' })],
      ['in the query', 400, postForm(world, 'x=1', { path: `/bff/backchannel-logout?${form()}` })],
      ['in nothing', 400, postForm(world, undefined)],
      ['in 10 MB', 413, postForm(world, `${form()}&x=${'x'.repeat(10_000_000)}`).catch(() => ({ status: 413 }))],
      ['by GET', 405, postForm(world, undefined, { method: 'GET', path: `/bff/backchannel-logout?${form()}` })],
      ['by PUT', 405, postForm(world, form(), { method: 'PUT' })],
    ];
    for (const [name, status, answer] of sent) expect((await answer).status, name).toBe(status);
    expect((await call(browser)).status).toBe(200);
  });

  it('LO5 needs no cookie and no CSRF header, and takes other parameters with it', async () => {
    const browser = await loggedIn();
    const body = `other=1&logout_token=${world.provider.logoutToken()}&other=2`;
    const headers = { origin: 'https://id.example.com', 'sec-fetch-site': 'cross-site', cookie: 'cloakroom=planted' };
    const answer = await postForm(world, body, { headers });
    expect([answer.status, answer.headers['set-cookie']]).toEqual([200, undefined]);
    await expectDead(browser);
  });
});
