import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';

/** Which processors the proxy under test has, and which everything else has. No pinning with a single one. */
export interface Cores {
  proxy: string;
  rest: string;
  all: string;
}

/** One core for the proxy under test, the others for load, upstream, Redis and provider; undefined where that can't be. */
export function divideCores(): Cores | undefined {
  if (findProgram('taskset') === undefined || availableParallelism() < 2) return undefined;
  const allowed = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const numbers = allowed.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  const proxy = numbers.at(-1);
  if (proxy === undefined || numbers.length < 2) return undefined;
  return { proxy: String(proxy), rest: numbers.slice(0, -1).join(','), all: numbers.join(',') };
}

/** Moves a running process, with all its threads, to these processors. */
export function moveTo(cores: string, pid: number): void {
  spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', cores, String(pid)], { stdio: 'ignore' });
}

/**
 * What to put before a command so that it runs as a batch (SCHED_BATCH): it works off what there is when it is its turn,
 * instead of being woken for every packet. Nothing where that can't be.
 */
export function batchCommand(): string[] {
  const words = ['chrt', '--batch', '0'];
  return spawnSync('chrt', ['--batch', '0', 'true'], { stdio: 'ignore' }).status === 0 ? words : [];
}

/** The first program of these names on the PATH. */
export function findProgram(...names: string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What was measured on, in one line. */
export function describeMachine(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${availableParallelism()} × ${first?.model ?? 'unknown processor'}, ${memory} GiB, Node ${process.version}`;
}

/** Somebody else's work on these processors makes every number worse, and not all of them equally. */
export function loadWarning(): string | undefined {
  const [minute = 0] = loadavg();
  const most = availableParallelism() / 4;
  return minute > most
    ? `the machine is busy (load average ${minute.toFixed(2)} before the start): numbers are rough, ratios less so`
    : undefined;
}
