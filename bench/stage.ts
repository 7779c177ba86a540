import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JWKS } from 'oidc-provider';
import { type RunningProvider, startProvider } from '../demo/provider.ts';
import { freePort } from '../test/support/redis.ts';
import { type Cores, divideCores } from './machine.ts';
import { createProcesses, type Processes } from './processes.ts';
import { type BenchRedis, startBenchRedis } from './redis.ts';
import { startUpstream, type Upstream } from './upstream.ts';

/** Everything around the proxies: upstream, Redis, OpenID provider, a folder for their files. All on loopback. */
export interface Stage {
  folder: string;
  cores: Cores | undefined;
  processes: Processes;
  upstream: Upstream;
  redis: BenchRedis | undefined;
  provider: RunningProvider;
  client: { id: string; secret: string };
  /** A port that the provider knows as one of the client's: `http://localhost:<port>/bff/callback` and `…/oidc/callback`. */
  takePort(): number;
  /** Token requests that the provider saw until now. */
  tokenRequests(): number;
  close(): Promise<void>;
}

/** More than there are rows. */
const portCount = 20;

/** Access tokens live long: nothing is refreshed while something else is measured. */
export async function openStage(accessTokenTtlSeconds = 3600): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'cloakroom-bench-'));
  chmodSync(folder, 0o755); // Apache's workers are another user
  const cores = divideCores();
  const processes = createProcesses(cores);
  const clear = () => {
    processes.killAll();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', clear);
  const upstream = await startUpstream(processes, folder);
  const redis = await startBenchRedis(processes, folder);
  const ports: number[] = [];
  for (let index = 0; index < portCount; index++) ports.push(await freePort());
  const client = { id: 'bench', secret: randomBytes(32).toString('base64url') };
  let tokenRequests = 0;
  const provider = await startProvider({
    port: 0,
    accessTokenTtlSeconds,
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        token_endpoint_auth_method: 'client_secret_basic',
        redirect_uris: ports.flatMap((port) => [
          `http://localhost:${port}/bff/callback`,
          `http://localhost:${port}/oidc/callback`,
        ]),
      },
    ],
    resources: [longResource],
    jwks: rsaKey(),
    onTokenRequest: () => void tokenRequests++,
  });
  return {
    folder,
    cores,
    processes,
    upstream,
    redis,
    provider,
    client,
    takePort() {
      const port = ports.pop();
      if (port === undefined) throw new Error('more proxies than ports: raise portCount');
      return port;
    },
    tokenRequests: () => tokenRequests,
    async close() {
      redis?.close();
      await processes.stopAll();
      await provider.close();
      process.off('exit', clear);
      clear();
    },
  };
}

/** Makes access tokens as long as those of a real provider with some claims: about 1.5 KB. */
const longResource = `urn:bench:orders:${'realistic-'.repeat(55)}`;

/** RS256, as most providers sign: longer tokens than ES256 makes. */
function rsaKey(): JWKS {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'bench' }] } as JWKS;
}
