import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import { between, observe, oneOf } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Person } from '../support/fleet-client.ts';
import { isScript } from '../support/redis-scripts.ts';
import { until } from '../support/wait.ts';

// T112: whoever holds the refresh lease dies, sleeps longer than the lease, or stands still. Another replica takes over
// when the lease is over, never earlier: two live uses of one refresh token would cost the user the whole family.

const timeoutMs = 300;
/** As refreshLease in src/config/schema/authorization-server.ts computes it. */
const leaseMs = 3 * timeoutMs + 5000;

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    blockMs: leaseMs + 1500,
    config: ({ authorizationServer, session }) => {
      Object.assign(authorizationServer, { timeout: `${timeoutMs}ms`, refreshTimeout: `${timeoutMs}ms` });
      session.redis.commandTimeout = '20s'; // replies are held here, Redis is well
    },
  });
});
afterAll(() => fleet.stop());
beforeEach(() => fleet.provider.reset());

/** Token requests of one family, by their refresh tokens' family. */
function requestsOf(person: Person) {
  const family = familyOf(person);
  return fleet.provider.tokenRequests('refresh_token').filter(({ params }) => {
    const token = params.get('refresh_token') ?? '';
    return family.used.has(token) || family.valid.has(token);
  });
}

function familyOf({ sub }: Person) {
  const family = fleet.provider.refreshFamilies().find(({ login }) => login.sub === sub);
  if (family === undefined) throw new Error(`no family of ${sub}`);
  return family;
}

/** What must be true of a user who had to log in again: once, and it works. */
async function loginAgain(person: Person) {
  const before = requestsOf(person).length;
  const calls = [await fleet.call(person, 2), await fleet.call(person, 3)];
  const again = await fleet.login({ replica: 1 });
  const after = await fleet.call(again, 2);
  return {
    'calls before the login': calls.map(({ status }) => status).join(),
    'more token requests': requestsOf(person).length - before,
    'call after the login': after.status,
  };
}

const cleanLogin = { 'calls before the login': '401,401', 'more token requests': 0, 'call after the login': 200 };

/** Starts a refresh on replica 0 and waits until the provider has the request. Its answer never comes. */
async function callInFlight(isCommitted: boolean): Promise<Person> {
  const person = await fleet.login({ replica: 1 });
  fleet.provider.faults.refreshResponse = [{ hang: true, commit: isCommitted }];
  const before = fleet.refreshes();
  fleet.refresh(person, 0).catch(() => undefined); // its replica dies or sleeps
  await until(() => fleet.refreshes() > before, { message: 'the token request' });
  return person;
}

