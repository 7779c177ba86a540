import { join } from 'node:path';
import type { BenchOptions } from '../options.ts';
import { untilListens } from '../processes.ts';
import { profileFlags } from '../profile.ts';
import { anyCookie, buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Subject } from '../subject.ts';

/** What every ratio is taken to. */
export function startBareProxy(stage: Stage, options: BenchOptions): Promise<Subject> {
  return startNodeProxy(stage, options, { program: 'bare-proxy.ts', upstream: stage.upstream.url });
}

export function startPlainHttpProxy(stage: Stage, options: BenchOptions): Promise<Subject> {
  return startNodeProxy(stage, options, { program: 'plain-http-proxy.ts', upstream: stage.upstream.url });
}

export interface NodeProxyOptions {
  /** In `peers/`. */
  program: string;
  upstream: string;
}

export async function startNodeProxy(
  { processes, takePort }: Stage,
  options: BenchOptions,
  { program, upstream }: NodeProxyOptions,
): Promise<Subject> {
  const port = takePort();
  const running = processes.start({
    command: process.execPath,
    args: [
      ...profileFlags(options, program.replace('.ts', '')),
      join(import.meta.dirname, '../peers', program),
      String(port),
      upstream,
    ],
    cores: 'proxy',
  });
  await untilListens(port, running, program);
  return { port, running, requests: buildRequests(port, [anyCookie]) };
}
