import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { between, observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';
import { freePort, type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// Redis goes away under load and comes back. What it kept is still logged in; while nobody can know, nobody gets a 401.

const count = 40;
let folder: string;
let port: number;
let redis: RedisServer;
let fleet: Fleet;
/** It writes down every change before it answers. */
const start = () => startRedis({ port, args: ['--appendonly', 'yes', '--appendfsync', 'always', '--dir', folder] });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-appendonly-'));
  port = await freePort();
  redis = await start();
  fleet = await startFleet({ redis });
});
afterEach(async () => {
  await fleet.stop();
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});

const outages: Record<string, () => Promise<void>> = {
  'killed, and restarted from its file after 2 s': async () => {
    await redis.stop();
    await passes(2000);
    redis = await start();
  },
  'restarted at once, three times': async () => {
    for (let time = 0; time < 3; time++) {
      await redis.stop();
      redis = await start();
      await passes(300);
    }
  },
  'frozen for 4 s': async () => {
    redis.pause();
    await passes(4000);
    redis.resume();
  },
};

const passes = (ms: number) => {
  const end = performance.now() + ms;
  return until(() => performance.now() >= end, { timeoutMs: 2 * ms });
};

describe('Redis under load', () => {
  it.each(Object.entries(outages))('loses no session and logs nobody out when it is %s', async (name, outage) => {
    // Short tokens, so that refreshes run all the time.
    fleet.provider.settings.accessTokenSeconds = 2;
    const people: Person[] = [];
    for (let index = 0; index < count; index++) people.push(await fleet.login({ replica: index }));

    const answers: (Answer & { at: number; who: number })[] = [];
    const over = new AbortController();
    const load = people.map(async (person, who) => {
      for (let turn = who; !over.signal.aborted; turn++) {
        const answer = await fleet.call(person, turn);
        answers.push({ ...answer, at: performance.now(), who });
        await passes(100);
      }
    });
    await passes(1500);
    const before = [...answers];
    await outage();
    const backAt = performance.now();
    const lastFailureAt = () =>
      answers.reduce((last, { status, at }) => (status === 200 ? last : Math.max(last, at)), backAt);
    await until(() => performance.now() > lastFailureAt() + 3000, {
      timeoutMs: 10_000,
      message: 'calm after the outage',
    });
    over.abort();
    await Promise.all(load);

    const alive = await Promise.all(people.map((person, index) => fleet.session(person, index)));
    observe({
      scenario: `Redis is ${name}`,
      did: `${count} people call through 4 replicas with tokens of 2 s, before, meanwhile and after`,
      saw: {
        before: statuses(before),
        'neither 200 nor 503': answers.filter(({ status }) => status !== 200 && status !== 503).length,
        'sessions alive': alive.filter(({ authenticated }) => authenticated).length,
        'recovered after ms': Math.round(lastFailureAt() - backAt),
        reuse: fleet.provider.reuseDetected(),
      },
      expected: {
        before: { 200: before.length },
        'neither 200 nor 503': 0,
        'sessions alive': count,
        'recovered after ms': between(0, 5000),
        reuse: 0,
      },
    });
  });
});
