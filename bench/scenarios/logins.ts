import { setTimeout as pause } from 'node:timers/promises';
import { readUsage } from '../accounting.ts';
import { beginLogin, logIn } from '../logins.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import type { Stage } from '../stage.ts';
import { round } from '../statistics.ts';
import { loginUrl, noRedis, startCloakroom } from '../subjects/cloakroom.ts';

/** At the same time. The provider is in the bench's own process, and slower than Cloakroom: it sets the pace. */
const parallel = 4;

/** What a login costs Cloakroom and Redis, and what one that is only begun costs. */
export async function measureLogins({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  if (stage.redis === undefined) return { status: 'absent', why: noRedis.absent, details: {} };
  const { port, running } = await startCloakroom(stage, { name: 'login', mode: { store: 'redis' } });
  const url = loginUrl(port);
  for (let index = 0; index < 20; index++) await logIn(url);
  progress('logins');
  const startCommands = await commandsDuring(stage, 20, () => beginLogin(url));
  const seconds = options.quick ? 2 : 5;
  const endsAt = performance.now() + seconds * 1000;
  const before = { cpuMs: readUsage(running.pid).cpuMs, commands: await totalCommands(stage) };
  let count = 0;
  const one = async () => {
    for (; performance.now() < endsAt; count++) await logIn(url);
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: parallel }, one));
  const tookSeconds = (performance.now() - startedAt) / 1000;
  const cpuMs = readUsage(running.pid).cpuMs - before.cpuMs;
  const commands = (await totalCommands(stage)) - before.commands;
  await running.stop();
  return {
    status: 'measured',
    note: 'the rate is that of the provider in the bench’s process',
    details: {
      loginsPerSecond: round(count / tookSeconds),
      cpuMsPerLogin: round(cpuMs / count),
      redisCommandsPerLogin: round(commands / count),
      redisCommandsPerStart: round(startCommands),
    },
  };
}

/** Redis commands for each of so many calls of the function. */
async function commandsDuring(stage: Stage, times: number, call: () => Promise<void>): Promise<number> {
  const counts: number[] = [];
  // Every running Cloakroom asks this Redis now and then how it is: the least of some tries has none of that in it.
  for (let attempt = 0; attempt < 3; attempt++) {
    await pause(50); // what the logins before set off is over
    const before = await totalCommands(stage);
    for (let index = 0; index < times; index++) await call();
    counts.push((await totalCommands(stage)) - before);
  }
  return Math.min(...counts) / times;
}

async function totalCommands({ redis }: Stage): Promise<number> {
  return (await redis?.counters())?.commands ?? 0;
}
