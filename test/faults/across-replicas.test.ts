import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import { between, observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';
import { statusOf } from '../support/process.ts';
import { until } from '../support/wait.ts';

// T113, T114, T116, T119 and T120 with replicas in processes of their own.

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ config: (data) => Object.assign(data, { shutdown: { grace: '20s' } }) });
});
afterAll(() => fleet.stop());
beforeEach(() => fleet.provider.reset());

/** From now on the provider thinks about the next refresh until it is told to answer. */
function holdRefresh(fault = {}): { arrived: Promise<unknown>; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  fleet.provider.faults.refreshResponse = [{ ...fault, holdUntil: promise }];
  const before = fleet.refreshes();
  return { arrived: until(() => fleet.refreshes() > before, { message: 'the token request' }), release: resolve };
}

/** Somebody whose access token has expired: the next call has to refresh it, calls after that do not. */
async function loggedInLongAgo(): Promise<Person> {
  fleet.provider.settings.accessTokenSeconds = 1;
  const person = await fleet.login();
  fleet.provider.settings.accessTokenSeconds = 300;
  await fleet.untilExpired(person);
  return person;
}

const facts = () => ({ 'token requests': fleet.refreshes(), reuse: fleet.provider.reuseDetected() });

describe('T114 the provider rotates and its answer is lost', () => {
  it('T114 recovers by one more try within the reuse grace', async () => {
    fleet.provider.settings.reuseGraceSeconds = 30;
    fleet.provider.faults.refreshResponse = [{ commitThenCut: true }];
    const person = await loggedInLongAgo();
    const answers = await Promise.all([0, 1, 2, 3].map((index) => fleet.call(person, index)));
    observe({
      scenario: 'T114 answer lost, grace 30 s',
      did: 'a call on each of 4 replicas with an expired token, the answer is cut off after the rotation',
      saw: { answers: statuses(answers), ...facts(), later: (await fleet.refresh(person, 1)).status },
      expected: { answers: { 200: 4 }, 'token requests': 2, reuse: 0, later: 200 },
    });
  });

  it('T114 costs one clean login without a grace, and no loop', async () => {
    fleet.provider.faults.refreshResponse = [{ commitThenCut: true }];
    const person = await loggedInLongAgo();
    const answers = await Promise.all([0, 1, 2, 3].map((index) => fleet.call(person, index)));
    const requests = fleet.refreshes();
    const later = await Promise.all([0, 1, 2, 3].map((index) => fleet.call(person, index)));
    const again = await fleet.login({ replica: 2 });
    observe({
      scenario: 'T114 answer lost, strict',
      did: 'the same without a grace; calls; a new login and a call',
      saw: {
        answers: statuses(answers),
        'token requests': requests,
        'calls later': statuses(later),
        'more token requests': fleet.refreshes() - requests,
        'after the login': (await fleet.call(again, 3)).status,
      },
      expected: {
        answers: { 401: 4 },
        'token requests': 2,
        'calls later': { 401: 4 },
        'more token requests': 0,
        'after the login': 200,
      },
    });
  });
});

