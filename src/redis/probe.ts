import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Cluster, type Redis } from 'ioredis';
import type { RedisConfig } from '../config/config.ts';
import { createRedisChannel } from './channel.ts';
import { createRedisClient, expectNoMore, type RedisClient, type RedisLog } from './client.ts';
import { reasonOf } from './reasons.ts';

/** What somebody who wants to use this Redis finds there. */
export interface ProbedRedis {
  /** Why there was no connection. */
  reason?: string;
  /** What can't be read of its settings. */
  settings?: string;
  /** The single one, or the primaries of a cluster. */
  servers: ProbedServer[];
  /** Why nothing came back on the channel of the replicas. */
  channelReason?: string;
}

export interface ProbedServer {
  /** Host and port. */
  address: string;
  /** From INFO; absent when this user may not ask. */
  facts: { version?: string; role?: string; evictionPolicy?: string };
  /** Commands that this user may not use. */
  denied: string[];
  /** This user may not touch keys of ours. */
  areKeysDenied: boolean;
  /** Why it takes no writes: `READONLY`, `MISCONF`, `OOM`, … */
  writeReason?: string;
}

/** Connects, tries each of the commands on a key of its own that ends at once, and listens to itself on the channel. */
export async function probeRedis(
  config: RedisConfig,
  commands: readonly string[],
  timeoutMs: number,
): Promise<ProbedRedis> {
  const heard: { reason?: string; settings?: string } = {};
  const client = createRedisClient(config, listener(heard));
  try {
    await Promise.race([client.connect().catch(() => undefined), pause(timeoutMs)]);
    if (client.status !== 'ready') return { servers: [], reason: 'timeout', ...heard };
    const nodes = client instanceof Cluster ? client.nodes('master') : [client];
    const [servers, channelReason] = await Promise.all([
      Promise.all(nodes.map((node) => probeServer(node, config.keyPrefix, commands))),
      probeChannel(config, client, timeoutMs),
    ]);
    return { servers, ...heard, ...(channelReason === undefined ? {} : { channelReason }) };
  } finally {
    expectNoMore(client);
    client.disconnect();
  }
}

/** Keeps the last reason that was told. */
function listener(heard: { reason?: string; settings?: string }): RedisLog {
  return { info: () => undefined, warn: (facts) => void Object.assign(heard, facts) };
}

async function probeServer(node: Redis, keyPrefix: string, commands: readonly string[]): Promise<ProbedServer> {
  const info = await node.info().catch(() => undefined);
  const factOf = (name: string) => new RegExp(`^${name}:([\\w.-]+)`, 'm').exec(info ?? '')?.[1];
  const facts = { version: factOf('redis_version'), role: factOf('role'), evictionPolicy: factOf('maxmemory_policy') };
  const outcomes = await tryCommands(node, keyPrefix, commands);
  const denied = outcomes.filter(({ reply }) => isDenied(reply) && !/\bkeys?\b/i.test(reply)).map(({ name }) => name);
  const writeReason = outcomes.map(({ reply }) => /\b(READONLY|MISCONF|OOM|NOREPLICAS|MASTERDOWN)\b/.exec(reply)?.[1]);
  const { host = '', port = 0 } = node.options;
  const [why] = writeReason.filter((reason) => reason !== undefined);
  return {
    address: `${host}:${port}`,
    facts: Object.fromEntries(Object.entries(facts).filter(([, fact]) => fact !== undefined)),
    denied: [...denied, ...(info === undefined ? ['info'] : [])],
    areKeysDenied: outcomes.some(({ reply }) => isDenied(reply) && /\bkeys?\b/i.test(reply)),
    ...(why === undefined ? {} : { writeReason: why }),
  };
}

interface Outcome {
  name: string;
  /** An error of Redis, or nothing. */
  reply: string;
}

function isDenied(reply: string): boolean {
  return /NOPERM|can't run this command|can't access at least one of the keys|no permissions/i.test(reply);
}

/**
 * With what each command is called; `K` is the key. The first makes a text there that ends by itself: what is for hashes
 * and sets is then allowed or not, and does nothing.
 */
const trials: Record<string, string[]> = {
  set: ['K', '1', 'PX', '1000'],
  get: ['K'],
  exists: ['K'],
  pttl: ['K'],
  hset: ['K', 'f', '1'],
  hget: ['K', 'f'],
  hmget: ['K', 'f'],
  zadd: ['K', '1', 'm'],
  zrange: ['K', '0', '-1'],
  zrangebyscore: ['K', '0', '1'],
  zremrangebyscore: ['K', '0', '1'],
  zrem: ['K', 'm'],
  time: [],
  expireat: ['K', '1'],
  del: ['K'],
};

/** One after the other in a script, as sessions use them; a refusal of one does not hide the next. */
const script = `
local replies = {}
for _, call in ipairs(cjson.decode(ARGV[1])) do
  for index, argument in ipairs(call) do if argument == 'K' then call[index] = KEYS[1] end end
  local reply = redis.pcall(unpack(call))
  table.insert(replies, type(reply) == 'table' and reply.err or '')
end
return replies`;

async function tryCommands(node: Redis, keyPrefix: string, commands: readonly string[]): Promise<Outcome[]> {
  const unknown = commands.filter((name) => trials[name] === undefined);
  if (unknown.length > 0) throw new Error(`no trial for ${unknown.join(', ')}`);
  const calls = Object.entries(trials)
    .filter(([name]) => commands.includes(name))
    .map(([name, args]) => [name, ...args]);
  const outcomes: Outcome[] = [];
  for (const name of ['eval', 'evalsha', 'ping'] as const) {
    const asked =
      name === 'ping' ? node.ping() : name === 'eval' ? node.eval('return 1', 0) : node.evalsha('0'.repeat(40), 0);
    outcomes.push({ name, reply: await replyOf(asked) });
  }
  for (let attempt = 0; attempt < 200; attempt++) {
    const key = `${keyPrefix}{check-${randomBytes(6).toString('hex')}}:s`;
    const replies = await node.eval(script, 1, key, JSON.stringify(calls)).catch((error: unknown) => error);
    if (replies instanceof Error && /^MOVED/.test(replies.message)) continue; // a slot of another node
    if (replies instanceof Error) return [...outcomes, { name: 'eval', reply: textOf(replies) }];
    const texts = replies as string[];
    return [...outcomes, ...calls.map(([name = ''], index) => ({ name, reply: texts[index] ?? '' }))];
  }
  return outcomes;
}

async function replyOf(asked: Promise<unknown>): Promise<string> {
  return asked.then(() => '', textOf);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : '';
}

/** On the channel that replicas use: a user may be allowed that one alone. What is said there means nothing to them. */
async function probeChannel(config: RedisConfig, client: RedisClient, timeoutMs: number): Promise<string | undefined> {
  const heard: { reason?: string } = {};
  const channel = createRedisChannel(config, client, 'events', listener(heard));
  const text = `check ${randomBytes(12).toString('hex')}`;
  const { promise, resolve } = Promise.withResolvers<'heard'>();
  channel.onMessage((message) => message === text && resolve('heard'));
  const said = (async () => {
    while (!channel.isUp()) await pause(20);
    await channel.publish(text);
    return promise;
  })().catch((error: unknown) => reasonOf(error instanceof Error ? error.cause : error));
  try {
    const answer = await Promise.race([said, pause(timeoutMs, 'late' as const)]);
    if (answer === 'heard') return undefined;
    return answer === 'late' ? (heard.reason ?? 'timeout') : answer;
  } finally {
    await channel.close();
  }
}
