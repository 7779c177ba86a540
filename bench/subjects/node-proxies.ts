import { join } from 'node:path';
import type { BenchOptions } from '../options.ts';
import { untilListens } from '../processes.ts';
import { profileFlags } from '../profile.ts';
import { anyCookie, buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Subject } from '../subjects.ts';

/** What every ratio is taken to. */
export function startBareProxy(stage: Stage, options: BenchOptions): Promise<Subject> {
  return startNodeProxy(stage, options, 'bare-proxy.ts');
}

export function startPlainHttpProxy(stage: Stage, options: BenchOptions): Promise<Subject> {
  return startNodeProxy(stage, options, 'plain-http-proxy.ts');
}

async function startNodeProxy(stage: Stage, options: BenchOptions, program: string): Promise<Subject> {
  const port = stage.takePort();
  const running = stage.processes.start({
    command: process.execPath,
    args: [
      ...profileFlags(options, program.replace('.ts', '')),
      join(import.meta.dirname, '../peers', program),
      String(port),
      stage.upstream.url,
    ],
    cores: 'proxy',
  });
  await untilListens(port, running, program);
  return { port, running, requests: buildRequests(port, [anyCookie]) };
}
