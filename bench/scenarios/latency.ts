import { measure } from '../measure.ts';
import { type Finding, type ScenarioContext, subjectNamed } from '../scenario.ts';
import { median, round, spread } from '../statistics.ts';

/** Share of the slower proxy's most that both get: busy, and no queue that only grows. */
const share = 0.6;

/** The 99th percentile of Cloakroom and of the bare proxy at the same requests a second, which both can serve. */
export async function measureLatency({ stage, options, measured, progress }: ScenarioContext): Promise<Finding> {
  const bare = subjectNamed(measured, 'bare');
  const name = subjectNamed(measured, 'warm') === undefined ? 'redis' : 'warm';
  const cloakroom = subjectNamed(measured, name);
  if (bare === undefined || cloakroom === undefined)
    return { status: 'absent', why: 'it needs the bare proxy and Cloakroom on Redis', details: {} };
  const most = [bare, cloakroom].map(({ rounds }) => median(rounds.map(({ perSecond }) => perSecond)));
  const rate = Math.floor(share * Math.min(...most));
  progress(`p99 at ${rate} requests a second`);
  const [bareP99, cloakroomP99, ratios]: [number[], number[], number[]] = [[], [], []];
  for (let index = 0; index < options.rounds; index++) {
    const first = await measure(stage, bare.subject, { seconds: options.seconds, rate });
    const second = await measure(stage, cloakroom.subject, { seconds: options.seconds, rate });
    const fault = first.fault ?? second.fault;
    if (fault !== undefined) return { status: 'invalid', why: `round ${index + 1}: ${fault}`, details: {} };
    if (Math.min(first.perSecond, second.perSecond) < 0.95 * rate) progress('  the load was not kept up in this round');
    bareP99.push(first.p99Ms);
    cloakroomP99.push(second.p99Ms);
    ratios.push(second.p99Ms / first.p99Ms);
  }
  return {
    status: 'measured',
    note: `${cloakroom.title}, at ${share * 100} % of the most that the slower one can do`,
    rounds: ratios.length,
    details: {
      ratio: spread(ratios),
      requestsPerSecond: rate,
      bareP99Ms: round(median(bareP99)),
      cloakroomP99Ms: round(median(cloakroomP99)),
    },
  };
}
