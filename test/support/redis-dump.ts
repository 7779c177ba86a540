import { Redis } from 'ioredis';

export interface DumpedKey {
  key: string;
  type: string;
  /** Milliseconds to live; -1 means for ever, which no key of ours may have. */
  pttl: number;
  /** The value as latin1 text, all fields and members joined by line feeds. */
  value: string;
}

/** Reads every key that matches the pattern (`*`): the haystack for canaries and the proof that each key expires. */
export async function dumpRedis(url: string, pattern = '*'): Promise<DumpedKey[]> {
  const redis = new Redis(url);
  try {
    const keys: string[] = [];
    for await (const batch of redis.scanStream({ match: pattern, count: 500 })) keys.push(...(batch as string[]));
    return await Promise.all([...new Set(keys)].sort().map((key) => dumpKey(redis, key)));
  } finally {
    redis.disconnect();
  }
}

async function dumpKey(redis: Redis, key: string): Promise<DumpedKey> {
  const [type, pttl] = await Promise.all([redis.type(key), redis.pttl(key)]);
  return { key, type, pttl, value: await readValue(redis, key, type) };
}

async function readValue(redis: Redis, key: string, type: string): Promise<string> {
  const text = (value: unknown): string => {
    if (Buffer.isBuffer(value)) return value.toString('latin1');
    if (Array.isArray(value)) return value.map(text).join('\n');
    if (value instanceof Map) return [...value].map(text).join('\n');
    if (typeof value === 'object' && value !== null) return Object.entries(value).map(text).join('\n');
    return String(value ?? '');
  };
  switch (type) {
    case 'string':
      return text(await redis.getBuffer(key));
    case 'hash':
      return text(await redis.hgetallBuffer(key));
    case 'set':
      return text(await redis.smembersBuffer(key));
    case 'zset':
      return text(await redis.zrangeBuffer(key, 0, '-1', 'WITHSCORES'));
    case 'list':
      return text(await redis.lrangeBuffer(key, 0, -1));
    default:
      return '';
  }
}