describe('a refresh on one replica', () => {
  it('T113 is finished and stored when the browser that asked has left', async () => {
    const person = await loggedInLongAgo();
    const held = holdRefresh();
    const gone = new AbortController();
    const left = fleet.client
      .send(fleet.replica(0).port, '/api/orders/1', { cookie: person.cookie, signal: gone.signal })
      .catch(() => 'left');
    await held.arrived;
    gone.abort();
    const elsewhere = fleet.call(person, 1);
    held.release();
    observe({
      scenario: 'T113 browser leaves',
      did: 'the browser that caused a refresh on replica 0 disconnects; replica 1 gets a call too',
      saw: { left: await left, 'other replica': (await elsewhere).status, ...facts() },
      expected: { left: 'left', 'other replica': 200, 'token requests': 1, reuse: 0 },
    });
  });

  it('T116 that is refused looks again and uses what another replica got', async () => {
    const person = await fleet.login();
    const held = holdRefresh({ body: { error: 'invalid_grant' } });
    const refused = fleet.refresh(person, 0);
    await held.arrived;
    // A failover may lose the newest writes of Redis, a lease too (T107).
    const redis = new Redis(fleet.redisUrl);
    await redis.del((await redis.keys('*:l'))[0] ?? '');
    redis.disconnect();
    const other = await fleet.refresh(person, 1);
    held.release();
    const answer = await refused;
    observe({
      scenario: 'T116 invalid_grant, rotated elsewhere',
      did: 'replica 0 loses its lease, replica 1 refreshes, then replica 0 gets invalid_grant',
      saw: {
        'other replica': other.status,
        refused: answer.status,
        ...facts(),
        call: (await fleet.call(person, 2)).status,
      },
      expected: { 'other replica': 200, refused: 200, 'token requests': 2, reuse: 0, call: 200 },
    });
  });

  it('T120 is finished and stored before a process that got SIGTERM ends', async () => {
    const person = await loggedInLongAgo();
    const held = holdRefresh();
    const asked = fleet.call(person, 0);
    await held.arrived;
    const waiters = [1, 2, 3].map((index) => fleet.call(person, index));
    const exit = fleet.replica(0).terminate();
    await until(async () => (await statusOf(`http://127.0.0.1:${fleet.replica(0).port}/`)) === 0);
    held.release();
    const answers = await Promise.all([asked, ...waiters]);
    observe({
      scenario: 'T120 SIGTERM during a refresh',
      did: 'replica 0 gets SIGTERM while it refreshes, calls on 3 other replicas wait for the result',
      saw: { answers: statuses(answers), 'exit code': await exit, ...facts() },
      expected: { answers: { 200: 4 }, 'exit code': 0, 'token requests': 1, reuse: 0 },
    });
    await fleet.replica(0).start();
  });
});

describe('T119 after an outage of the provider', () => {
  it('T119 all sessions are back soon, each with one token request', async () => {
    const count = 200;
    fleet.provider.settings.accessTokenSeconds = 3;
    const people: Person[] = [];
    await Promise.all(
      Array.from({ length: count }, async (_, index) => people.push(await fleet.login({ replica: index }))),
    );
    fleet.provider.settings.accessTokenSeconds = 300;
    await fleet.untilExpired(people.at(-1) as Person);
    await fleet.provider.down();
    const during: Answer[] = [];
    const downUntil = performance.now() + 2000;
    while (performance.now() < downUntil)
      during.push(...(await Promise.all(people.map((person, index) => fleet.call(person, index)))));
    fleet.provider.faults.refreshResponse = { delayMs: 100 };
    await fleet.provider.up();

    const upAt = performance.now();
    const after: Answer[] = [];
    let waiting = people.map((person, index) => ({ person, index }));
    await until(
      async () => {
        const answers = await Promise.all(waiting.map(({ person, index }) => fleet.call(person, index)));
        after.push(...answers);
        waiting = waiting.filter((_, index) => answers[index]?.status !== 200);
        return waiting.length === 0;
      },
      { timeoutMs: 40_000, message: 'all sessions to be back' },
    );
    observe({
      scenario: 'T119 herd after an outage',
      did: `${count} sessions with expired tokens call on and on while the provider refuses connections for 2 s, and after`,
      saw: {
        'during it': Object.keys(statuses(during)).join(),
        'logged out': after.filter(({ status }) => status === 401).length,
        'all back after ms': Math.round(performance.now() - upAt),
        'most at once': fleet.provider.mostAtOnce(),
        ...facts(),
      },
      expected: {
        'during it': '503',
        'logged out': 0,
        'all back after ms': between(0, 5000),
        'most at once': between(1, 256),
        'token requests': count,
        reuse: 0,
      },
    });
  });
});
