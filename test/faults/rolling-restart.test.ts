import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Balancer, startBalancer } from '../support/balancer.ts';
import { between, observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// Four replicas behind a balancer that knows nothing but /readyz are replaced one after the other while people work.

let fleet: Fleet;
let balancer: Balancer;
beforeAll(async () => {
  const publicPort = await freePort();
  fleet = await startFleet({
    publicPort,
    config: (data) => Object.assign(data, { shutdown: { delay: '800ms', grace: '14s' } }),
  });
  balancer = await startBalancer(fleet.replicas, publicPort);
});
afterAll(async () => {
  await balancer.stop();
  await fleet.stop();
});

it('a rolling restart fails no request', async () => {
  fleet.provider.settings.accessTokenSeconds = 2; // refreshes run through all of it
  const people: Person[] = [];
  for (let index = 0; index < 30; index++) people.push(await fleet.login({ replica: index }));

  const answers: Answer[] = [];
  const over = new AbortController();
  const load = people.map(async ({ cookie }, who) => {
    for (let turn = who; !over.signal.aborted; turn++) {
      const path = turn % 5 === 0 ? '/bff/session' : '/api/orders/1';
      answers.push(await fleet.client.send(balancer.port, path, { cookie }));
      const at = performance.now();
      await until(() => performance.now() > at + 20);
    }
  });
  const exits: (number | string)[] = [];
  const served: boolean[] = [];
  for (const [index, replica] of fleet.replicas.entries()) {
    exits.push(await replica.terminate());
    await replica.start();
    const before = balancer.served[index] ?? 0;
    served.push(
      await until(() => (balancer.served[index] ?? 0) > before, { message: `replica ${index} to serve again` }),
    );
  }
  over.abort();
  await Promise.all(load);
  observe({
    scenario: 'rolling restart',
    did: '4 replicas get SIGTERM one after the other and are started again, 30 people call through a balancer',
    saw: {
      answers: statuses(answers),
      'failed in the balancer': balancer.failed,
      'exit codes': exits.join(),
      'serve again': served.filter(Boolean).length,
      refreshes: fleet.refreshes(),
      reuse: fleet.provider.reuseDetected(),
    },
    expected: {
      answers: { 200: answers.length },
      'failed in the balancer': 0,
      'exit codes': '0,0,0,0',
      'serve again': 4,
      refreshes: between(people.length, 100_000),
      reuse: 0,
    },
  });
  expect(answers.length).toBeGreaterThan(500);
});
