import { mkdirSync } from 'node:fs';
import { describeMachine, loadWarning } from './machine.ts';
import { type BenchOptions, parseOptions, usage } from './options.ts';
import { describeProfiles } from './profile.ts';
import { buildTable } from './report.ts';
import { type Measured, ratiosOf, runRounds, startSubjects, toRow } from './rounds.ts';
import type { Ratios, Row } from './row.ts';
import { openStage, type Stage } from './stage.ts';
import { subjectKinds } from './subjects.ts';

// `npm run bench`. The table or the JSON goes to standard output, everything else to standard error.

const parsed = parseOptions(
  process.argv.slice(2),
  subjectKinds.map(({ name }) => name),
);
if (!parsed.ok) {
  console.error(`bench: ${parsed.fault}\n\n${usage}`);
  process.exitCode = 2;
} else if (parsed.options.help) {
  console.log(usage);
} else {
  await run(parsed.options);
}

async function run(options: BenchOptions): Promise<void> {
  const startedAt = Date.now();
  const progress = (line: string) => console.error(`[${Math.round((Date.now() - startedAt) / 1000)} s] ${line}`);
  // `exit` handlers of the stage end every process and remove its folder.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  const deadline = setTimeout(() => {
    console.error(`bench: not done after ${options.deadlineMs / 1000} s`);
    process.exit(1);
  }, options.deadlineMs);
  if (options.profile !== undefined) mkdirSync(options.profile, { recursive: true });
  progress(describeMachine());
  const warning = loadWarning();
  if (warning !== undefined) progress(`warning: ${warning}`);

  const stage = await openStage();
  progress(describeStage(stage));
  const roundsOptions = { ...options, progress, untilMs: startedAt + options.deadlineMs * 0.7 };
  const measured = await startSubjects(stage, roundsOptions);
  await runRounds(stage, measured, roundsOptions);
  await stage.close();
  clearTimeout(deadline);

  const { ratios, rows } = summarize(measured);
  if (options.json) console.log(JSON.stringify({ ratios, rows }));
  else console.log(`\n${buildTable(ratios, rows)}`);
  if (options.profile !== undefined) for (const line of describeProfiles(options.profile)) console.error(line);
}

function describeStage({ cores, upstream, redis, folder }: Stage): string {
  const pinned =
    cores === undefined
      ? 'nothing is pinned: one core, or no taskset'
      : `the proxy has core ${cores.proxy}, load, upstream and Redis have ${cores.rest}`;
  const behind = upstream.kind === 'nginx' ? 'nginx' : 'a Node socket server (slower: apt-get install nginx-light)';
  return `${pinned}; upstream: ${behind}; Redis: ${redis === undefined ? 'none' : 'its own'}; files and logs in ${folder}`;
}

function summarize(measured: Measured[]): { ratios: Ratios; rows: Row[] } {
  const named = (name: string) => measured.find(({ kind }) => kind.name === name);
  const bare = named('bare');
  return {
    ratios: {
      warm: null,
      perCall: ratiosOf(named('redis'), bare)?.median ?? null,
      modAuthOpenidc: null,
      p99: null,
      workers: null,
    },
    rows: measured.map((one) => toRow(one, bare)),
  };
}
