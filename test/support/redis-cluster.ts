import { Redis } from 'ioredis';
import { freePort, type RedisOptions, type RedisServer, startRedis } from './redis.ts';
import { until } from './wait.ts';

export interface RedisCluster {
  nodes: RedisServer[];
  /** `redis://127.0.0.1:port` of every node. */
  urls: string[];
  /** Which of the nodes serves the slot of this key. */
  ownerOf(key: string): Promise<number>;
  /** Moves the slot of this key, with all its keys, to the next node; clients are served all the while. */
  moveSlot(key: string): Promise<void>;
  /** Runs a command on one node. */
  ask(node: number, ...command: string[]): Promise<unknown>;
  stop(): Promise<void>;
}

const slots = 16_384;

/** Starts three Redis servers on loopback and makes one cluster of them, a third of the slots each. */
export async function startRedisCluster({ args = [] }: RedisOptions = {}): Promise<RedisCluster> {
  const started = await Promise.all([0, 1, 2].map(() => startNode(args)));
  const nodes = started.map(({ server }) => server);
  const clients = nodes.map(({ port }) => new Redis({ port, host: '127.0.0.1' }));
  const ask = (node: number, ...[name = '', ...rest]: string[]) =>
    (clients[node] as Redis).call(name, ...rest) as Promise<unknown>;
  const ids = await Promise.all(nodes.map((_node, index) => ask(index, 'CLUSTER', 'MYID') as Promise<string>));
  await Promise.all(
    nodes.map(async (_node, index) => {
      const from = Math.ceil((index * slots) / nodes.length);
      const to = Math.ceil(((index + 1) * slots) / nodes.length) - 1;
      await ask(index, 'CLUSTER', 'ADDSLOTSRANGE', String(from), String(to));
      await ask(index, 'CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
    }),
  );
  for (const { server, busPort } of started.slice(1))
    await ask(0, 'CLUSTER', 'MEET', '127.0.0.1', String(server.port), String(busPort));
  const isFormed = async (index: number) => {
    const info = String(await ask(index, 'CLUSTER', 'INFO'));
    return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info) && /cluster_slots_ok:16384/.test(info);
  };
  await until(async () => (await Promise.all([0, 1, 2].map(isFormed))).every(Boolean), {
    timeoutMs: 15_000,
    message: 'the cluster to form',
  });
  const slotOf = async (key: string) => String(await ask(0, 'CLUSTER', 'KEYSLOT', key));
  const ownerOf = async (key: string) => {
    const slot = Number(await slotOf(key));
    const ranges = (await ask(0, 'CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
    const range = ranges.find(([from, to]) => from <= slot && slot <= to);
    return nodes.findIndex(({ port }) => port === range?.[2][1]);
  };

  return {
    nodes,
    urls: nodes.map(({ url }) => url),
    ownerOf,
    ask,
    async moveSlot(key) {
      const slot = await slotOf(key);
      const from = await ownerOf(key);
      const to = (from + 1) % nodes.length;
      const [fromId = '', toId = ''] = [ids[from], ids[to]];
      await ask(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
      await ask(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId);
      for (;;) {
        const keys = (await ask(from, 'CLUSTER', 'GETKEYSINSLOT', slot, '10')) as string[];
        if (keys.length === 0) break;
        // One by one, so that a session's keys are for a moment on both nodes: what a client sees in real life.
        for (const one of keys) await ask(from, 'MIGRATE', '127.0.0.1', String(nodes[to]?.port), one, '0', '2000');
      }
      for (const node of [to, from, 3 - from - to]) await ask(node, 'CLUSTER', 'SETSLOT', slot, 'NODE', toId);
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

/** The bus port is by default 10000 higher, which may not exist. */
async function startNode(args: string[]): Promise<{ server: RedisServer; busPort: number }> {
  const busPort = await freePort();
  const own = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort), '--cluster-node-timeout', '2000'];
  return { server: await startRedis({ args: [...own, ...args] }), busPort };
}
