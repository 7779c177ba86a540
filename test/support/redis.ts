import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { until } from './wait.ts';

export interface RedisOptions {
  /** More arguments, for instance `['--maxmemory', '8mb', '--maxmemory-policy', 'allkeys-lru']`. */
  args?: string[];
  /** A fixed port, to come back where a stopped server was. */
  port?: number;
}

export interface RedisServer {
  url: string;
  port: number;
  pid: number;
  /** Kills the server; data is lost. `startRedis({ port })` brings an empty one back at the same place. */
  stop(): Promise<void>;
  /** SIGSTOP: the server accepts connections and answers nothing. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
}

/** Starts a private Redis or Valkey of the PATH on a free loopback port and waits until it answers PING. */
export async function startRedis({ args = [], port: fixedPort }: RedisOptions = {}): Promise<RedisServer> {
  const program = findRedisProgram();
  if (program === undefined) {
    throw new Error(
      'no redis-server or valkey-server in the PATH: install Redis >= 6.2 or Valkey (apt install redis-server)',
    );
  }
  for (let attempt = 1; ; attempt++) {
    const port = fixedPort ?? (await freePort());
    try {
      return await launch(program, port, args);
    } catch (error) {
      // Another process may take the free port before the server binds it.
      if (fixedPort !== undefined || attempt === 3) throw error;
    }
  }
}

/** The server program of the PATH, if any: tests that need one can skip on `undefined`. */
export function findRedisProgram(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const candidates = ['redis-server', 'valkey-server'].flatMap((name) => folders.map((folder) => join(folder, name)));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A key prefix of its own for each test, so that parallel files share one database. */
export function uniqueKeyPrefix(): string {
  return `test-${randomBytes(6).toString('hex')}:`;
}

/** Test files that run at the same time take ports from shares of their own: some listen only much later. */
const [firstPort, portCount] = [20_000 + (Number(process.env.VITEST_POOL_ID ?? 0) % 8) * 1500, 1500];
const takenPorts = new Set<number>();

/**
 * A port that was free a moment ago. Not one of those that the system gives to outgoing connections (32768 and up): a
 * test with hundreds of connections would take it away before its server listens.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(firstPort, firstPort + portCount);
    if (takenPorts.size < portCount / 2 && takenPorts.has(port)) continue;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    takenPorts.add(port);
    return port;
  }
}

async function launch(program: string, port: number, args: string[]): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-redis-'));
  const fixed = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder];
  const child = spawn(program, [...fixed, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const stop = async () => {
    process.off('exit', killAtExit);
    await kill(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until(
      async () => {
        if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}:\n${output}`);
        return answersPing(port);
      },
      { timeoutMs: 10_000, message: `${program} on port ${port}` },
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pid: child.pid ?? 0,
    stop,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    const finish = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(1000, () => finish(false));
    socket.once('error', () => finish(false));
    socket.once('close', () => finish(false));
    socket.once('data', (reply) => finish(/^(\+PONG|-NOAUTH)/.test(reply.toString())));
  });
}
