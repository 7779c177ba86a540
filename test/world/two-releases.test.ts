import { execFile } from 'node:child_process';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { statuses } from '../support/fault-table.ts';
import { type Fleet, startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';
import { until } from '../support/wait.ts';

// Replicas of release 0.1 and of this one share a Redis, as during an upgrade that takes its time, while people log in,
// call, refresh and log out on whichever replica answers (docs/upgrading.md). Nobody may be logged out.

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');
const release = '1ced1f0';
/** How long they work. */
const workMs = 120_000;

let folder: string;
let fleet: Fleet;
beforeAll(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'cloakroom-release-')), 'release');
  await run('git', ['worktree', 'add', '--detach', folder, release], { cwd: root });
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  fleet = await startFleet({
    replicas: 4,
    folderOf: (replica) => (replica % 2 === 0 ? folder : undefined),
    // One file for both: a name that differs between the releases where a port is in the public URL, and no key that 0.1
    // does not know.
    config: (data) => {
      data.cookie = { name: 'cloakroom' };
      delete data.authorizationServer.refreshTimeout;
    },
  });
});
afterAll(async () => {
  await fleet?.stop();
  await run('git', ['worktree', 'remove', '--force', folder], { cwd: root });
  await rm(resolve(folder, '..'), { recursive: true, force: true });
});

it('release 0.1 and this one, side by side: no call of anybody who is logged in is refused', async () => {
  fleet.provider.settings.accessTokenSeconds = 2; // refreshes run through all of it
  const answers: Answer[] = [];
  const afterLogout: Answer[] = [];
  const endAt = performance.now() + workMs;
  let logins = 0;
  const live = async (who: number) => {
    let person: Person | undefined;
    for (let turn = who; performance.now() < endAt; turn++) {
      // Each step on the other release than the one before.
      if (person === undefined) {
        person = await fleet.login({ replica: turn, sub: `person-${who}` });
        logins++;
      }
      if (turn % 97 === 96) {
        answers.push(await fleet.logout(person, turn));
        afterLogout.push(await fleet.call(person, turn + 1));
        person = undefined;
      } else if (turn % 11 === 10) answers.push(await fleet.refresh(person, turn));
      else answers.push(await fleet.call(person, turn));
      const at = performance.now();
      await until(() => performance.now() > at + 20);
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, who) => live(who)));

  expect(statuses(answers)).toEqual({ 200: answers.length });
  expect(statuses(afterLogout)).toEqual({ 401: afterLogout.length });
  expect(answers.length).toBeGreaterThan(2000);
  expect(logins).toBeGreaterThan(20);
  expect(fleet.refreshes()).toBeGreaterThan(200);
  expect(fleet.provider.reuseDetected()).toBe(0);
});
