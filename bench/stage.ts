import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../test/support/redis.ts';
import { type Cores, divideCores, moveTo } from './machine.ts';
import { createProcesses, type Processes } from './processes.ts';
import { type BenchClient, type BenchProvider, openProvider } from './provider.ts';
import { type BenchRedis, startBenchRedis } from './redis.ts';
import { startUpstream, type Upstream } from './upstream.ts';

/** Everything around the proxies: upstream, Redis, OpenID provider, a folder for their files. All on loopback. */
export interface Stage {
  folder: string;
  cores: Cores | undefined;
  /** Nothing is measured while somebody else works on this machine. */
  isPatient: boolean;
  processes: Processes;
  upstream: Upstream;
  redis: BenchRedis | undefined;
  provider: BenchProvider;
  client: BenchClient;
  /** All that a provider must know as the client's: `http://localhost:<port>/bff/callback` and `…/oidc/callback`. */
  ports: number[];
  /** One of them that nobody has yet. */
  takePort(): number;
  close(): Promise<void>;
}

/** More than there are proxies. */
const portCount = 40;

/** Access tokens live long: nothing is refreshed while something else is measured. */
const tokenSeconds = 3600;

export async function openStage(isPatient: boolean): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'cloakroom-bench-'));
  chmodSync(folder, 0o755); // Apache's workers are another user
  const cores = divideCores();
  if (cores !== undefined) moveTo(cores.rest, process.pid);
  const processes = createProcesses(cores);
  const clear = () => {
    processes.killAll();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', clear);
  const upstream = await startUpstream(processes, folder);
  const redis = await startBenchRedis(processes, folder);
  const free = new Set<number>();
  while (free.size < portCount) free.add(await freePort());
  const ports = [...free];
  const client = { id: 'bench', secret: randomBytes(32).toString('base64url') };
  const provider = await openProvider(client, ports, tokenSeconds);
  let taken = 0;
  return {
    folder,
    cores,
    isPatient,
    processes,
    upstream,
    redis,
    provider,
    client,
    ports,
    takePort() {
      const port = ports[taken++];
      if (port === undefined) throw new Error('more proxies than ports: raise portCount');
      return port;
    },
    async close() {
      redis?.close();
      await processes.stopAll();
      await provider.close();
      process.off('exit', clear);
      clear();
    },
  };
}
