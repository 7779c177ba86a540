import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest';
import type { ScriptName } from '../../src/store/redis-scripts.ts';
import { observe, statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import { isScript } from '../support/redis-scripts.ts';

// T110: the network takes a command or its reply away, or Redis gets it twice.

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ replicas: 2 });
});
afterAll(() => fleet.stop());
beforeEach(() => fleet.provider.reset());

/** Sends what a replica sent to Redis once more, from another connection. */
async function sendAgain(command: Buffer): Promise<void> {
  const socket = connect(Number(new URL(fleet.redisUrl).port), '127.0.0.1');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('data', () => resolve());
    socket.write(command);
  });
  socket.destroy();
}

type Fault = (name: ScriptName) => Promise<void>;
const faults: Record<string, Fault> = {
  'is lost before Redis sees it': async (name) => {
    const { redis } = fleet.replica(0);
    const { reached } = redis.hold(isScript(name), 'request');
    await reached;
    redis.cut();
  },
  'runs, and its reply is lost': async (name) => {
    const { redis } = fleet.replica(0);
    const { reached } = redis.hold(isScript(name), 'reply');
    await reached;
    redis.cut();
  },
  'reaches Redis twice': async (name) => {
    const { redis } = fleet.replica(0);
    const sent: Buffer[] = [];
    const isIt = isScript(name);
    const held = redis.hold((chunk) => isIt(chunk) && sent.push(chunk) > 0, 'reply');
    await held.reached;
    await sendAgain(sent[0] as Buffer);
    held.release();
  },
};

const cases = Object.keys(faults).flatMap((fault) => (['acquire', 'commit'] as const).map((name) => ({ name, fault })));

describe('T110 a command of a refresh that meets a broken connection', () => {
  it.each(cases)('T110 $name $fault: the outcome is the same as without', async ({ name, fault }) => {
    const person = await fleet.login();
    await fleet.refresh(person); // Redis knows the scripts from now on
    const done = (faults[fault] as Fault)(name);
    const refresh = fleet.refresh(person);
    await done;
    const first = await refresh;
    const answers = [first, await fleet.call(person, 1), await fleet.refresh(person, 1)];
    observe({
      scenario: `T110 ${name} ${fault}`,
      did: `a refresh on replica 0 whose ${name} ${fault}; then a call and a refresh on replica 1`,
      saw: {
        answers: statuses(answers),
        'token requests': fleet.refreshes() - 1,
        reuse: fleet.provider.reuseDetected(),
        leases: (await fleet.keys()).filter(({ key }) => key.endsWith(':l')).length,
      },
      expected: { answers: { 200: 3 }, 'token requests': 2, reuse: 0, leases: 0 },
    });
  });
});
