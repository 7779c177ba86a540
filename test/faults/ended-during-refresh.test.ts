import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import { observe } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';
import { isScript } from '../support/redis-scripts.ts';
import { until } from '../support/wait.ts';

// T118: a session is ended on one replica while another one refreshes it, paused at each step of its way.

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    config: ({ session }) => {
      session.redis.commandTimeout = '20s'; // a command that is held is not a Redis that hangs
    },
  });
});
afterAll(() => fleet.stop());
beforeEach(() => fleet.provider.reset());

interface Paused {
  reached: Promise<unknown>;
  release(): void;
}

/** The steps of a refresh on replica 0, in order (docs/sessions-and-tokens.md). */
const steps: Record<string, () => Paused> = {
  'before it takes the lease': () => fleet.replica(0).redis.hold(isScript('acquire'), 'request'),
  'when it has the lease': () => fleet.replica(0).redis.hold(isScript('acquire'), 'reply'),
  'while the provider thinks': () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    fleet.provider.faults.refreshResponse = [{ holdUntil: promise }];
    return { reached: until(() => fleet.refreshes() === 1), release: resolve };
  },
  'before it commits': () => fleet.replica(0).redis.hold(isScript('commit'), 'request'),
  'when it has committed': () => fleet.replica(0).redis.hold(isScript('commit'), 'reply'),
};

/** Every way to end a session, from replica 1. */
const ends: Record<string, (person: Person) => Promise<Answer>> = {
  'POST /bff/logout': (person) => fleet.logout(person, 1),
};

const cases = Object.keys(ends).flatMap((end) => Object.keys(steps).map((step) => ({ end, step })));

describe('T118 a session that ends during its refresh', () => {
  it.each(cases)('T118 stays dead after $end $step', async ({ end, step }) => {
    const person = await fleet.login({ replica: 1 });
    const paused = (steps[step] as () => Paused)();
    const refresh = fleet.refresh(person, 0);
    await paused.reached;
    const ended = await (ends[end] as (person: Person) => Promise<Answer>)(person);
    const deadAtOnce = (await fleet.session(person, 2)).authenticated;
    paused.release();
    await refresh;

    const [family] = fleet.provider.refreshFamilies();
    const newest = [...(family?.valid ?? [])].at(-1) ?? '';
    await until(() => fleet.provider.revoked.includes(newest), { message: 'the newest refresh token to be revoked' });
    const answers = await Promise.all(fleet.replicas.map((_, index) => fleet.call(person, index)));
    const keys = await fleet.keys();
    observe({
      scenario: `T118 ${end}`,
      did: `${end} on replica 1, ${step} on replica 0`,
      saw: {
        ended: ended.status,
        'lives elsewhere at once': deadAtOnce,
        'calls on 4 replicas': answers.map(({ status }) => status).join(),
        'session keys': keys.filter(({ key }) => /:[sl]$/.test(key)).length,
        'keys without end': keys.filter(({ pttl }) => pttl === -1).length,
        'newest refresh token revoked': fleet.provider.revoked.includes(newest),
        'family revoked': family?.revoked,
        reuse: fleet.provider.reuseDetected(),
      },
      expected: {
        ended: 200,
        'lives elsewhere at once': false,
        'calls on 4 replicas': '401,401,401,401',
        'session keys': 0,
        'keys without end': 0,
        'newest refresh token revoked': true,
        'family revoked': true,
        reuse: 0,
      },
    });
  });
});
