import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { buildKeyRing, deriveSessionKeys, type SealingKey } from '../../src/crypto/keys.ts';
import { open, seal } from '../../src/crypto/seal.ts';
import type { Browser } from '../support/browser.ts';
import { assertNoSecrets } from '../support/canary.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { type RedisInHand, startRedisInHand } from '../support/redis-in-hand.ts';
import { restart } from '../support/restart.ts';
import { handleOf, sessionIdOf } from '../support/ticket.ts';
import type { ConfigData, World } from '../support/world.ts';

let world: World;
let redis: RedisInHand['redis'];
let data: ConfigData;
let recordKey: RedisInHand['keyOf'];
let stop: () => Promise<void>;
beforeEach(async () => {
  ({ world, redis, data, keyOf: recordKey, stop } = await startRedisInHand());
});
afterEach(() => stop());

const newKey = () => randomBytes(32).toString('base64url');

/**
 * Refused, with no token of anybody on its way to the upstream, by a replica that has not opened this generation yet:
 * one that has goes on with what it opened.
 */
async function expectNoSession(opened: Browser) {
  const called = world.upstream.requests.length;
  const browser = world.browser(1);
  for (const { name, value } of opened.cookies()) browser.setCookie(`${name}=${value}; Path=/`, { force: true });
  const copy = browser.clone(); // the first 401 takes the cookie away
  expect((await browser.fetch('/api/orders/1')).status).toBe(401);
  expect(await isLoggedIn(copy)).toBe(false);
  await copy.close();
  expect(world.upstream.requests).toHaveLength(called);
}

describe('a dump of Redis', () => {
  it('TS3 opens no token with the server keys: the session id of the cookie is missing', async () => {
    const browser = await world.loggedIn('alice');
    const parsed = parseConfig('stolen.yaml', stringify(data), {});
    if (!parsed.ok) throw new Error('the configuration of the world is not valid');
    const ring = buildKeyRing(parsed.config.session.keys, 'default');
    const handle = handleOf(browser);
    const tokens = await redis.hgetBuffer(recordKey(browser), 't');
    if (tokens === null) throw new Error('no record');
    const context = `tokens/1/${handle}/1`;

    // Everything that somebody with dump and keys has: all keys of the ring, and them completed by what the dump says.
    const names = [handle, recordKey(browser), world.keyPrefix, '', 'default', 'alice'];
    const lists: SealingKey[][] = [ring.identity, ring.tokens, ring.transaction];
    const tried = [
      ...lists,
      ...lists.flatMap((keys) => names.map((name) => deriveSessionKeys(keys, name))),
      ring.signing.map((key) => ({ id: ring.tokens[0]?.id as Buffer, key })),
    ];
    for (const keys of tried) expect(open(keys, tokens, context)).toBeUndefined();
    // With the cookie it opens: so the refusals above are not a wrong context.
    expect(open(deriveSessionKeys(ring.tokens, sessionIdOf(browser)), tokens, context)).toContain('"r":');
  });

  it('T55 has no session id, no cookie and no subject in it, and an end for every key', async () => {
    const browser = await world.loggedIn('subject-canary-4711', { email: 'canary-4711@example.com' });
    await browser.fetch('/api/orders/1');
    const keys = await redis.keys(`${world.keyPrefix}*`);
    expect(keys.length).toBeGreaterThanOrEqual(3);
    for (const key of keys) {
      expect(await redis.pttl(key), key).toBeGreaterThan(0);
      const value = (await redis.type(key)) === 'hash' ? await redis.hgetallBuffer(key) : {};
      const text = `${key}\n${Object.values(value)
        .map((field) => field.toString('latin1'))
        .join('\n')}`;
      const secrets = [sessionIdOf(browser), 'subject-canary-4711', 'canary-4711@example.com'];
      assertNoSecrets({ secrets, haystacks: [{ name: key, text }] });
    }
  });
});

