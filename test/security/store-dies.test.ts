import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { deliver, isLoggedIn, pendingLogin, userOf } from '../support/login-steps.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
let redis: FaultProxy;
beforeAll(async () => {
  redis = await startFaultProxy(Number(new URL(inject('redisUrl')).port));
  world = await startWorld({ redisUrl: redis.redisUrl });
});
afterAll(async () => {
  redis.reset();
  await world.stop();
  await redis.stop();
});
beforeEach(() => world.provider.reset());
afterEach(() => redisIsBack());

async function redisIsBack(): Promise<void> {
  redis.reset();
  await until(async () => (await world.app.ops.inject('/readyz')).statusCode === 200, { message: 'Redis is back' });
}

const sessionCookies = (setCookies: string[]) => setCookies.filter((one) => one.startsWith('cloakroom='));
const sessionsInRedis = async () =>
  (await dumpRedis(inject('redisUrl'), `${world.keyPrefix}*:s`)).map(({ key }) => key);

/** Delivers the response, and does this once the code was redeemed but before the answer is there. */
async function whileRedeeming(fault: () => void, browser = world.browser()) {
  const { callbackUrl } = await pendingLogin(browser, '/shop');
  const { promise, resolve } = Promise.withResolvers<void>();
  world.provider.faults = { tokenResponse: { holdUntil: promise, times: 1 } };
  const before = world.provider.tokenRequests().length;
  const answer = deliver(browser, callbackUrl);
  await until(() => world.provider.tokenRequests().length > before, { message: 'the token request' });
  fault();
  resolve();
  return { page: await answer, browser, callbackUrl };
}

describe('T23 Redis dies between the token response and the session', () => {
  const deaths: Record<string, () => void> = {
    'refuses connections': () => redis.refuse(),
    hangs: () => {
      redis.faults.blackHole = true;
    },
    'is loading': () => {
      redis.faults.answer = () => '-LOADING Redis is loading the dataset in memory\r\n';
    },
    'loses its answers': () => {
      redis.faults.cutReply = () => true;
    },
  };
  it.each(Object.entries(deaths))(
    'T23 answers 503 without a cookie and revokes the tokens when it %s',
    async (_how, die) => {
      const { page, browser } = await whileRedeeming(die);
      expect(page.status).toBe(503);
      expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
      expect(sessionCookies(page.setCookies)).toEqual([]);
      await until(() => world.provider.revoked.length === 1, { message: 'the revocation' });
      expect(world.provider.refreshFamilies()[0]?.revoked).toBe(true);

      redis.reset();
      await redisIsBack();
      expect(page.text).toMatch(/<a href="\/bff\/login/);
      expect((await browser.login('/')).url).toBe(`${world.origin}/`);
      expect(await isLoggedIn(browser)).toBe(true);
    },
  );

  it('T23 makes no session when the one that this login replaces can’t be ended', async () => {
    const browser = await world.loggedIn('alice');
    const sessions = await sessionsInRedis();
    expect(sessions.length).toBeGreaterThan(0);
    world.provider.nextLogin({ sub: 'bob' });
    const { page } = await whileRedeeming(() => {
      // Only the end of alice's session fails: her key is in Redis already.
      const keys = sessions.map((key) => Buffer.from(key.replace(/:s$/, ':x')));
      redis.faults.answer = (request) =>
        keys.some((key) => request.includes(key)) ? '-LOADING Redis is loading\r\n' : undefined;
    }, browser);
    expect(page.status).toBe(503);
    expect(sessionCookies(page.setCookies)).toEqual([]);
    await until(() => world.provider.revoked.length === 1, { message: 'the revocation' });
    await redisIsBack();
    expect(await userOf(browser)).toBe('alice');
    expect(await sessionsInRedis()).toEqual(sessions);
  });
});

it('T23 keeps the login cookie when Redis is down before the code was used, so that a reload succeeds', async () => {
  const browser = world.browser();
  const { callbackUrl } = await pendingLogin(browser, '/shop');
  redis.refuse();
  const page = await deliver(browser, callbackUrl);
  expect(page.status).toBe(503);
  expect(world.provider.tokenRequests()).toHaveLength(0);
  await redisIsBack();
  expect((await deliver(browser, callbackUrl)).header('location')).toBe('/shop');
  expect(await isLoggedIn(browser)).toBe(true);
});

it('T23 keeps the cookie when a logout finds Redis dead, since the session lives on', async () => {
  const browser = await world.loggedIn('alice');
  redis.faults.answer = (request) => (request.includes(':x\r\n') ? '-LOADING Redis is loading\r\n' : undefined);
  const page = await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
  expect(page.status).toBe(503);
  expect(page.setCookies).toEqual([]);
  await redisIsBack();
  expect(await userOf(browser)).toBe('alice');
  expect((await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } })).status).toBe(200);
  expect(await isLoggedIn(browser)).toBe(false);
});
