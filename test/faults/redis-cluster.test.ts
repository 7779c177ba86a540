import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { startLoad } from '../support/load.ts';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// Three real Redis nodes that share the slots. Without replicas, so that a node that is away is really away.

const csrf = { 'x-csrf': '1' };

let cluster: RedisCluster;
let world: World;
beforeAll(async () => {
  cluster = await startRedisCluster({ args: ['--cluster-require-full-coverage', 'no'] });
  world = await startWorld({
    nearCache: false,
    redisUrl: cluster.urls[0] as string,
    replicas: 2,
    config(data) {
      const { url, ...rest } = data.session.redis;
      // Only one node is told; the client finds the others.
      data.session.redis = { ...rest, cluster: [url], commandTimeout: '500ms', connectTimeout: '500ms' };
    },
  });
});
afterAll(async () => {
  for (const node of cluster.nodes) node.resume();
  for (const url of cluster.urls) {
    const endless = (await dumpRedis(url, `${world.keyPrefix}*`)).filter(({ pttl }) => pttl === -1);
    expect(endless).toEqual([]);
  }
  await world.stop();
  await cluster.stop();
});

/** A browser that is logged in, and the key of its session. */
async function loggedIn(sub: string): Promise<{ browser: Browser; key: string; node: number }> {
  const before = await sessionKeys();
  const browser = await world.loggedIn(sub);
  const key = (await sessionKeys()).find((one) => !before.includes(one));
  if (key === undefined) throw new Error('the login made no session');
  return { browser, key, node: await cluster.ownerOf(key) };
}

async function sessionKeys(): Promise<string[]> {
  const dumps = await Promise.all(cluster.urls.map((url) => dumpRedis(url, `${world.keyPrefix}*:s`)));
  return dumps.flat().map(({ key }) => key);
}

async function statusOf(browser: Browser): Promise<number> {
  return (await browser.fetch('/api/orders/1')).status;
}

/** Sessions until every node has at least one. */
async function loggedInOnEveryNode(): Promise<Awaited<ReturnType<typeof loggedIn>>[]> {
  const all: Awaited<ReturnType<typeof loggedIn>>[] = [];
  await until(
    async () => {
      all.push(await loggedIn(`user-${all.length}`));
      return new Set(all.map(({ node }) => node)).size === 3;
    },
    { timeoutMs: 15_000, message: 'a session on every node' },
  );
  return all;
}

describe('on a cluster of three nodes', () => {
  it('a login, API calls, a refresh and a logout work, wherever the session lives', async () => {
    for (const { browser } of await loggedInOnEveryNode()) {
      expect(await statusOf(browser)).toBe(200);
      expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
      expect(await statusOf(browser)).toBe(200);
      expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
      expect(await statusOf(browser)).toBe(401);
    }
    expect(await sessionKeys()).toEqual([]);
  });

  it('T106 a slot that moves during load costs no call, and the session moves with it', async () => {
    const { browser, key, node } = await loggedIn('alice');
    const load = startLoad(browser);
    const { seen } = load;
    await until(() => seen.length > 20);
    await cluster.moveSlot(key);
    const moved = seen.length;
    await until(() => seen.length > moved + 20);
    await load.stop();
    expect(await cluster.ownerOf(key)).not.toBe(node);
    expect(new Set(seen)).toEqual(new Set([200]));
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(await statusOf(browser)).toBe(200);
  });

  it('T105 a frozen node is a 503 in time for its own sessions only, and they are back when it is', async () => {
    const all = await loggedInOnEveryNode();
    const frozen = all[0] as (typeof all)[number];
    const others = all.filter(({ node }) => node !== frozen.node);
    cluster.nodes[frozen.node]?.pause();
    const startedAt = performance.now();
    const page = await frozen.browser.fetch('/api/orders/1');
    expect(performance.now() - startedAt).toBeLessThan(1500);
    expect(page.status).toBe(503);
    expect(page.setCookies).toEqual([]);
    for (const { browser } of others) expect(await statusOf(browser)).toBe(200);
    cluster.nodes[frozen.node]?.resume();
    const seen: number[] = [];
    await until(async () => seen.push(await statusOf(frozen.browser)) && seen.at(-1) === 200, {
      message: 'the session to be back',
    });
    expect(seen.every((status) => status === 200 || status === 503)).toBe(true);
  });
});
