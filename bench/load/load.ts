import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../machine.ts';
import type { Processes } from '../processes.ts';

export interface LoadOptions {
  processes: Processes;
  folder: string;
  port: number;
  /** Complete requests, taken in turn. */
  requests: string[];
  connections: number;
  seconds: number;
  /** Requests a second, whether or not the proxy keeps up; as many as it can answer when absent. */
  rate?: number;
}

export interface LoadResult {
  /** Answers that arrived. */
  requests: number;
  seconds: number;
  p50Ms: number;
  p99Ms: number;
  /** Answers with another status than 200 (wrk: 400 and up; the upstream's own count shows the rest). */
  failed: number;
  /** Connections that failed, and requests without an answer. */
  broken: number;
}

/**
 * Loads a proxy from a process of its own, which is not part of what is measured: wrk where it is installed, else, and
 * for a fixed rate, which wrk can't keep, the client of `client.ts`.
 */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const wrk = options.rate === undefined ? findProgram('wrk') : undefined;
  const { command, args } = wrk === undefined ? clientCommand(options) : wrkCommand(wrk, options);
  const running = options.processes.start({ command, args, cores: 'rest' });
  const timer = setTimeout(() => void running.stop(), (options.seconds + 10) * 1000);
  await running.ended;
  clearTimeout(timer);
  const [, json] = /^RESULT (\{.*\})$/m.exec(running.output()) ?? [];
  if (json === undefined) throw new Error(`the load ended without a result:\n${running.output()}`);
  return JSON.parse(json) as LoadResult;
}

function wrkCommand(wrk: string, { folder, port, requests, connections, seconds }: LoadOptions) {
  const file = join(folder, `requests-${randomBytes(4).toString('hex')}.lua`);
  writeFileSync(file, `return {\n${requests.map((request) => JSON.stringify(request)).join(',\n')}\n}\n`);
  const script = join(import.meta.dirname, 'wrk.lua');
  const counts = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s'];
  return { command: wrk, args: [...counts, '-s', script, `http://127.0.0.1:${port}`, '--', file] };
}

function clientCommand({ folder, port, requests, connections, seconds, rate }: LoadOptions) {
  const file = join(folder, `requests-${randomBytes(4).toString('hex')}.json`);
  writeFileSync(file, JSON.stringify({ port, requests, connections, seconds, rate }));
  return { command: process.execPath, args: [join(import.meta.dirname, 'client.ts'), file] };
}
