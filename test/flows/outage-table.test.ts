import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { call, forceRefresh, logOut } from '../support/api-calls.ts';
import type { TokenFault } from '../support/evil-provider/faults.ts';
import { redisError } from '../support/fault-proxy.ts';
import { deliver, isLoggedIn, pendingLogin } from '../support/login-steps.ts';
import { type OutageWorld, startOutageWorld } from '../support/outage-world.ts';
import { until } from '../support/wait.ts';
import type { ConfigData } from '../support/world.ts';

// The outage table of docs/operations.md, read from there: each row is caused, each cell is asked for.

const operations = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
const table = [...operations.matchAll(/^\| ((?:Redis|the provider|the upstream) .*?) \| ([\d |]+) \|$/gm)].map(
  ([, down = '', cells = '']) => ({ down, cells: cells.split(' | ').map(Number) }),
);

let world: OutageWorld;

interface Outage {
  fail(): unknown;
  heal(): unknown;
  /** A peer that was never there. */
  config?: (data: ConfigData) => void;
}

const redisOutage = (fail: () => unknown): Outage => ({ fail, heal: () => world.proxy.reset() });
const providerOutage = (fault: TokenFault): Outage => ({
  fail: () => Object.assign(world.provider.faults, { tokenResponse: fault, refreshResponse: fault }),
  heal: () => Object.assign(world.provider.faults, { tokenResponse: undefined, refreshResponse: undefined }),
});

const outages: Record<string, Outage> = {
  'Redis refuses connections': redisOutage(() => world.proxy.refuse()),
  'Redis is frozen': { fail: () => world.redis.pause(), heal: () => world.redis.resume() },
  'Redis takes 2 s to answer': redisOutage(() => Object.assign(world.proxy.faults, { delayMs: 2000 })),
  'Redis is a replica after a failover': redisOutage(() =>
    Object.assign(world.proxy.faults, { answer: redisError("READONLY You can't write against a read only replica.") }),
  ),
  'the provider refuses connections': { fail: () => world.provider.down(), heal: () => world.provider.up() },
  'the provider never answers': providerOutage({ hang: true }),
  'the provider says 429': providerOutage({ status: 429 }),
  'the provider answers 503 with a page': providerOutage({
    status: 503,
    body: '<h1>Maintenance</h1>',
    headers: { 'content-type': 'text/html' },
  }),
  'the upstream refuses connections': {
    fail: () => undefined,
    heal: () => undefined,
    config: (data) => Object.assign(data.apis.orders, { upstream: 'http://127.0.0.1:1' }),
  },
  'the upstream never answers': {
    fail: () => Object.assign(world.upstream, { respond: () => undefined }),
    heal: () => world.upstream.respondWith({ body: { ok: true } }),
  },
};

async function start(config: Outage['config']): Promise<void> {
  world = await startOutageWorld((data) => {
    data.authorizationServer.timeout = '500ms';
    data.apis.orders.timeouts = { headers: '500ms' };
    config?.(data);
  });
  world.allowErrors();
}

it('the outage table has a row for every outage that is tested', () => {
  expect(table.map(({ down }) => down)).toEqual(Object.keys(outages));
});

describe('the outage table', () => {
  afterEach(() => world.stop());

  it.each(table)('$down', async ({ down, cells }) => {
    const { fail, heal, config } = outages[down] as Outage;
    await start(config);
    const [checking, calling, refreshing, leaving] = [
      await world.loggedIn('ann'),
      await world.loggedIn('ben'),
      await world.loggedIn('cai'),
      await world.loggedIn('dan'),
    ];
    const arriving = world.browser();
    const { callbackUrl } = await pendingLogin(arriving);
    await fail();
    const pages = await Promise.all([
      checking.fetch('/bff/session'),
      call(calling),
      forceRefresh(refreshing),
      deliver(arriving, callbackUrl),
      logOut(leaving),
      world.browser().fetch('/bff/session'),
    ]);
    expect(pages.map(({ status }) => status)).toEqual(cells);
    for (const page of pages.filter(({ status }) => status === 503)) {
      expect(Number(page.header('retry-after')), page.text).toBeGreaterThan(0);
      expect(page.setCookies.filter((cookie) => cookie.startsWith('cloakroom='))).toEqual([]);
    }
    await heal();
    // Whoever was not told that the session is over still has it.
    const kept = [checking, calling, refreshing, ...(pages[4]?.status === 503 ? [leaving] : [])];
    for (const browser of kept) await until(() => isLoggedIn(browser).catch(() => false), { message: 'the session' });
    if (pages[4]?.status === 200) expect(await isLoggedIn(leaving)).toBe(false);
  });
});
