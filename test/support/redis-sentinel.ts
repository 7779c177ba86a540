import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { findRedisProgram, freePort, type RedisServer, startRedis } from './redis.ts';
import { until } from './wait.ts';

export interface RedisSentinel {
  name: string;
  /** Addresses for the configuration. The first is of a Sentinel that is not there: the client has to ask the next. */
  nodes: string[];
  primary: RedisServer;
  replica: RedisServer;
  /** The replica gets its data through this; a black hole here is replication that lags. */
  replication: FaultProxy;
  /** Resolves once the replica has everything that was written until now. */
  replicated(): Promise<void>;
  /** Resolves once the replica is the primary and the Sentinel says so. */
  failedOver(): Promise<void>;
  stop(): Promise<void>;
}

const name = 'sessions';

/** A primary, a replica, and a Sentinel that fails over half a second after the primary fell silent. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  const program = findRedisProgram();
  if (program === undefined) throw new Error('no redis-server or valkey-server in the PATH');
  const primary = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] });
  const replication = await startFaultProxy(primary.port);
  const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(replication.port)] });
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-sentinel-'));
  const file = join(folder, 'sentinel.conf');
  const settings = [
    `port ${port}`,
    'bind 127.0.0.1',
    `sentinel monitor ${name} 127.0.0.1 ${primary.port} 1`,
    `sentinel down-after-milliseconds ${name} 500`,
    // So long that the Sentinel does not mend the replica's detour through the proxy.
    `sentinel failover-timeout ${name} 60000`,
  ];
  await writeFile(file, `${settings.join('\n')}\n`);
  const child = spawn(program, [file, '--sentinel'], { cwd: folder, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);

  const [sentinel, atPrimary, atReplica] = [port, primary.port, replica.port].map((one) =>
    new Redis({ port: one, host: '127.0.0.1', retryStrategy: () => 100, maxRetriesPerRequest: null }).on(
      'error',
      () => undefined,
    ),
  ) as [Redis, Redis, Redis];
  const offset = async (redis: Redis, key: string) =>
    Number(new RegExp(`^${key}:(\\d+)`, 'm').exec(await redis.info('replication'))?.[1]);
  const replicated = async () => {
    const wanted = await offset(atPrimary, 'master_repl_offset');
    await until(async () => (await offset(atReplica, 'slave_repl_offset')) >= wanted, { message: 'the replica' });
  };
  await until(async () => /master_link_status:up/.test(await atReplica.info('replication')), {
    timeoutMs: 15_000,
    message: 'the replica to be in step',
  });
  await until(async () => ((await sentinel.call('SENTINEL', 'REPLICAS', name)) as unknown[]).length === 1, {
    timeoutMs: 15_000,
    message: 'the Sentinel to know the replica',
  });

  return {
    name,
    nodes: [`redis://127.0.0.1:${await freePort()}`, `redis://127.0.0.1:${port}`],
    primary,
    replica,
    replication,
    replicated,
    async failedOver() {
      await until(
        async () => {
          const [, named] = (await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as [string, string];
          return Number(named) === replica.port && /^role:master/m.test(await atReplica.info('replication'));
        },
        { timeoutMs: 15_000, message: 'the failover' },
      );
    },
    async stop() {
      for (const redis of [sentinel, atPrimary, atReplica]) redis.disconnect();
      process.off('exit', killAtExit);
      child.kill('SIGKILL');
      await ended;
      await replication.stop();
      await Promise.all([primary.stop(), replica.stop()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
