import { mkdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { installPackages, missingPackages } from './install.ts';
import { describeMachine, loadWarning } from './machine.ts';
import { type BenchOptions, parseOptions, usage } from './options.ts';
import { describeProfiles } from './profile.ts';
import { buildTable } from './report.ts';
import { type Measured, ratiosOf, runRounds, startSubjects, toRow } from './rounds.ts';
import type { Ratios, Row } from './row.ts';
import type { ScenarioContext } from './scenario.ts';
import { scenarios } from './scenarios.ts';
import { openStage, type Stage } from './stage.ts';
import { median, type Spread } from './statistics.ts';
import { subjectKinds } from './subjects.ts';

// `npm run bench`. The table or the JSON goes to standard output, everything else to standard error.

const names = [...subjectKinds, ...scenarios].map(({ name }) => name);
const parsed = parseOptions(process.argv.slice(2), names);
if (!parsed.ok) {
  console.error(`bench: ${parsed.fault}\n\n${usage}`);
  process.exitCode = 2;
} else if (parsed.options.help) {
  console.log(`${usage}\nRows: ${names.join(', ')}`);
} else {
  await run(parsed.options);
}

async function run(options: BenchOptions): Promise<void> {
  const startedAt = Date.now();
  const progress = (line: string) => console.error(`[${Math.round((Date.now() - startedAt) / 1000)} s] ${line}`);
  // `exit` handlers of the stage end every process and remove its folder.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      progress(`ended by ${signal}`);
      process.exit(signal === 'SIGINT' ? 130 : 143);
    });
  }
  if (options.profile !== undefined) mkdirSync(options.profile, { recursive: true });
  describeSurroundings(options, progress);

  const stage = await openStage(options.patient);
  progress(describeStage(stage));
  const results: Results = { measured: [], found: [] };
  const work = measureAll({ stage, options, progress, startedAt }, results);
  const isDone = await Promise.race([work.then(() => true), pause(options.deadlineMs, false, { ref: false })]);
  if (!isDone) progress(`not done after ${options.deadlineMs / 1000} s: here is what there is`);
  await stage.close();

  print(options, results);
  if (!isDone) process.exit(); // what was under way waits for processes that are gone
}

function describeSurroundings(options: BenchOptions, progress: (line: string) => void): void {
  progress(describeMachine());
  const warning = loadWarning();
  if (warning !== undefined) progress(`warning: ${warning}`);
  const missing = missingPackages();
  if (missing.length > 0 && options.install) installPackages(missing, progress);
  const left = missingPackages();
  if (left.length > 0) progress(`not installed: ${left.join(', ')}: apt-get install ${left.join(' ')}, or --install`);
}

/** Filled while it is measured, so that there is something to show when time is over. */
interface Results {
  measured: Measured[];
  found: Row[];
}

interface Work {
  stage: Stage;
  options: BenchOptions;
  progress: (line: string) => void;
  startedAt: number;
}

async function measureAll({ stage, options, progress, startedAt }: Work, results: Results): Promise<void> {
  const { measured, found } = results;
  const untilMs = startedAt + options.deadlineMs * 0.6;
  const roundsOptions = { ...options, names: rowsToMeasure(options), progress, untilMs };
  await startSubjects(stage, measured, roundsOptions);
  await runRounds(stage, measured, roundsOptions);
  const others = median(measured.flatMap(({ rounds }) => rounds.map((measurement) => measurement.others)));
  const advice = others > 0.05 ? ': stop what else runs here, or take the ratios as rough' : '';
  progress(`somebody else had ${(others * 100).toFixed(0)} % of the proxy’s core${advice}`);
  await runScenarios({ stage, options, measured, progress }, found, startedAt + options.deadlineMs * 0.85);
}

function print(options: BenchOptions, { measured, found }: Results): void {
  const bare = measured.find(({ kind }) => kind.name === 'bare');
  const { ratios, notes } = ratiosIn(measured, found);
  const rows = [...measured.map((one) => toRow(one, bare)), ...found].map((row) => {
    const note = notes[row.name];
    return note === undefined ? row : { ...row, note };
  });
  if (options.json) console.log(JSON.stringify({ ratios, rows }));
  else console.log(`\n${buildTable(ratios, rows)}`);
  if (options.profile !== undefined) for (const line of describeProfiles(options.profile)) console.error(line);
}

/** The proxies that are asked for, those that scenarios need, and the one that everything is compared to. */
function rowsToMeasure({ only = names }: BenchOptions): Set<string> {
  const needed = scenarios.filter(({ name }) => only.includes(name)).flatMap(({ needs }) => needs);
  return new Set(['bare', ...only, ...needed]);
}

/** One row for each scenario that is asked for, in `found` from the beginning. */
async function runScenarios(context: ScenarioContext, found: Row[], lastStartMs: number): Promise<void> {
  const { only = names } = context.options;
  for (const { name, title, run } of scenarios.filter((scenario) => only.includes(scenario.name))) {
    const at = found.push({ name, title, status: 'absent', why: 'no time was left', details: {} }) - 1;
    if (Date.now() > lastStartMs) continue;
    const finding = await run(context).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      context.progress(`  ${name}: ${why}`);
      return { status: 'invalid', why, details: {} } as const;
    });
    found[at] = { name, title, ...finding };
  }
}

function describeStage({ cores, upstream, redis, folder }: Stage): string {
  const pinned =
    cores === undefined
      ? 'nothing is pinned: one core, or no taskset'
      : `the proxy has core ${cores.proxy}; load, upstream, provider and Redis have ${cores.rest}`;
  const behind = upstream.kind === 'nginx' ? 'nginx' : 'a Node socket server (slower: apt-get install nginx-light)';
  return `${pinned}; upstream: ${behind}; Redis: ${redis === undefined ? 'none' : 'its own'}; files and logs in ${folder}`;
}

function ratiosIn(measured: Measured[], found: Row[]): { ratios: Ratios; notes: Record<string, string> } {
  const named = (name: string) => measured.find(({ kind }) => kind.name === name);
  const toBare = (name: string) => ratiosOf(named(name), named('bare'))?.median ?? null;
  const ofScenario = (name: string) => {
    const row = found.find((one) => one.name === name && one.status === 'measured');
    return (row?.details?.ratio as Spread | null | undefined)?.median ?? null;
  };
  const apache = named('mod-auth-openidc');
  const ours = ratiosOf(named('warm'), apache) === null ? named('redis') : named('warm');
  const toApache = ratiosOf(ours, apache);
  const note = toApache && `${ours?.kind.title}: × ${toApache.median} of this (${toApache.min}–${toApache.max})`;
  return {
    ratios: {
      warm: toBare('warm'),
      perCall: toBare('redis'),
      modAuthOpenidc: toApache?.median ?? null,
      p99: ofScenario('p99'),
      workers: ofScenario('workers'),
    },
    notes: note === null ? {} : { 'mod-auth-openidc': note },
  };
}
