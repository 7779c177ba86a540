import { Redis } from 'ioredis';
import { freePort } from '../test/support/redis.ts';
import { findProgram } from './machine.ts';
import { type Processes, type Running, untilListens } from './processes.ts';

/** A Redis of the bench's own. */
export interface BenchRedis {
  url: string;
  port: number;
  running: Running;
  counters(): Promise<RedisCounters>;
  /** Bytes that it spends on the keys of this pattern, and how many those are. */
  memoryOf(pattern: string): Promise<{ keys: number; bytes: number }>;
  close(): void;
}

/** Since it was started. */
export interface RedisCounters {
  /** As Redis counts: a script, and each command in it. */
  commands: number;
  /** How often it read from a connection. Fewer than requests when these share a round trip. */
  reads: number;
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
    async counters() {
      const calls = (await client.info('commandstats')).matchAll(/^cmdstat_(?!info:)[^:]+:calls=(\d+)/gm);
      const commands = [...calls].reduce((sum, [, count]) => sum + Number(count), 0);
      const reads = /^total_reads_processed:(\d+)/m.exec(await client.info('stats'))?.[1];
      return { commands, reads: Number(reads) };
    },
    async memoryOf(pattern) {
      const keys = await client.keys(pattern);
      const sizes = await Promise.all(keys.map((key) => client.memory('USAGE', key, 'SAMPLES', 0)));
      return { keys: keys.length, bytes: sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) };
    },
    close: () => client.disconnect(),
  };
}
