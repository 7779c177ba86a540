import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { until } from '../test/support/wait.ts';
import { processesOf } from './accounting.ts';
import { batchCommand, type Cores, moveTo } from './machine.ts';

export interface StartOptions {
  command: string;
  args: string[];
  /** `proxy` for what is measured. */
  cores: 'proxy' | 'rest' | 'all';
  env?: Record<string, string>;
  /** Standard output goes into this file, which is appended to; otherwise it is kept for `output()`. */
  logFile?: string;
}

export interface Running {
  /** Also the id of its process group. */
  pid: number;
  isRunning(): boolean;
  /** The end of what it wrote. */
  output(): string;
  /** SIGTERM, and SIGKILL after three seconds. */
  stop(): Promise<void>;
  ended: Promise<unknown>;
}

export interface Processes {
  start(options: StartOptions): Running;
  /** From now on load, upstream and Redis may use every core; or only their own again. */
  share(isShared: boolean): void;
  /** Asks all of them to end, so that each waits for its own children, and waits for that. */
  stopAll(): Promise<void>;
  /** Ends all of them at once, with their children. */
  killAll(): void;
}

/** Starts programs in process groups of their own, so that none of them, nor a child, outlives the bench. */
export function createProcesses(cores: Cores | undefined): Processes {
  const children = new Map<ChildProcess, StartOptions>();
  const started: Running[] = [];
  let rest: 'rest' | 'all' = 'rest';
  const coresOf = (where: StartOptions['cores'], known: Cores) => known[where === 'rest' ? rest : where];
  const pinned = (where: StartOptions['cores']) =>
    cores === undefined ? [] : ['taskset', '--cpu-list', coresOf(where, cores)];
  const batch = batchCommand(); // load, upstream and Redis, as on machines of their own
  return {
    start(options) {
      const [command = '', ...args] = [
        ...pinned(options.cores),
        ...(options.cores === 'rest' ? batch : []),
        options.command,
        ...options.args,
      ];
      const log = options.logFile === undefined ? 'pipe' : openSync(options.logFile, 'a');
      const child = spawn(command, args, {
        stdio: ['ignore', log, 'pipe'],
        detached: true,
        env: { ...process.env, ...options.env },
      });
      if (typeof log === 'number') closeSync(log);
      children.set(child, options);
      const ended = once(child, 'close')
        .catch(() => undefined)
        .then(() => children.delete(child));
      const running = watch(child, ended);
      started.push(running);
      return running;
    },
    share(isShared) {
      rest = isShared ? 'all' : 'rest';
      if (cores === undefined) return;
      for (const [{ pid: group }, options] of children)
        if (group !== undefined) for (const { pid } of processesOf(group)) moveTo(coresOf(options.cores, cores), pid);
    },
    async stopAll() {
      await Promise.all(started.filter((running) => running.isRunning()).map((running) => running.stop()));
    },
    killAll() {
      for (const child of children.keys()) killGroup(child, 'SIGKILL');
    },
  };
}

function watch(child: ChildProcess, ended: Promise<unknown>): Running {
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-8000);
    });
  return {
    pid: child.pid ?? 0,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    output: () => output,
    ended,
    async stop() {
      killGroup(child, 'SIGTERM');
      const timer = setTimeout(() => killGroup(child, 'SIGKILL'), 3000);
      await ended;
      clearTimeout(timer);
    },
  };
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // ended already
  }
}

/** Waits until somebody accepts connections there; says what the program wrote when it ended instead. */
export async function untilListens(port: number, running: Running, name: string): Promise<void> {
  await until(
    async () => {
      if (!running.isRunning()) throw new Error(`${name} ended:\n${running.output()}`);
      return accepts(port);
    },
    { timeoutMs: 15_000, message: `${name} on port ${port}` },
  );
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}
