import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { rawRequest } from './raw-client.ts';
import { freePort } from './redis.ts';
import { until } from './wait.ts';
import type { ConfigData } from './world.ts';

/** Cloakroom in a process of its own, as `cloakroom start` runs it, to see what it costs. */
export interface CloakroomProcess {
  port: number;
  /** Everything it wrote. */
  output(): string;
  /** Bytes of memory it holds now. */
  memory(): Promise<number>;
  /** Calls the function and returns the most memory that was held meanwhile. */
  mostMemory(during: () => Promise<unknown>): Promise<number>;
  stop(): Promise<void>;
}

/**
 * Starts it with these APIs, and with these flags for Node; `within`: a command that runs it. No provider is needed as
 * long as nobody logs in.
 */
export async function startCloakroomProcess(
  apis: ConfigData,
  flags: string[] = [],
  within: string[] = [],
): Promise<CloakroomProcess> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-process-'));
  const port = await freePort();
  const file = join(folder, 'cloakroom.yaml');
  const data = {
    publicUrl: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    ops: { port: 0 },
    authorizationServer: {
      issuer: 'http://127.0.0.1:9',
      clientId: 'shop',
      clientSecret: randomBytes(32).toString('hex'),
    },
    session: { keys: [randomBytes(32).toString('base64url')] },
    apis,
  };
  await writeFile(file, stringify(data));
  const [command = '', ...args] = [...within, process.execPath, ...flags];
  const child = spawn(command, [...args, 'scripts/cloakroom.cjs', 'start', '--config', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);

  const memory = async () => {
    const pages = (await readFile(`/proc/${child.pid}/statm`, 'utf8')).split(' ')[1];
    return Number(pages) * 4096;
  };
  const hello = `GET / HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`;
  await until(
    async () => {
      if (child.exitCode !== null) throw new Error(`cloakroom ended with ${child.exitCode}:\n${output}`);
      return (await rawRequest(port, hello).catch(() => undefined))?.status === 404;
    },
    { timeoutMs: 15_000, message: 'cloakroom to listen' },
  );
  return {
    port,
    output: () => output,
    memory,
    async mostMemory(during) {
      let most = await memory();
      let isOver = false;
      const done = during().finally(() => {
        isOver = true;
      });
      await until(
        async () => {
          most = Math.max(most, await memory());
          return isOver;
        },
        { timeoutMs: 60_000 },
      );
      await done;
      return most;
    },
    async stop() {
      process.off('exit', killAtExit);
      child.kill('SIGKILL');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
