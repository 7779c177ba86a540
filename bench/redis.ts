import { Redis } from 'ioredis';
import { freePort } from '../test/support/redis.ts';
import { findProgram } from './machine.ts';
import { type Processes, type Running, untilListens } from './processes.ts';

/** A Redis of the bench's own. */
export interface BenchRedis {
  url: string;
  port: number;
  running: Running;
  /** Calls of each command until now, by name; commands within a script count too, as Redis counts them. */
  commands(): Promise<Record<string, number>>;
  /** Bytes that it spends on the keys of this pattern, and how many those are. */
  memoryOf(pattern: string): Promise<{ keys: number; bytes: number }>;
  close(): void;
}

/** Undefined where no Redis is installed. */
export async function startBenchRedis(processes: Processes, folder: string): Promise<BenchRedis | undefined> {
  const program = findProgram('redis-server', 'valkey-server');
  if (program === undefined) return undefined;
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder];
  const running = processes.start({ command: program, args, cores: 'rest' });
  await untilListens(port, running, 'redis');
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true });
  client.on('error', () => undefined); // the process ended with the bench
  await client.connect();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    running,
    async commands() {
      const lines = (await client.info('commandstats')).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm);
      const calls = [...lines].map(([, name = '', count]): [string, number] => [name, Number(count)]);
      return Object.fromEntries(calls.filter(([name]) => name !== 'info'));
    },
    async memoryOf(pattern) {
      const keys = await client.keys(pattern);
      const sizes = await Promise.all(keys.map((key) => client.memory('USAGE', key)));
      return { keys: keys.length, bytes: sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) };
    },
    close: () => client.disconnect(),
  };
}
