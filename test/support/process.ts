import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { until } from './wait.ts';

const root = resolve(import.meta.dirname, '../..');

/** A real process of ours: what it wrote, and how it ended. */
export interface Started {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Exit code, or the signal that killed it. */
  ended: Promise<number | string>;
  /** SIGTERM, as an orchestrator sends it. */
  terminate(): void;
  kill(): Promise<void>;
}

/** Starts a program in the project's folder, or in that of another release. */
export function startProcess(
  command: string,
  args: string[],
  env: Record<string, string> = {},
  folder: string = root,
): Started {
  const child = spawn(command, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a group of its own, so that `kill` ends npm's children too
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    terminate: () => void child.kill('SIGTERM'),
    async kill() {
      try {
        process.kill(-(child.pid as number), 'SIGKILL');
      } catch {
        // ended already
      }
      await ended;
    },
  };
}

/** `cloakroom …` as the operator types it. */
export function startCloakroom(...args: string[]): Started {
  return startProcess(process.execPath, ['scripts/cloakroom.cjs', ...args]);
}

/** A configuration file in a folder of its own. */
export async function writeConfig(data: unknown): Promise<{ file: string; folder: string; remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-config-'));
  const file = join(folder, `config-${randomBytes(4).toString('hex')}.yaml`);
  await writeFile(file, typeof data === 'string' ? data : stringify(data));
  return { file, folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Waits until a URL answers with this status. */
export async function untilAnswers(url: string, status: number, started?: Started, timeoutMs = 15_000): Promise<void> {
  await until(
    async () => {
      if (started !== undefined && started.child.exitCode !== null)
        throw new Error(`ended with ${started.child.exitCode}:\n${started.stdout()}${started.stderr()}`);
      return (await statusOf(url)) === status;
    },
    { timeoutMs, message: `${status} from ${url}` },
  );
}

/** 0 when nobody answers. */
export async function statusOf(url: string): Promise<number> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2000), headers: { connection: 'close' } });
    await response.body?.cancel();
    return response.status;
  } catch {
    return 0;
  }
}
