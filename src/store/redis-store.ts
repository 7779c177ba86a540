import { createBatch } from '../redis/batch.ts';
import { askRedis, type RedisClient } from '../redis/client.ts';
import { recordFormat, type SessionTimes, type StoredSession } from './record.ts';
import { defineScripts, type ScriptArgument, type ScriptName } from './redis-scripts.ts';
import {
  type Acquired,
  type Committed,
  creationTolerance,
  type Ended,
  type SessionStore,
  tombstoneSeconds,
} from './store.ts';

/** Sessions in Redis, shared by all replicas. The scripts hold the rules; this maps them to the contract. */
export function createRedisStore(redis: RedisClient, keyPrefix: string): SessionStore {
  const script = defineScripts(redis);
  const run = (name: ScriptName, keys: string[], args: ScriptArgument[]) => askRedis(() => script(name, keys, args));
  // The braces are a hash tag: all keys of one session live in one slot of a cluster.
  const key = (handle: string, kind: 's' | 'l' | 'x') => `${keyPrefix}{${handle}}:${kind}`;
  const allOf = (handle: string) => [key(handle, 's'), key(handle, 'l'), key(handle, 'x')];
  const sidIndex = (sidKey: string) => `${keyPrefix}sid:${sidKey}`;
  const subIndex = (subKey: string) => `${keyPrefix}sub:${subKey}`;
  const frontendIndex = (frontendKey: string) => `${keyPrefix}frontend:${frontendKey}`;
  // By Redis's clock: with its own, a replica whose clock is ahead would miss sessions in a back-channel logout (T53).
  const listLive = async (index: string) => list(await run('indexList', [index], [])).map(text);

  // Looks of one turn of the event loop go to Redis together: a command costs more than the session that it asks for.
  // In a cluster the keys of two sessions are not one node's.
  const look = createBatch<Look, Answer | Error>(redis.isCluster ? 1 : mostLooksAtOnce, async (looks) => {
    const reply = await run(
      'readIfMoved',
      [...looks.map(({ handle }) => key(handle, 's')), ...looks.map(({ handle }) => key(handle, 'x'))],
      looks.map(({ generation }) => generation),
    );
    const [nowMs, ...answers] = list(reply);
    return looks.map(({ generation }, index) => parseLook(nowMs, answers[index], generation));
  });

  const indexesOf = (sidKey: string, subKey: string, frontendKey: string) => [
    ...(sidKey === '' ? [] : [sidIndex(sidKey)]),
    ...(subKey === '' ? [] : [subIndex(subKey)]),
    ...(frontendKey === '' ? [] : [frontendIndex(frontendKey)]),
  ];

  return {
    async create(record) {
      const { handle, writer, createdAt, absoluteTimeout, idleTimeout, identity, tokens, subKey } = record;
      const { sidKey = '', frontendKey = '' } = record;
      // Index first: an index entry without a session does nothing, a session without one could not be logged out.
      const indexes = indexesOf(sidKey, subKey, frontendKey);
      await Promise.all(indexes.map((index) => run('indexAdd', [index], [handle, absoluteTimeout])));
      const life = [absoluteTimeout, idleTimeout];
      const answer = await run(
        'create',
        [key(handle, 's'), key(handle, 'x')],
        [recordFormat, writer, ...life, identity, tokens, sidKey, subKey, frontendKey, createdAt, creationTolerance],
      );
      const outcome = text(answer);
      return outcome === 'created' || outcome === 'late' ? outcome : 'refused';
    },
    async read(handle) {
      return parseSnapshot(await run('read', [key(handle, 's'), key(handle, 'x')], []));
    },
    async readIfMoved(known) {
      const answer = await look(known);
      if (answer instanceof Error) return askRedis(() => Promise.reject(answer));
      return answer;
    },
    async touch(handle, idleTimeout) {
      await run('touch', [key(handle, 's')], [idleTimeout]);
    },
    async acquire(handle, expectedGeneration, owner, leaseMs): Promise<Acquired> {
      const answer = list(await run('acquire', allOf(handle), [expectedGeneration, owner, leaseMs]));
      const kind = text(answer[0]);
      switch (kind) {
        case 'busy':
          return { kind, retryAfterMs: Math.max(0, Number(answer[1])) };
        case 'backoff':
          return { kind, retryAfterMs: Math.max(0, Number(answer[1])), isRefused: text(answer[2]) === '1' };
        case 'acquired':
        case 'newer': {
          const session = parseSnapshot(answer[1]);
          return session === undefined ? { kind: 'gone' } : { kind, session };
        }
        default:
          return { kind: 'gone' };
      }
    },
    async commit({ handle, owner, expectedGeneration, tokens, identity, endsAt }): Promise<Committed> {
      const answer = text(
        await run('commit', allOf(handle), [owner, expectedGeneration, tokens, identity, endsAt ?? '']),
      );
      return answer === 'committed' || answer === 'stale' ? answer : 'gone';
    },
    async fail(handle, owner, expectedGeneration, backoffMs, isRefused) {
      await run(
        'fail',
        [key(handle, 's'), key(handle, 'l')],
        [owner, expectedGeneration, backoffMs, isRefused ? 1 : 0],
      );
    },
    async end(handle, expectedGeneration): Promise<Ended> {
      const answer = list(await run('end', allOf(handle), [expectedGeneration ?? '', tombstoneSeconds]));
      const kind = text(answer[0]);
      if (kind === 'moved') return { kind };
      if (kind !== 'ended') return { kind: 'gone' };
      const [sidKey = '', subKey = '', frontendKey = ''] = answer.slice(1).map(text);
      // Only this session's entries: another session of the same user stays findable (SE7).
      const indexes = indexesOf(sidKey, subKey, frontendKey);
      await askRedis(() => Promise.all(indexes.map((index) => redis.zrem(index, handle))));
      return { kind, subKey, ...(sidKey === '' ? {} : { sidKey }) };
    },
    listBySid: (sidKey) => listLive(sidIndex(sidKey)),
    listBySub: (subKey) => listLive(subIndex(subKey)),
    listByFrontend: (frontendKey) => listLive(frontendIndex(frontendKey)),
    async markUsed(marker, ttlSeconds) {
      return (await askRedis(() => redis.set(`${keyPrefix}used:${marker}`, '1', 'EX', ttlSeconds, 'NX'))) === 'OK';
    },
    async isUsed(marker) {
      return (await askRedis(() => redis.exists(`${keyPrefix}used:${marker}`))) === 1;
    },
    async keep(key, value, ttlSeconds) {
      await askRedis(() => redis.set(`${keyPrefix}kept:${key}`, value, 'EX', ttlSeconds));
    },
    async take(key) {
      const value = await run('take', [`${keyPrefix}kept:${key}`], []);
      return Buffer.isBuffer(value) ? value : undefined;
    },
    async markEnded(indexKey, before, ttlSeconds) {
      await run('markEnded', [`${keyPrefix}ended:${indexKey}`], [before ?? '', ttlSeconds]);
    },
    async endedMark(indexKey) {
      const [us, provider, before] = list(await run('endedMark', [`${keyPrefix}ended:${indexKey}`], [])).map(text);
      return {
        ...(us ? { byUs: Number(us) } : {}),
        ...(provider && before ? { byProvider: { at: Number(provider), before: Number(before) } } : {}),
      };
    },
    async now(handle) {
      // In a cluster the command alone would go to any node.
      if (handle !== undefined) return Number(text(await run('clock', [key(handle, 's')], []))) / 1000;
      const [seconds, microseconds] = await askRedis(() => redis.time());
      return Number(seconds) + Number(microseconds) / 1e6;
    },
    async ping() {
      await askRedis(() => redis.ping());
    },
    async close() {
      await redis.quit().catch(() => redis.disconnect());
    },
  };
}

