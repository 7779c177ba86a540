import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { buildKeyRing, deriveSessionKeys } from '../../src/crypto/keys.ts';
import { createRecordFormat } from '../../src/session/record-format.ts';
import type { Browser } from '../support/browser.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { type RedisInHand, startRedisInHand } from '../support/redis-in-hand.ts';
import { handleOf, onReplica, sessionIdOf } from '../support/ticket.ts';
import type { ConfigData, World } from '../support/world.ts';

// Each line of the threat table in docs/sessions-and-tokens.md, played by somebody who has Redis and nothing else.

let world: World;
let redis: RedisInHand['redis'];
let data: ConfigData;
let keyOf: RedisInHand['keyOf'];
let stop: () => Promise<void>;
beforeEach(async () => {
  ({ world, redis, data, keyOf, stop } = await startRedisInHand());
});
afterEach(() => stop());

/** The same browser on the second replica, which has not seen its session yet. */
const cold = (browser: Browser) => onReplica(world, 1, browser);
const call = async (browser: Browser) => (await browser.fetch('/api/orders/1')).status;
const refresh = (browser: Browser) => browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
const logout = (browser: Browser) => browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });

it('every line of the threat table is played here', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/sessions-and-tokens.md'), 'utf8');
  const lines = [...page.matchAll(/^\| (RT\d+) \|/gm)].map((match) => match[1] as string);
  const tests = [...readFileSync(import.meta.filename, 'utf8').matchAll(/it\('(RT\d+) /g)].map((match) => match[1]);
  expect(lines.length).toBeGreaterThan(9);
  expect(tests).toEqual(lines);
});

describe('W12 somebody who reads Redis', () => {
  it('RT1 finds no ticket and no token', async () => {
    const browser = await world.loggedIn();
    const sessionId = sessionIdOf(browser);
    const fields = await redis.hgetallBuffer(keyOf(browser));
    const text = `${keyOf(browser)} ${Object.values(fields).map(String).join(' ')}`;
    for (const secret of [sessionId, ...world.provider.issuedSecrets()]) expect(text).not.toContain(secret);
  });
});

describe('W12 somebody who writes to Redis', () => {
  it('RT2 can end sessions', async () => {
    const browser = await world.loggedIn();
    await redis.del(keyOf(browser));
    expect(await call(cold(browser))).toBe(401);
  });

  it('RT3 can put no session, and no part of one, in another’s place', async () => {
    const [alice, bob] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
    const his = await redis.hgetallBuffer(keyOf(bob));
    for (const part of [{ i: his.i }, { t: his.t }, { i: his.i, t: his.t }, his] as Record<string, Buffer>[]) {
      const before = await redis.dumpBuffer(keyOf(alice));
      await redis.hset(keyOf(alice), part);
      expect(await call(cold(alice))).toBe(401);
      await redis.restore(keyOf(alice), 60_000, before, 'REPLACE');
    }
    expect(await call(cold(alice))).toBe(200);
  });

  it('RT4 can give nobody back what an older identity said', async () => {
    const browser = await world.loggedIn('alice', { roles: ['admin'] });
    const older = (await redis.hgetBuffer(keyOf(browser), 'i')) as Buffer;
    world.provider.faults.idToken = { claims: { roles: [] } };
    expect((await refresh(browser)).status).toBe(200);
    expect(await call(browser)).toBe(200);
    await redis.hset(keyOf(browser), 'i', older);
    expect(await call(cold(browser))).toBe(401);
    expect(await call(browser)).toBe(200); // opened before, and goes on with what it opened
  });

  it('RT5 can move no end further away, and no beginning', async () => {
    for (const field of ['x', 'c']) {
      const browser = await world.loggedIn();
      const opened = await redis.hget(keyOf(browser), 'x');
      await redis.hincrby(keyOf(browser), field, 100_000);
      expect(await call(cold(browser))).toBe(401);
      expect(await call(browser)).toBe(200);
      const { session } = (await browser.fetch('/bff/session')).json<{ session: { expiresAt: number } }>();
      expect(session.expiresAt).toBe(Number(opened));
    }
    const browser = await world.loggedIn();
    await redis.hset(keyOf(browser), 'x', Math.floor(Date.now() / 1000) - 1);
    expect(await call(cold(browser))).toBe(401); // nearer: can
  });

  it('RT6 can keep an idle session from running out, until its absolute end', async () => {
    const browser = await world.loggedIn();
    const now = Math.floor(Date.now() / 1000);
    await redis.hset(keyOf(browser), { a: now - 100_000 });
    const other = cold(browser);
    expect(await call(other.clone())).toBe(401); // it has run out
    await redis.hset(keyOf(browser), { a: now + 100_000 });
    expect(await call(other)).toBe(200);
    const { session } = (await other.fetch('/bff/session')).json<{ session: Record<string, number> }>();
    expect(session.idleExpiresAt).toBeLessThanOrEqual(session.expiresAt as number);
  });

  it('RT7 can make a session unreadable for as long as the lie stands', async () => {
    const browser = await world.loggedIn();
    await redis.hset(keyOf(browser), 'f', 99);
    expect(await call(cold(browser))).toBe(503);
    await redis.hset(keyOf(browser), 'f', 1);
    expect(await call(cold(browser))).toBe(200);
  });

  it('RT8 can hide a session from the inventory, and put no other one into it', async () => {
    const [alice, bob] = [await world.loggedIn('alice'), await world.loggedIn('bob')];
    const listed = async () =>
      (await alice.fetch('/bff/sessions')).json<{ sessions: { id: string }[] }>().sessions.map(({ id }) => id);
    const indexes = (await redis.keys(`${world.keyPrefix}sub:*`)) as string[];
    for (const index of indexes) await redis.zadd(index, 9_999_999_999, handleOf(bob));
    expect(await listed()).toEqual([handleOf(alice)]);
    for (const index of indexes) await redis.zrem(index, handleOf(alice));
    expect(await listed()).toEqual([]);
    await redis.del(await redis.keys(`${world.keyPrefix}sid:*`));
    world.provider.nextLogin({ sub: 'alice' });
    expect((await logOutByProvider(world, { sub: 'alice', sid: null })).status).toBe(200);
    expect(await call(alice)).toBe(200); // the logout found nothing
  });

  it('RT9 can delay a refresh, and not take its token', async () => {
    const browser = await world.loggedIn();
    await redis.set(keyOf(browser, 'l'), 'somebody', 'PX', 60_000);
    expect((await refresh(browser)).status).toBe(503);
    await redis.hset(keyOf(browser), 'b', Date.now() + 60_000);
    await redis.del(keyOf(browser, 'l'));
    expect((await refresh(browser)).status).toBe(503);
    expect(await call(browser)).toBe(200);
    await redis.hset(keyOf(browser), 'b', 0);
    expect((await refresh(browser)).status).toBe(200);
  });
});

describe('W12 somebody who replays what was in Redis', () => {
  it('RT10 brings back no session that ended, while its tombstone lives', async () => {
    const browser = await world.loggedIn();
    const copy = cold(browser);
    const record = await redis.dumpBuffer(keyOf(browser));
    await logout(browser.clone());
    await redis.restore(keyOf(browser), 60_000, record);
    expect(await call(browser)).toBe(401);
    expect(await call(copy)).toBe(401);
  });

  it('RT11 brings it back with the tombstone gone, but not for a process that heard of the end', async () => {
    const browser = await world.loggedIn();
    const strange = cold(browser);
    const record = await redis.dumpBuffer(keyOf(browser));
    await logout(browser.clone());
    await redis.restore(keyOf(browser), 60_000, record);
    await redis.del(keyOf(browser, 'x'));
    expect(await call(browser)).toBe(401);
    expect(await call(strange)).toBe(200);
  });

  it('RT12 sets a whole record back for a process that never saw the newer one, and for no other', async () => {
    const browser = await world.loggedIn();
    const record = await redis.dumpBuffer(keyOf(browser));
    expect((await refresh(browser)).status).toBe(200);
    await redis.restore(keyOf(browser), 60_000, record, 'REPLACE');
    expect(await call(browser)).toBe(401);
    expect(world.log.text()).toContain('session_rolled_back');
    expect(await call(cold(browser))).toBe(200);
  });
});

it('SE10 a refresh keeps what a newer release put into the record: hash field, identity and token set', async () => {
  const browser = await world.loggedIn();
  const key = keyOf(browser);
  const parsed = parseConfig('world.yaml', stringify(data), {});
  if (!parsed.ok) throw new Error('the configuration of the world is not valid');
  const ring = buildKeyRing(parsed.config.session.keys, 'default');
  const sessionId = sessionIdOf(browser);
  const handle = handleOf(browser);
  const owner = { issuer: world.provider.issuer, clientId: world.provider.clientId };
  const format = createRecordFormat(ring, owner);
  const tokenKeys = deriveSessionKeys(ring.tokens, sessionId);
  const read = async () => {
    const [i, t, ...times] = await redis.hmgetBuffer(key, 'i', 't', 'g', 'c', 'x', 'a');
    const [generation = 0, createdAt = 0, expiresAt = 0, lastSeenAt = 0] = times.map(Number);
    const stored = { format: 1, generation, createdAt, expiresAt, lastSeenAt, now: createdAt };
    const opened = format.open(handle, tokenKeys, { ...stored, identity: i as Buffer, tokens: t as Buffer });
    return { generation, createdAt, expiresAt, ...(opened ?? expect.fail('the record does not open')) };
  };
  const { generation, createdAt, expiresAt, identity, tokens } = await read();
  const newer = { ...identity, device_key: 'k' };
  const content = { identity: newer, tokens: tokens.replace('{', '{"dpop":{"jkt":"x"},') };
  const sealed = format.seal(handle, tokenKeys, { generation, createdAt, expiresAt, ...content });
  await redis.hset(key, { i: sealed.identity, t: sealed.tokens, z: 'of a newer release' });

  const other = cold(browser);
  expect((await refresh(other)).status).toBe(200);
  const after = await read();
  expect(after.generation).toBe(generation + 1);
  expect(after.identity).toMatchObject({ device_key: 'k' });
  expect(JSON.parse(after.tokens)).toMatchObject({ dpop: { jkt: 'x' } });
  expect(await redis.hget(key, 'z')).toBe('of a newer release');
});
