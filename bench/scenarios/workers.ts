import { knowsKey } from '../features.ts';
import { measure } from '../measure.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import { median, round, spread } from '../statistics.ts';
import { noRedis, startLoggedIn } from '../subjects/cloakroom.ts';

/** Two workers and one, both on all cores together with the load, in turn. */
export async function measureWorkers({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  if (!knowsKey('workers')) return { status: 'absent', why: 'not there yet: workers', details: {} };
  if (stage.redis === undefined) return { status: 'absent', why: noRedis.absent, details: {} };
  const start = (workers: number) =>
    startLoggedIn(stage, options, { name: `workers-${workers}`, mode: { store: 'redis', workers }, cores: 'all' });
  const [one, two] = [await start(1), await start(2)];
  stage.processes.share(true);
  try {
    progress('one worker and two, nothing pinned');
    for (const subject of [one, two]) await measure(stage, subject, { seconds: options.seconds + 1 });
    const [cpu, throughput]: [number[], number[]] = [[], []];
    for (let index = 0; index < options.rounds; index++) {
      const single = await measure(stage, one, options);
      const double = await measure(stage, two, options);
      const fault = single.fault ?? double.fault;
      if (fault !== undefined) return { status: 'invalid', why: `round ${index + 1}: ${fault}`, details: {} };
      cpu.push(double.cpuUs / single.cpuUs);
      throughput.push(double.perSecond / single.perSecond);
      progress(`  two workers: × ${round(median(cpu))} the time, × ${round(median(throughput))} the requests`);
    }
    return {
      status: 'measured',
      note: 'two workers ÷ one, on all cores together with load, upstream and Redis',
      rounds: cpu.length,
      details: { ratio: spread(cpu), throughput: spread(throughput) },
    };
  } finally {
    stage.processes.share(false);
    await Promise.all([one.running.stop(), two.running.stop()]);
  }
}
