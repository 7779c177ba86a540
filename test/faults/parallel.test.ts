import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import { between, observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Person } from '../support/fleet-client.ts';
import { until } from '../support/wait.ts';

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet();
});
afterAll(() => fleet.stop());
beforeEach(() => fleet.provider.reset());

describe('T111 many requests at the end of a token', () => {
  it.each([0.3, 3])(
    'T111 refreshes once for 400 requests on 4 replicas, the provider answering in %s s',
    async (seconds) => {
      fleet.provider.settings.accessTokenSeconds = 1;
      const person = await fleet.login();
      fleet.provider.settings.accessTokenSeconds = 300;
      fleet.provider.faults.refreshResponse = { delayMs: seconds * 1000 };
      await fleet.untilExpired(person);
      const answers = await Promise.all(Array.from({ length: 400 }, (_, index) => fleet.call(person, index)));
      const longest = Math.max(...answers.map(({ tookMs }) => tookMs));
      observe({
        scenario: `T111 400 requests at expiry, ${seconds} s`,
        did: '400 parallel API calls of one expired session over 4 replicas',
        saw: {
          answers: statuses(answers),
          'token requests': fleet.refreshes(),
          reuse: fleet.provider.reuseDetected(),
          'longest ms': Math.round(longest),
        },
        expected: {
          answers: { 200: 400 },
          'token requests': 1,
          reuse: 0,
          'longest ms': between(seconds * 1000, 12_000),
        },
      });
    },
  );

  it('T111 sends each of 2,000 sessions that expire in the same second to the provider once', {
    timeout: 240_000,
  }, async () => {
    const count = 2000;
    const logInMany = async (most: number) => {
      const people: Person[] = [];
      let started = 0;
      const logIn = async () => {
        while (started < most) people.push(await fleet.login({ replica: started++ }));
      };
      await Promise.all(Array.from({ length: 32 }, logIn));
      return people;
    };
    // No token may be over before the last login is: how long that takes is the machine's affair.
    const sampleAt = performance.now();
    await logInMany(100);
    const life = 5 + Math.ceil((1.5 * (performance.now() - sampleAt) * (count / 100)) / 1000);
    const startedAt = Date.now();
    const expiresAt = Math.floor(startedAt / 1000) + life;
    fleet.provider.faults.tokenResponse = {
      mutate: (json) => ({ ...json, expires_in: expiresAt - Math.floor(Date.now() / 1000) }),
    };
    const people = await logInMany(count);
    const loginMs = Date.now() - startedAt;
    delete fleet.provider.faults.tokenResponse;
    fleet.provider.faults.refreshResponse = { delayMs: 300 };
    const allExpired = Math.max(expiresAt, startedAt / 1000 + loginMs / 1000 + 1) + 1;
    await until(() => Date.now() / 1000 > allExpired, { timeoutMs: 200_000, message: 'all tokens to expire' });

    const before = performance.now();
    const answers = await Promise.all(people.map((person, index) => fleet.call(person, index)));
    const tookMs = performance.now() - before;
    observe({
      scenario: 'T111 2,000 sessions in one second',
      did: `2,000 logins (${(loginMs / 1000).toFixed(1)} s), all tokens expire in the same second, one call each over 4 replicas`,
      saw: {
        answers: statuses(answers),
        'token requests': fleet.refreshes(),
        'distinct refresh tokens': new Set(
          fleet.provider.tokenRequests('refresh_token').map(({ params }) => params.get('refresh_token')),
        ).size,
        'most at once': fleet.provider.mostAtOnce(),
        reuse: fleet.provider.reuseDetected(),
        ms: Math.round(tookMs),
      },
      expected: {
        answers: { 200: count },
        'token requests': count,
        'distinct refresh tokens': count,
        'most at once': between(1, 4 * 64),
        reuse: 0,
        ms: between(0, 20_000),
      },
    });
  });
});
