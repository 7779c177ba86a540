import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import type { LogoutTokenOptions } from '../support/evil-provider.ts';
import { observe } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Person } from '../support/fleet-client.ts';
import { isScript } from '../support/redis-scripts.ts';
import { until } from '../support/wait.ts';

// T118: a session is ended on one replica while another one refreshes it, paused at each step of its way.

const adminKey = randomBytes(32).toString('base64url');

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    config: ({ session, ops }) => {
      ops.adminKey = adminKey;
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

/** Here no refresh runs whose result could be lost: the refresh token lies sealed in the record that is deleted. */
const untouched = ['before it takes the lease', 'when it has committed'];

interface End {
  /** Ends the session from replica 1. */
  by(person: Person): Promise<{ status: number }>;
  /** The browser brings the key to the tokens along; all others can't revoke what only a running refresh can see. */
  revokesStored: boolean;
}

const query = (parameters: Record<string, string | undefined>) =>
  new URLSearchParams({ iss: fleet.provider.issuer, ...(parameters as Record<string, string>) }).toString();
const sidOf = ({ sub }: Person) => fleet.provider.refreshFamilies().find(({ login }) => login.sub === sub)?.login.sid;
const backchannel = (options: LogoutTokenOptions) =>
  fleet.client.send(fleet.replica(1).port, '/bff/backchannel-logout', {
    method: 'POST',
    form: `logout_token=${fleet.provider.logoutToken(options)}`,
  });
const admin = (parameters: Record<string, string | undefined>) =>
  fetch(`http://127.0.0.1:${fleet.replica(1).opsPort}/admin/sessions?${query(parameters)}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${adminKey}` },
  });

const ends: Record<string, End> = {
  'POST /bff/logout': { by: (person) => fleet.logout(person, 1), revokesStored: true },
  'back-channel logout by sid': { by: () => backchannel({ sub: null }), revokesStored: false },
  'back-channel logout by sub': { by: () => backchannel({ sid: null }), revokesStored: false },
  'front-channel logout': {
    by: (person) =>
      fleet.client.send(fleet.replica(1).port, `/bff/frontchannel-logout?${query({ sid: sidOf(person) })}`),
    revokesStored: false,
  },
  'admin by sub': { by: ({ sub }) => admin({ sub }), revokesStored: false },
  'admin by sid': { by: (person) => admin({ sid: sidOf(person) }), revokesStored: false },
};

const cases = Object.keys(ends).flatMap((end) => Object.keys(steps).map((step) => ({ end, step })));

describe('T118 a session that ends during its refresh', () => {
  it.each(cases)('T118 stays dead after $end $step', async ({ end, step }) => {
    const person = await fleet.login({ replica: 1 });
    const paused = (steps[step] as () => Paused)();
    const refresh = fleet.refresh(person, 0);
    await paused.reached;
    const { by, revokesStored } = ends[end] as End;
    const ended = await by(person);
    const deadAtOnce = (await fleet.session(person, 2)).authenticated;
    paused.release();
    await refresh;

    const [family] = fleet.provider.refreshFamilies();
    const newest = [...(family?.valid ?? [])].at(-1) ?? '';
    const isRevoked = () => fleet.provider.revoked.includes(newest);
    const mustBeRevoked = revokesStored || !untouched.includes(step);
    if (mustBeRevoked) await until(isRevoked, { message: 'the newest refresh token to be revoked' });
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
        'newest refresh token revoked': isRevoked(),
        reuse: fleet.provider.reuseDetected(),
      },
      expected: {
        ended: 200,
        'lives elsewhere at once': false,
        'calls on 4 replicas': '401,401,401,401',
        'session keys': 0,
        'keys without end': 0,
        'newest refresh token revoked': mustBeRevoked,
        reuse: 0,
      },
    });
  });
});