describe('T52 records that are not what was written', () => {
  it('T52 never opens the record of another session in place of its own', async () => {
    const alice = await world.loggedIn('alice');
    const bob = await world.loggedIn('bob');
    const [hers, his] = await Promise.all([redis.hgetallBuffer(recordKey(alice)), redis.hgetallBuffer(recordKey(bob))]);
    await redis.hset(recordKey(alice), his);
    await redis.hset(recordKey(bob), hers);
    await expectNoSession(alice);
    await expectNoSession(bob);
  });

  it.each(['i', 't'])('T52 never opens a record with the %s of another session', async (field) => {
    const alice = await world.loggedIn('alice');
    const bob = await world.loggedIn('bob');
    const his = (await redis.hgetBuffer(recordKey(bob), field)) as Buffer;
    await redis.hset(recordKey(alice), field, his);
    await expectNoSession(alice);
    expect(await isLoggedIn(bob)).toBe(true);
  });

  it('T52 never opens the tokens of an older generation in a newer record', async () => {
    const browser = await world.loggedIn();
    const old = (await redis.hgetBuffer(recordKey(browser), 't')) as Buffer;
    await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    await redis.hset(recordKey(browser), 't', old);
    await expectNoSession(browser);
  });

  it('T52 takes damaged ciphertext for no session', async () => {
    const damages: ((sealed: Buffer) => Buffer)[] = [
      (sealed) => Buffer.alloc(0, sealed),
      (sealed) => sealed.subarray(0, 20),
      (sealed) => sealed.subarray(0, -1),
      (sealed) => Buffer.concat([sealed, Buffer.of(0)]),
      (sealed) => Buffer.concat([Buffer.of(2), sealed.subarray(1)]),
      (sealed) => Buffer.from(sealed.toString('latin1').replace(/.$/s, 'x'), 'latin1'),
      () => Buffer.from('{"a":"token","e":9999999999}'),
    ];
    for (const field of ['i', 't']) {
      for (const damage of damages) {
        const browser = await world.loggedIn();
        const sealed = (await redis.hgetBuffer(recordKey(browser), field)) as Buffer;
        const damaged = damage(sealed);
        if (damaged.equals(sealed)) continue;
        await redis.hset(recordKey(browser), field, damaged);
        await expectNoSession(browser);
      }
    }
  });

  it('SE10 answers 503 for a record of a newer format, and keeps the cookie and the record', async () => {
    const browser = await world.loggedIn();
    const key = recordKey(browser);
    await redis.hset(key, 'f', '2');
    const before = await redis.hgetallBuffer(key);
    const other = world.browser(1);
    for (const { name, value } of browser.cookies()) other.setCookie(`${name}=${value}; Path=/`, { force: true });
    for (const path of ['/api/orders/1', '/bff/session']) {
      const answer = await other.fetch(path);
      expect([path, answer.status, answer.setCookies]).toEqual([path, 503, []]);
      expect(answer.json<{ code: string }>().code).toBe('BFF_STORE_UNAVAILABLE');
    }
    expect(await redis.hgetallBuffer(key)).toEqual(before);
    await redis.hset(key, 'f', '1');
    expect((await other.fetch('/api/orders/1')).status).toBe(200);
  });

  it('T52 takes what is sealed with a removed key for no session, although the cookie is signed with a known one', async () => {
    const browser = await world.loggedIn();
    const ring = buildKeyRing(
      [{ reveal: () => Buffer.from(newKey(), 'base64url').toString('base64') } as never],
      'default',
    );
    const handle = handleOf(browser);
    await redis.hset(recordKey(browser), 'i', seal(ring.identity, '{"subject":"mallory"}', `identity/1/${handle}`));
    await expectNoSession(browser);
  });
});

describe('key rotation', () => {
  const work = async (browser: Browser) => {
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect(await isLoggedIn(browser)).toBe(true);
    const refreshed = await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(refreshed.status).toBe(200);
  };

  it('T46 logs nobody out while keys move through the list, and the old one is gone at the end', async () => {
    const old = data.session.keys[0] as string;
    const next = newKey();
    const before = await world.loggedIn('before');
    // A rolling deployment: first all replicas learn the new key, then they use it, then they forget the old one.
    for (const keys of [
      [old, next],
      [next, old],
    ]) {
      data.session.keys = keys;
      await restart(world, data);
      await work(before);
    }
    const during = await world.loggedIn('during');
    data.session.keys = [next];
    await restart(world, data);
    await work(before);
    await work(during);
  });

  it('T46 keeps a session alive that only ever calls APIs, for as long as its old key is in the list', async () => {
    const browser = await world.loggedIn();
    data.session.keys = [newKey(), ...data.session.keys];
    await restart(world, data);
    for (let call = 0; call < 3; call++) {
      const answer = await browser.fetch('/api/orders/1');
      expect(answer.status).toBe(200);
      expect(answer.setCookies).toEqual([]);
    }
  });

  it('T46 lets two replicas with the keys in different order serve the same browser', async () => {
    const browser = await world.loggedIn();
    const old = data.session.keys[0] as string;
    const next = newKey();
    for (let round = 0; round < 3; round++) {
      data.session.keys = round % 2 === 0 ? [next, old] : [old, next];
      await restart(world, data);
      await work(browser);
    }
  });

  it('T46 finishes a login that began before the rotation', async () => {
    const browser = world.browser();
    const begun = await browser.navigate('/bff/login?return_to=/x', { from: world.origin, followRedirects: false });
    data.session.keys = [newKey(), ...data.session.keys];
    await restart(world, data);
    const landed = await browser.navigate(begun.hops[0]?.location ?? '');
    expect(new URL(landed.url).pathname).toBe('/x');
    expect(await isLoggedIn(browser)).toBe(true);
  });
});
