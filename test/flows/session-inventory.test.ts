import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { call } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { onReplica } from '../support/ticket.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0';
const safari = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Safari/604.1';
const csrf = { 'x-csrf': '1' };

interface Listed {
  id: string;
  current: boolean;
  createdAt: number;
  lastSeenAt: number;
  expiresAt: number;
  device: string;
}

async function logInAs(world: World, sub: string, userAgent = firefox): Promise<Browser> {
  world.provider.nextLogin({ sub });
  const browser = world.browser();
  await browser.login('/', { headers: { 'user-agent': userAgent } });
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

const list = async (browser: Browser) => (await browser.fetch('/bff/sessions')).json<{ sessions: Listed[] }>().sessions;
const end = (browser: Browser, id?: string, headers: Record<string, string | undefined> = csrf) =>
  browser.fetch(id === undefined ? '/bff/sessions' : `/bff/sessions/${id}`, { method: 'DELETE', headers });
const currentOf = async (browser: Browser) => (await list(browser)).find(({ current }) => current)?.id ?? '';

describe('SE9 my sessions', () => {
  let world: World;
  let count = 0;
  const someone = () => `user-${++count}`;
  beforeAll(async () => {
    world = await startWorld({ replicas: 2 });
  });
  afterAll(() => world.stop());

  it('SE9 are listed oldest first, with a coarse device and the current one marked', async () => {
    const sub = someone();
    const [laptop, phone] = [await logInAs(world, sub), await logInAs(world, sub, safari)];
    await logInAs(world, someone());
    const answer = await onReplica(world, 1, phone).fetch('/bff/sessions');
    expect([answer.status, answer.header('cache-control')]).toEqual([200, 'no-store']);
    const { sessions } = answer.json<{ sessions: Listed[] }>();
    expect(sessions.map(({ device, current }) => [device, current])).toEqual(
      expect.arrayContaining([
        ['Firefox on Linux', false],
        ['Safari on iOS', true],
      ]),
    );
    expect(sessions).toHaveLength(2);
    const now = Date.now() / 1000;
    for (const { createdAt, lastSeenAt, expiresAt } of sessions) {
      expect(Math.abs(createdAt - now)).toBeLessThan(10);
      expect(lastSeenAt).toBeGreaterThanOrEqual(createdAt);
      expect(expiresAt).toBeGreaterThan(now);
    }
    expect(sessions[0]?.createdAt).toBeLessThanOrEqual(sessions[1]?.createdAt ?? 0);
    // Nothing in the list opens anything: not a cookie, not part of one.
    for (const browser of [laptop, phone])
      expect(answer.text).not.toContain(browser.cookie('cloakroom')?.value.split('.')[0]);
  });

  it('SE9 keep their device through a refresh with new claims', async () => {
    const browser = await logInAs(world, someone(), safari);
    world.provider.faults.refreshIdToken = [{ claims: { name: 'Alice' } }];
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    expect((await list(browser))[0]?.device).toBe('Safari on iOS');
  });

  it('SE9 end one by one, on every replica', async () => {
    const sub = someone();
    const [laptop, phone] = [await logInAs(world, sub), await logInAs(world, sub)];
    const answer = await end(laptop, await currentOf(phone));
    expect([answer.status, answer.json()]).toEqual([200, { ended: 1 }]);
    expect(answer.setCookies).toEqual([]);
    for (const replica of [0, 1]) expect((await call(onReplica(world, replica, phone))).status).toBe(401);
    expect((await call(laptop)).status).toBe(200);
    expect(await list(laptop)).toHaveLength(1);
    expect((await end(laptop, await currentOf(laptop))).json()).toEqual({ ended: 1 });
  });

  it('SE9 that is my own one ends as by a logout: cookie cleared, refresh token revoked', async () => {
    const browser = await logInAs(world, someone());
    const before = world.provider.revoked.length;
    const answer = await end(browser, await currentOf(browser));
    expect([answer.status, answer.json()]).toEqual([200, { ended: 1 }]);
    expect(browser.cookies()).toEqual([]);
    await until(() => world.provider.revoked.length === before + 1, { message: 'the revocation' });
  });

  it('SE9 end all at once: log out everywhere', async () => {
    const [sub, other] = [someone(), await logInAs(world, someone())];
    const here = await logInAs(world, sub);
    const mine = [await logInAs(world, sub), here, await logInAs(world, sub)];
    const answer = await end(here);
    expect([answer.status, answer.json()]).toEqual([200, { ended: 3 }]);
    expect(here.cookies()).toEqual([]);
    for (const browser of mine) expect((await call(onReplica(world, 1, browser))).status).toBe(401);
    expect((await call(other)).status).toBe(200);
  });

  it('SE9 of somebody else are as unknown as ones that never were', async () => {
    const [alice, bob] = [await logInAs(world, someone()), await logInAs(world, someone())];
    const ids = [await currentOf(bob), 'x', '__proto__', '%00', '*', 'a'.repeat(43), `${await currentOf(alice)}x`];
    const answers: string[] = [];
    for (const id of ids) {
      const { status, text } = await end(alice, id);
      answers.push(text.replace(/"requestId":"[^"]*"/, ''));
      expect([400, 404], id).toContain(status);
    }
    expect(answers[0]).toBe(answers[1]);
    expect((await call(bob)).status).toBe(200);
    expect((await call(alice)).status).toBe(200);
  });

  it('T56 need the header and the own origin to end', async () => {
    const browser = await logInAs(world, someone());
    const id = await currentOf(browser);
    for (const target of [undefined, id]) {
      expect((await end(browser, target, {})).status).toBe(403);
      expect((await end(browser, target, { ...csrf, 'sec-fetch-site': 'same-site' })).status).toBe(403);
      expect((await end(browser, target, { ...csrf, origin: 'https://evil.example' })).status).toBe(403);
    }
    expect((await browser.fetch('/bff/sessions', { headers: { 'sec-fetch-site': 'cross-site' } })).status).toBe(403);
    expect((await call(browser)).status).toBe(200);
  });

  it('SE9 are for nobody who is not logged in', async () => {
    const anonymous = world.browser();
    expect((await anonymous.fetch('/bff/sessions')).status).toBe(401);
    expect((await end(anonymous)).status).toBe(401);
    expect((await end(anonymous, 'x')).status).toBe(401);
  });
});

describe('SE11 session.perUser', () => {
  let world: World;
  afterEach(() => world.stop());
  const limit = (whenFull: string) => (data: ConfigData) =>
    Object.assign(data.session, { perUser: { max: 2, whenFull } });

  it('SE11 evict-oldest ends the oldest session of the user, and nobody else’s', async () => {
    world = await startWorld({ config: limit('evict-oldest') });
    const bob = await logInAs(world, 'bob');
    const first = await logInAs(world, 'alice');
    // Sessions are ordered by whole seconds of Redis's clock.
    const { createdAt } = (await list(first))[0] as Listed;
    await until(() => Date.now() / 1000 > createdAt + 1.1, { message: 'the next second' });
    const second = await logInAs(world, 'alice');
    const events = await first.open('/bff/events');
    const third = await logInAs(world, 'alice');
    await events.readUntil((text) => text.includes('"reason":"evicted"'));
    expect((await call(first)).status).toBe(401);
    for (const browser of [second, third, bob]) expect((await call(browser)).status).toBe(200);
    expect(await list(third)).toHaveLength(2);
  });

  it('SE11 evict-oldest lets the same browser log in again without ending another one', async () => {
    world = await startWorld({ config: limit('evict-oldest') });
    const [first, second] = [await logInAs(world, 'alice'), await logInAs(world, 'alice')];
    for (let round = 0; round < 3; round++) await second.login('/');
    for (const browser of [first, second]) expect((await call(browser)).status).toBe(200);
    expect(await list(first)).toHaveLength(2);
  });

  it('SE11 deny refuses the login that is one too many, and its tokens are revoked', async () => {
    world = await startWorld({ config: limit('deny') });
    const [first, second] = [await logInAs(world, 'alice'), await logInAs(world, 'alice')];
    const third = world.browser();
    const page = await third.login('/');
    expect(page.status).toBe(403);
    expect(page.text).toContain('BFF_LOGIN_TOO_MANY_SESSIONS');
    expect(third.cookie('cloakroom')).toBeUndefined();
    await until(() => world.provider.revoked.length === 1, { message: 'the revocation' });
    for (const browser of [first, second]) expect((await call(browser)).status).toBe(200);
    // A place that was given up can be taken; a login in the same browser takes its own.
    await end(first);
    expect((await third.login('/')).status).toBe(404); // landed: no files are served here
    expect(await isLoggedIn(third)).toBe(true);
    await third.login('/');
    expect(await isLoggedIn(third)).toBe(true);
  });
});