interface Look {
  handle: string;
  generation: number;
}
type Answer = Awaited<ReturnType<SessionStore['readIfMoved']>>;

/** What fits one command well. */
const mostLooksAtOnce = 128;

function parseLook(nowMs: unknown, answer: unknown, generation: number): Answer | Error {
  if (answer instanceof Error) return answer;
  if (!Buffer.isBuffer(answer)) return parseSnapshot(answer);
  const [expiresAt, lastSeenAt] = answer.toString('latin1').split(' ').map(Number);
  return Number.isSafeInteger(expiresAt) && Number.isSafeInteger(lastSeenAt)
    ? { generation, expiresAt: expiresAt as number, lastSeenAt: lastSeenAt as number, now: Number(text(nowMs)) / 1000 }
    : undefined;
}

function parseSnapshot(reply: unknown): StoredSession | undefined {
  const fields = list(reply);
  const [identity, tokens] = fields.slice(6);
  // A record that is absent, or that someone damaged, is no session: 401, never a crash (T109).
  if (!Buffer.isBuffer(identity) || !Buffer.isBuffer(tokens)) return undefined;
  const times = parseTimes(fields);
  return times && { ...times, identity, tokens };
}

function parseTimes([nowMs, format, generation, createdAt, expiresAt, lastSeenAt]: unknown[]):
  | SessionTimes
  | undefined {
  const numbers = [format, generation, createdAt, expiresAt, lastSeenAt].map((value) =>
    Number(text(value) || Number.NaN),
  );
  if (numbers.some((number) => !Number.isSafeInteger(number))) return undefined;
  const [f = 0, g = 0, c = 0, x = 0, a = 0] = numbers;
  return {
    format: f,
    generation: g,
    createdAt: c,
    expiresAt: x,
    lastSeenAt: a,
    now: Number(text(nowMs)) / 1000,
  };
}

function list(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

function text(value: unknown): string {
  return Buffer.isBuffer(value)
    ? value.toString()
    : typeof value === 'string' || typeof value === 'number'
      ? String(value)
      : '';
}
