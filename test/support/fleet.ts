import { randomBytes } from 'node:crypto';
import { assertNoSecrets } from './canary.ts';
import { type ConfigData, configOf } from './config-data.ts';
import { type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { type EvilProvider, type EvilProviderOptions, startEvilProvider } from './evil-provider.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { type Answer, createFleetClient, type FleetClient, type Person } from './fleet-client.ts';
import { type Started, startProcess, statusOf, untilAnswers, writeConfig } from './process.ts';
import { freePort, type RedisServer, startRedis } from './redis.ts';
import { type DumpedKey, dumpRedis } from './redis-dump.ts';
import { until } from './wait.ts';

/** Cloakroom in a process of its own, as `cloakroom start` runs it. */
export interface Replica {
  port: number;
  opsPort: number;
  /** Between this replica and Redis. */
  redis: FaultProxy;
  readonly process: Started;
  /** Starts it again after its end. */
  start(): Promise<void>;
  /** SIGKILL: no chance to finish anything. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code. */
  terminate(): Promise<number | string>;
  /** SIGSTOP: the process sleeps, its connections stay open. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** The event loop stands still so long (`blockMs` of the options). */
  block(): void;
}

export interface FleetOptions {
  /** 4 */
  replicas?: number;
  /** Changes the configuration of all replicas. */
  config?: (data: ConfigData) => void;
  provider?: EvilProviderOptions;
  /** Instead of a Redis of its own. The test stops it. */
  redis?: RedisServer;
  /** Where browsers are told to go; the first replica unless a balancer stands in front. */
  publicPort?: number;
  /** Where the release lies that a replica runs; this one unless given. */
  folderOf?: (replica: number) => string | undefined;
  /** How long `block()` blocks. */
  blockMs?: number;
}

/** Several replicas on one Redis, with a strict provider and an upstream: everything real, everything on loopback. */
export interface Fleet {
  provider: EvilProvider;
  upstream: EchoUpstream;
  redisUrl: string;
  replicas: Replica[];
  client: FleetClient;
  replica(index: number): Replica;
  login(options?: { replica?: number; sub?: string }): Promise<Person>;
  /** One API call of this person on a replica. */
  call(person: Person, replica?: number): Promise<Answer>;
  session(person: Person, replica?: number): Promise<{ authenticated: boolean; token?: { expiresAt: number } }>;
  /** Renews the tokens now. */
  refresh(person: Person, replica?: number): Promise<Answer>;
  logout(person: Person, replica?: number): Promise<Answer>;
  /** Waits until the access token of the person has expired. */
  untilExpired(person: Person): Promise<void>;
  /** Every key in Redis. */
  keys(): Promise<DumpedKey[]>;
  /** Refresh token requests so far. */
  refreshes(): number;
  /** Ends all processes, then: no secret in what they wrote, no Redis key without end, no line of level error. */
  stop(options?: { allowErrors?: boolean }): Promise<void>;
}

export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const { replicas: count = 4, blockMs = 0 } = options;
  const provider = await startEvilProvider({ accessTokenFormat: 'opaque', ...options.provider });
  const upstream = await startEchoUpstream();
  upstream.respondWith({ body: { ok: true } });
  const redis = options.redis ?? (await startRedis());
  const ports: number[] = [];
  for (let index = 0; index < 2 * count; index++) ports.push(await freePort());
  const origin = `http://localhost:${options.publicPort ?? ports[0]}`;
  const keys = [randomBytes(32).toString('base64url')];
  const configFor = (port: number, opsPort: number, redisUrl: string): ConfigData => {
    const data = configOf({ origin, port, opsPort, provider, upstream });
    data.authorizationServer.timeout = '5s';
    Object.assign(data, {
      session: { redis: { url: redisUrl }, keys }, // the same keys for all
      limits: { loginsPerMinute: 1_000_000 },
      log: { level: 'info', requests: false },
    });
    options.config?.(data);
    return data;
  };

  // SIGWINCH means nothing to a server: here it stops the event loop for a while.
  const blocker = `process.on("SIGWINCH",()=>Atomics.wait(new Int32Array(new SharedArrayBuffer(4)),0,0,${blockMs}))`;
  const cleanups: (() => unknown)[] = [];
  const outputs: Started[] = [];
  const startReplica = async (port: number, opsPort: number, folder?: string): Promise<Replica> => {
    const proxy = await startFaultProxy(redis.port);
    const config = await writeConfig(configFor(port, opsPort, proxy.redisUrl));
    cleanups.push(proxy.stop, config.remove);
    let started: Started;
    const start = async () => {
      const flags = [
        '--import',
        `data:text/javascript,${encodeURIComponent(blocker)}`,
        'scripts/cloakroom.cjs',
        'start',
        '--config',
        config.file,
      ];
      started = startProcess(process.execPath, flags, {}, folder);
      outputs.push(started);
      const { child } = started;
      const killAtExit = () => child.kill('SIGKILL');
      process.once('exit', killAtExit);
      child.once('exit', () => process.off('exit', killAtExit));
      await untilAnswers(`http://127.0.0.1:${opsPort}/readyz`, 200, started);
      await until(async () => (await statusOf(`http://127.0.0.1:${port}/`)) !== 0, { timeoutMs: 15_000 });
    };
    await start();
    return {
      port,
      opsPort,
      redis: proxy,
      get process() {
        return started;
      },
      start,
      kill: () => started.kill(),
      terminate() {
        started.terminate();
        return started.ended;
      },
      freeze: () => void started.child.kill('SIGSTOP'),
      thaw: () => void started.child.kill('SIGCONT'),
      block: () => void started.child.kill('SIGWINCH'),
    };
  };
  const endAll = async () => {
    await Promise.all(outputs.map((one) => one.kill()));
    await Promise.all([provider.stop(), upstream.stop(), ...cleanups.map((cleanup) => cleanup())]);
    if (options.redis === undefined) await redis.stop();
  };
  const starts = await Promise.allSettled(
    Array.from({ length: count }, (_, index) =>
      startReplica(ports[2 * index] as number, ports[2 * index + 1] as number, options.folderOf?.(index)),
    ),
  );
  const replicas = starts.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = starts.find((one) => one.status === 'rejected');
  if (failed !== undefined) {
    await endAll();
    throw failed.reason;
  }
  const replica = (index: number) => replicas[index % count] as Replica;
  const client = createFleetClient(origin, provider);
  const people: Person[] = [];
  const post =
    (path: string) =>
    (person: Person, index = 0) =>
      client.send(replica(index).port, path, { method: 'POST', cookie: person.cookie });
  const session: Fleet['session'] = async (person, index = 0) =>
    JSON.parse((await client.send(replica(index).port, '/bff/session', { cookie: person.cookie })).text);

  return {
    provider,
    upstream,
    redisUrl: redis.url,
    replicas,
    client,
    replica,
    async login({ replica: index = 0, sub } = {}) {
      const person = await client.login(replica(index).port, sub);
      people.push(person);
      return person;
    },
    call: (person, index = 0) => client.send(replica(index).port, '/api/orders/1', { cookie: person.cookie }),
    session,
    refresh: post('/bff/refresh'),
    logout: post('/bff/logout'),
    async untilExpired(person) {
      const { token } = await session(person, count - 1);
      const expiresAt = token?.expiresAt ?? Number.POSITIVE_INFINITY;
      await until(() => Date.now() >= expiresAt * 1000, { timeoutMs: 30_000, message: 'the access token to expire' });
    },
    keys: () => dumpRedis(redis.url),
    refreshes: () => provider.tokenRequests('refresh_token').length,
    async stop({ allowErrors = false } = {}) {
      const dump = await dumpRedis(redis.url);
      await client.close();
      await endAll();

      const endless = dump.filter(({ pttl }) => pttl === -1).map(({ key }) => key);
      if (endless.length > 0) throw new Error(`Redis keys without an end: ${endless.join(', ')}`);
      const output = outputs.map((one) => one.stdout() + one.stderr()).join('\n');
      const tokens = provider.issuedSecrets().slice(0, 50);
      const tickets = people.slice(0, 20).map(({ cookie }) => cookie.slice(cookie.indexOf('=') + 1));
      assertNoSecrets({
        secrets: [...tokens, ...tickets],
        haystacks: [{ name: 'log', text: output.slice(0, 1_000_000) }],
      });
      const errors = output.split('\n').filter((line) => /"level":"(error|fatal)"/.test(line));
      if (!allowErrors && errors.length > 0)
        throw new Error(`unexpected errors in the log:\n${errors.slice(0, 5).join('\n')}`);
    },
  };
}
