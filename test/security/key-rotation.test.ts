import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { restart } from '../support/restart.ts';
import { onReplica } from '../support/ticket.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// docs/upgrading.md: the order in which a server key is rotated over replicas, while people work on all of them.

let world: World;
let data: ConfigData;
beforeEach(async () => {
  world = await startWorld({
    replicas: 2,
    config: (config) => {
      data = config;
    },
  });
});
afterEach(() => world.stop());

const newKey = () => randomBytes(32).toString('base64url');

/** Logs in on each replica, refreshes there and calls the other one: how many calls were refused. */
async function refusals(people: Browser[]): Promise<number> {
  let count = 0;
  for (const replica of [0, 1]) {
    world.provider.nextLogin({ sub: 'alice' });
    const newcomer = world.browser(replica);
    await newcomer.login('/');
    people.push(newcomer);
  }
  for (const person of people) {
    const refreshed = await person.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    if (refreshed.status !== 200) count++;
    for (const replica of [0, 1]) {
      const call = await onReplica(world, replica, person).fetch('/api/orders/1');
      if (call.status !== 200) count++;
    }
  }
  return count;
}

/** A rolling deployment of each key list in turn; after each replica people work on both. */
async function roll(lists: string[][]): Promise<number> {
  const people: Browser[] = [];
  let count = await refusals(people);
  for (const keys of lists) {
    for (const replica of [0, 1]) {
      await restart(world, { ...data, session: { ...data.session, keys } }, replica);
      count += await refusals(people);
    }
  }
  return count;
}

it('add second, move first, remove: nobody is logged out', async () => {
  const [old, next] = [data.session.keys[0] as string, newKey()];
  expect(
    await roll([
      [old, next],
      [next, old],
    ]),
  ).toBe(0);
  // What was sealed before the move goes with the old key: that is why its removal waits for the absolute timeout.
  const people: Browser[] = [];
  expect(await refusals(people)).toBe(0);
  await restart(world, { ...data, session: { ...data.session, keys: [next] } }, 0);
  await restart(world, { ...data, session: { ...data.session, keys: [next] } }, 1);
  expect(await refusals(people)).toBe(0);
});

it('the new key put in front at once logs people out, between the replicas', async () => {
  const [old, next] = [data.session.keys[0] as string, newKey()];
  expect(await roll([[next, old]])).toBeGreaterThan(0);
});
