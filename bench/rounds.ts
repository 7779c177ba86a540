import { type Measurement, measure } from './measure.ts';
import type { BenchOptions } from './options.ts';
import type { Row } from './row.ts';
import type { Stage } from './stage.ts';
import { type Spread, spread } from './statistics.ts';
import type { Absent, Subject, SubjectKind } from './subject.ts';
import { subjectKinds } from './subjects.ts';

/** A proxy with what was measured of it, one entry for each round. */
export interface Measured {
  kind: SubjectKind;
  subject: Subject | Absent;
  rounds: Measurement[];
}

export interface RoundsOptions extends BenchOptions {
  /** The rows to measure. */
  names: Set<string>;
  /** Takes one line for each step. */
  progress: (line: string) => void;
  /** No round begins that would not be over by then; epoch milliseconds. */
  untilMs: number;
}

/** Starts the proxies that are asked for and adds them to the list: all of them run at the same time, and one at a time is loaded. */
export async function startSubjects(stage: Stage, measured: Measured[], options: RoundsOptions): Promise<void> {
  for (const kind of subjectKinds.filter(({ name }) => options.names.has(name))) {
    options.progress(`starting ${kind.title}`);
    const subject = await kind.start(stage, options).catch((error: unknown): Absent => {
      return { absent: `did not start: ${error instanceof Error ? error.message : String(error)}` };
    });
    if ('absent' in subject) options.progress(`  ${subject.absent}`);
    measured.push({ kind, subject, rounds: [] });
  }
}

/** Rounds in which each proxy is loaded once, so that a machine that gets slower does so for all of them. */
export async function runRounds(stage: Stage, measured: Measured[], options: RoundsOptions): Promise<void> {
  const running = measured.filter((one): one is Measured & { subject: Subject } => !('absent' in one.subject));
  options.progress('warming up');
  // V8 has compiled Cloakroom’s hot path after some 15,000 requests; before that a call costs twice as much.
  const seconds = options.quick ? 2 : 5;
  for (const { kind, subject } of running) await measure(stage, subject, { seconds: kind.isNode ? seconds : 1 });
  for (let index = 0; index < options.rounds; index++) {
    const startedAt = Date.now();
    options.progress(`round ${index + 1} of ${options.rounds}`);
    // There and back, so that nobody is always the one after the heaviest.
    for (const { kind, subject, rounds } of index % 2 === 0 ? running : running.toReversed()) {
      const measurement = await measure(stage, subject, options);
      rounds.push(measurement);
      const { cpuUs, perSecond, others, fault } = measurement;
      const disturbed = others > 0.1 ? `, somebody else had ${(others * 100).toFixed(0)} % of its core` : '';
      const what = fault ?? `${cpuUs.toFixed(1)} µs a request, ${perSecond.toFixed(0)} a second${disturbed}`;
      options.progress(`  ${kind.name}: ${what}`);
    }
    const tookMs = Date.now() - startedAt;
    if (Date.now() + tookMs > options.untilMs) {
      options.progress('no time for another round');
      return;
    }
  }
}

/** The ratios of one proxy's cost to another's, each taken within one round. */
export function ratiosOf(measured: Measured | undefined, base: Measured | undefined): Spread | null {
  if (measured === undefined || base === undefined || faultIn(measured) !== undefined || faultIn(base) !== undefined)
    return null;
  return spread(
    measured.rounds.flatMap(({ cpuUs }, index) => {
      const reference = base.rounds[index];
      return reference === undefined ? [] : [cpuUs / reference.cpuUs];
    }),
  );
}

export function toRow(one: Measured, bare: Measured | undefined): Row {
  const { kind, subject, rounds } = one;
  const row = { name: kind.name, title: kind.title };
  if ('absent' in subject) return { ...row, status: 'absent', why: subject.absent };
  const fault = faultIn(one);
  if (fault !== undefined) return { ...row, status: 'invalid', why: fault };
  const of = (key: keyof Omit<Measurement, 'fault'>) => spread(rounds.map((measurement) => measurement[key]));
  return {
    ...row,
    status: 'measured',
    rounds: rounds.length,
    cpuUs: of('cpuUs'),
    ratioToBare: ratiosOf(one, bare),
    requestsPerSecond: of('perSecond'),
    p50Ms: of('p50Ms'),
    p99Ms: of('p99Ms'),
    rssMiB: of('rssMiB'),
    redisCommands: of('redisCommands'),
    redisReads: of('redisReads'),
    redisCpuUs: of('redisCpuUs'),
    busy: of('busy'),
    others: of('others'),
  };
}

function faultIn({ rounds }: Measured): string | undefined {
  if (rounds.length === 0) return 'no round was measured';
  const index = rounds.findIndex(({ fault }) => fault !== undefined);
  return index === -1 ? undefined : `round ${index + 1}: ${rounds[index]?.fault}`;
}