describe('T112 the holder of the lease', () => {
  it('T112 is killed during the call: the next one waits for the end of the lease', async () => {
    const lucky = await callInFlight(false);
    const unlucky = await callInFlight(true);
    await fleet.replica(0).kill();
    const [first, second] = await Promise.all([fleet.refresh(lucky, 1), fleet.refresh(unlucky, 1)]);
    const gaps = [lucky, unlucky].map((person) => {
      const [one, two] = requestsOf(person);
      return Math.round((two?.at ?? 0) - (one?.at ?? 0));
    });
    const saw = { 'took over after ms': Math.min(...gaps), requests: requestsOf(lucky).length };
    observe({
      scenario: 'T112 SIGKILL, not rotated',
      did: 'the holder is killed during the call, before the provider rotated; another replica refreshes',
      saw: { answer: first.status, ...saw, reuse: familyOf(lucky).reuseDetected },
      expected: { answer: 200, 'took over after ms': between(leaseMs - 500, leaseMs + 2000), requests: 2, reuse: 0 },
    });
    observe({
      scenario: 'T112 SIGKILL, rotated',
      did: 'the holder is killed during the call, the provider has rotated and is strict; then a new login',
      saw: { answer: second.status, requests: requestsOf(unlucky).length, ...(await loginAgain(unlucky)) },
      expected: { answer: 401, requests: 2, ...cleanLogin },
    });
    await fleet.replica(0).start();
  });

  it('T112 sleeps past its lease: it does not use the refresh token when it wakes up', async () => {
    // Asleep with the lease in its hands and nothing sent yet …
    const early = await fleet.login({ replica: 1 });
    const lease = fleet.replica(0).redis.hold(isScript('acquire'), 'reply');
    const earlyRefresh = fleet.refresh(early, 0);
    await lease.reached;
    fleet.replica(0).freeze();
    lease.release();
    const taken = await fleet.refresh(early, 1);
    fleet.replica(0).thaw();
    const woken = await earlyRefresh;
    const later = await fleet.refresh(early, 2);
    observe({
      scenario: 'T112 SIGSTOP before the call',
      did: `the holder sleeps ${leaseMs} ms and more before it sends; another replica refreshes; it wakes up`,
      saw: {
        'other replica': taken.status,
        woken: woken.status,
        'refresh later': later.status,
        'token requests': requestsOf(early).length,
        reuse: familyOf(early).reuseDetected,
      },
      expected: { 'other replica': 200, woken: 200, 'refresh later': 200, 'token requests': 2, reuse: 0 },
    });
  });

  it.each([0, 30])('T112 sleeps past its lease during the call, reuse grace %i s', async (grace) => {
    fleet.provider.settings.reuseGraceSeconds = grace;
    const person = await fleet.login({ replica: 1 });
    const held = Promise.withResolvers<void>();
    fleet.provider.faults.refreshResponse = [{ holdUntil: held.promise }];
    const refresh = fleet.refresh(person, 0);
    await until(() => fleet.refreshes() === 1);
    fleet.replica(0).freeze();
    held.resolve(); // the answer waits in the socket of the sleeper
    const taken = await fleet.refresh(person, 1);
    fleet.replica(0).thaw();
    const woken = await refresh;
    const sentByNow = requestsOf(person).length;
    const saw = { 'other replica': taken.status, woken: woken.status, 'token requests': sentByNow };
    if (grace === 0) {
      observe({
        scenario: 'T112 SIGSTOP in the call, strict',
        did: 'the holder sleeps past its lease during the call, another replica uses the token again; then a new login',
        saw: { ...saw, ...(await loginAgain(person)) },
        expected: { 'other replica': 401, woken: oneOf(401, 503), 'token requests': 2, ...cleanLogin },
      });
      return;
    }
    observe({
      scenario: 'T112 SIGSTOP in the call, grace',
      did: 'the same with a reuse grace of 30 s; then one more refresh',
      saw: { ...saw, 'refresh later': (await fleet.refresh(person, 2)).status, reuse: familyOf(person).reuseDetected },
      // The sleeper may not know what became of its call: then "try again", never "log in".
      expected: { 'other replica': 200, woken: oneOf(200, 503), 'token requests': 2, 'refresh later': 200, reuse: 0 },
    });
  });

  it('T112 stands still, or commits late: what is newest is kept', async () => {
    fleet.provider.settings.reuseGraceSeconds = 30;
    const blocked = await fleet.login({ replica: 1 });
    const late = await fleet.login({ replica: 1 });
    const held = Promise.withResolvers<void>();
    fleet.provider.faults.refreshResponse = [{ holdUntil: held.promise }];
    const blockedRefresh = fleet.refresh(blocked, 0);
    await until(() => fleet.refreshes() === 1);
    fleet.replica(0).block();
    held.resolve();
    const commit = fleet.replica(3).redis.hold(isScript('commit'), 'request');
    const lateRefresh = fleet.refresh(late, 3);
    await commit.reached;

    const taken = await Promise.all([fleet.refresh(blocked, 1), fleet.refresh(late, 2)]);
    commit.release();
    const [unblocked, committed] = await Promise.all([blockedRefresh, lateRefresh]);
    const look = async (person: Person) => ({
      'token requests': requestsOf(person).length,
      'refresh later': (await fleet.refresh(person, 2)).status,
      reuse: familyOf(person).reuseDetected,
    });
    const expected = { 'other replica': 200, 'token requests': 2, 'refresh later': 200, reuse: 0 };
    observe({
      scenario: 'T112 event loop blocked',
      did: `the holder's event loop stands still for ${leaseMs + 1500} ms during the call, reuse grace 30 s; one more refresh`,
      saw: { 'other replica': taken[0].status, unblocked: unblocked.status, ...(await look(blocked)) },
      expected: { ...expected, unblocked: oneOf(200, 503) },
    });
    observe({
      scenario: 'T112 commit after the lease',
      did: 'the commit of the holder waits past its lease, another replica refreshes in the reuse grace; one more refresh',
      saw: { 'other replica': taken[1].status, committed: committed.status, ...(await look(late)) },
      expected: { ...expected, committed: 200 },
    });
  });
});
