import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { knowsKey } from '../features.ts';
import { logInTimes } from '../logins.ts';
import type { BenchOptions } from '../options.ts';
import { type Running, untilListens } from '../processes.ts';
import { profileFlags } from '../profile.ts';
import { buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Absent, Subject } from '../subject.ts';
import { buildConfig, type Mode } from './cloakroom-config.ts';

/** The near cache does not serve these; where it does not exist yet there is nothing to switch off. */
const withoutNearCache = knowsKey('session', 'nearCache') ? { nearCache: false } : {};

export function startInMemory(stage: Stage, options: BenchOptions): Promise<Subject | Absent> {
  return startLoggedIn(stage, options, { name: 'memory', mode: { store: 'memory', ...withoutNearCache } });
}

/** Every call asks Redis. */
export async function startPerCall(stage: Stage, options: BenchOptions): Promise<Subject | Absent> {
  if (stage.redis === undefined) return noRedis;
  const subject = await startLoggedIn(stage, options, { name: 'redis', mode: { store: 'redis', ...withoutNearCache } });
  return { ...subject, leastRedisCommands: 1 };
}

/** Calls are answered from the near cache; each session is still read now and then, when its entry is too old. */
export async function startWarm(stage: Stage, options: BenchOptions): Promise<Subject | Absent> {
  if (!knowsKey('session', 'nearCache')) return { absent: 'not there yet: session.nearCache' };
  if (stage.redis === undefined) return noRedis;
  const subject = await startLoggedIn(stage, options, { name: 'warm', mode: { store: 'redis', nearCache: true } });
  return { ...subject, mostRedisCommands: 0.2 };
}

export const noRedis: Absent = { absent: 'there is no Redis: apt-get install redis-server' };

export interface LoggedInOptions {
  name: string;
  mode: Mode;
  cores?: 'proxy' | 'all';
}

/** Cloakroom with `options.sessions` sessions that logged in at the provider. */
export async function startLoggedIn(
  stage: Stage,
  options: BenchOptions,
  { name, mode, cores }: LoggedInOptions,
): Promise<Subject> {
  const started = await startCloakroom(stage, {
    name,
    mode,
    flags: profileFlags(options, name),
    ...(cores === undefined ? {} : { cores }),
  });
  const cookies = await logInTimes(options.sessions, loginUrl(started.port));
  return { ...started, isPinned: cores !== 'all', requests: buildRequests(started.port, cookies) };
}

export const loginUrl = (port: number) => `http://localhost:${port}/bff/login?return_to=/`;

export interface Started {
  port: number;
  running: Running;
  logFile: string;
  /** From the start of the process to its first accepted connection, milliseconds. */
  startMs: number;
}

export interface StartCloakroomOptions {
  name: string;
  mode: Mode;
  /** For Node. */
  flags?: string[];
  cores?: 'proxy' | 'all';
}

const program = resolve(import.meta.dirname, '../../scripts/cloakroom.cjs');

/** A real `cloakroom start`. Its request log goes into a file. */
export async function startCloakroom(
  stage: Stage,
  { name, mode, flags = [], cores = 'proxy' }: StartCloakroomOptions,
): Promise<Started> {
  const port = stage.takePort();
  const file = join(stage.folder, `cloakroom-${name}-${port}.yaml`);
  const logFile = join(stage.folder, `cloakroom-${name}-${port}.log`);
  writeFileSync(file, stringify(buildConfig(stage, mode, port)));
  const args = [...flags, program, 'start', '--config', file];
  const startedAt = performance.now();
  const running = stage.processes.start({ command: process.execPath, args, cores, logFile });
  await untilListens(port, running, `Cloakroom (${name})`);
  return { port, running, logFile, startMs: performance.now() - startedAt };
}
