import type { Finding, ScenarioContext } from '../scenario.ts';
import { round, spread } from '../statistics.ts';
import { noRedis, startCloakroom, startLoggedIn } from '../subjects/cloakroom.ts';

/** From `exec` to listening, and what Redis spends on a session with tokens of a real provider's size. */
export async function measureStart({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  const { redis } = stage;
  if (redis === undefined) return { status: 'absent', why: noRedis.absent, details: {} };
  progress('starts');
  const times: number[] = [];
  for (let index = 0; index < (options.quick ? 2 : 5); index++) {
    const { running, startMs } = await startCloakroom(stage, { name: 'start', mode: { store: 'redis' } });
    times.push(startMs);
    await running.stop();
  }
  const sessions = 5;
  const one = await startLoggedIn(stage, { ...options, sessions }, { name: 'session', mode: { store: 'redis' } });
  const records = await redis.memoryOf(`bench-${one.port}:{*}:s`);
  await one.running.stop();
  return {
    status: 'measured',
    details: { startMs: spread(times), bytesPerSession: round(records.bytes / records.keys) },
  };
}
