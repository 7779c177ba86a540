import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Person } from '../support/fleet-client.ts';
import { startCloakroom, writeConfig } from '../support/process.ts';
import { until } from '../support/wait.ts';

// `workers: 2`: one supervisor, two processes on the same listeners.

let fleet: Fleet;
beforeEach(async () => {
  fleet = await startFleet({
    replicas: 1,
    config: (data) => Object.assign(data, { workers: 2, shutdown: { grace: '14s' } }),
  });
});
afterEach(() => fleet.stop({ allowErrors: true }));

/** Process ids of the workers. */
const workers = () => {
  const pid = fleet.replica(0).process.child.pid;
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
};
const metrics = async () => (await fetch(`http://127.0.0.1:${fleet.replica(0).opsPort}/metrics`)).text();
const callsIn = (text: string) =>
  [...text.matchAll(/^cloakroom_request_seconds_count\{.*api="orders".*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
/** Calls on many connections, so that both workers get some. */
const callAll = (person: Person, count: number) =>
  Promise.all(
    Array.from({ length: count }, () =>
      fleet.client
        .send(fleet.replica(0).port, '/api/orders/1', { cookie: person.cookie, signal: AbortSignal.timeout(5000) })
        .catch(() => ({ status: 0 })),
    ),
  );

describe('two workers', () => {
  it('share the work and the sessions, and one scrape counts all of it', async () => {
    const person = await fleet.login();
    const answers = await callAll(person, 200);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(200);
    expect(callsIn(await metrics())).toBe(200);
    expect(workers()).toHaveLength(2);
    const busy = workers().map((pid) => Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[13]));
    expect(Math.min(...busy), 'processor time of each').toBeGreaterThan(0);
  });

  it('are replaced when one dies, the other goes on and nobody is logged out', async () => {
    const person = await fleet.login();
    const [victim, other] = workers() as [number, number];
    process.kill(victim, 'SIGKILL');
    const statuses = new Set<number>();
    await until(
      async () => {
        for (const { status } of await callAll(person, 10)) statuses.add(status);
        return workers().length === 2 && !workers().includes(victim);
      },
      { timeoutMs: 15_000, message: 'another worker' },
    );
    expect(workers()).toContain(other);
    // 0: a connection that the dead one had.
    expect([...statuses].every((status) => status === 200 || status === 0)).toBe(true);
    await until(async () => (await callAll(person, 40)).every(({ status }) => status === 200), { timeoutMs: 10_000 });
  });

  it('end with their supervisor: requests in flight finish, and the exit code is 0', async () => {
    const person = await fleet.login();
    const gate = Promise.withResolvers<void>();
    const { respond } = fleet.upstream;
    fleet.upstream.respond = async (request, socket) => {
      await gate.promise;
      await respond(request, socket);
    };
    const inFlight = callAll(person, 20);
    await until(() => fleet.upstream.active === 20, { timeoutMs: 10_000 });
    const pids = workers();
    const ended = fleet.replica(0).terminate();
    await until(async () => fleet.replica(0).process.stdout().includes('"draining"'), { timeoutMs: 10_000 });
    gate.resolve();
    expect((await inFlight).map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(await ended, fleet.replica(0).process.stdout() + fleet.replica(0).process.stderr()).toBe(0);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow();
  });

  it('end when the supervisor is killed', async () => {
    const pids = workers();
    process.kill(fleet.replica(0).process.child.pid as number, 'SIGKILL');
    const isGone = (pid: number) => {
      try {
        process.kill(pid, 0);
        return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
      } catch {
        return true;
      }
    };
    await until(() => pids.every(isGone), { timeoutMs: 15_000 });
  });

  it('do not start on a port that is taken, and say so', async () => {
    const { port } = fleet.replica(0);
    const config = await writeConfig({
      publicUrl: `http://localhost:${port}`,
      listen: { host: '127.0.0.1', port },
      ops: { port: 0 },
      workers: 2,
      authorizationServer: { issuer: 'http://127.0.0.1:9', clientId: 'x', clientSecret: 'not-a-placeholder-9' },
      session: {
        redis: { url: fleet.redisUrl },
        keys: [Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url')],
      },
      apis: {},
    });
    const second = startCloakroom('start', '--config', config.file);
    expect(await second.ended).toBe(1);
    expect(second.stderr()).toContain("can't start");
    await config.remove();
  });
});
