import { afterAll, beforeAll, it } from 'vitest';
import { between, observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Person } from '../support/fleet-client.ts';

// More refreshes than connections: whoever queues must not be cut off by the time limit of the call right after the
// provider got the refresh token. A second try would then be a reuse, and cost the whole family.

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    replicas: 1,
    config: ({ authorizationServer }) => {
      authorizationServer.timeout = '1500ms';
    },
  });
});
afterAll(() => fleet.stop());

it('T119 a queue before a slow provider sends no refresh token twice', async () => {
  const count = 400;
  fleet.provider.settings.accessTokenSeconds = 1;
  const people: Person[] = [];
  let left = count;
  const logIn = async () => {
    while (left-- > 0) people.push(await fleet.login());
  };
  await Promise.all(Array.from({ length: 16 }, logIn));
  fleet.provider.settings.accessTokenSeconds = 300;
  await fleet.untilExpired(people.at(-1) as Person);

  fleet.provider.faults.refreshResponse = { delayMs: 600 };
  const answers = await Promise.all(people.map((person) => fleet.call(person)));
  observe({
    scenario: 'T119 queue before a slow provider',
    did: `${count} expired sessions call one replica; the provider takes 0.6 s, a call may take 1.5 s`,
    saw: {
      answers: statuses(answers),
      'token requests': fleet.refreshes(),
      'most at once': fleet.provider.mostAtOnce(),
      reuse: fleet.provider.reuseDetected(),
    },
    expected: { answers: { 200: count }, 'token requests': count, 'most at once': between(1, 64), reuse: 0 },
  });
});
