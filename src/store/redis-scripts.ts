import type { RedisClient } from '../redis/client.ts';

// All changes to a session, each atomic, each on keys of one hash slot. Times are Redis's own (REFRESH.md D2), so a
// replica with a wrong clock can neither hold a lease too long nor end a session early. Every script does the same
// when ioredis sends it twice after a reconnect.
//
// Session hash: f format · g generation · w writer of that generation · c created · x absolute end · a last seen
// (epoch seconds) · n idle timeout · i identity · t tokens (sealed) · d, u, e index keys · b back-off until (epoch ms)
// · r '1' where the authorization server refused, so that a login may help

const now = `
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local nowSeconds = tonumber(time[1])
`;

const snapshot = `
local function snapshot(key)
  local v = redis.call('HMGET', key, 'f', 'g', 'c', 'x', 'a', 'i', 't')
  return { tostring(nowMs), v[1], v[2], v[3], v[4], v[5], v[6], v[7] }
end
local function expireAtEnd(key, lastSeen, idle, absolute)
  redis.call('EXPIREAT', key, math.floor(math.min(tonumber(absolute), tonumber(lastSeen) + tonumber(idle))))
end
`;

const lua = {
  // KEYS session, tombstone · ARGV format, writer, absolute timeout, idle timeout, identity, tokens, sidKey, subKey,
  // frontendKey, creation time, its tolerance
  create: {
    keys: 2,
    lua: `${now}${snapshot}
if redis.call('EXISTS', KEYS[2]) == 1 then return 'refused' end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGET', KEYS[1], 'w') == ARGV[2] and 'created' or 'refused'
end
local created = tonumber(ARGV[10])
if math.abs(nowMs / 1000 - created) > tonumber(ARGV[11]) then return 'late' end
local absolute = created + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'f', ARGV[1], 'g', 1, 'w', ARGV[2], 'c', created, 'x', absolute, 'a', nowSeconds,
  'n', ARGV[4], 'i', ARGV[5], 't', ARGV[6], 'd', ARGV[7], 'u', ARGV[8], 'e', ARGV[9], 'b', 0)
expireAtEnd(KEYS[1], nowSeconds, ARGV[4], absolute)
return 'created'`,
  },
  // KEYS session, tombstone. Here and below: a record that somebody copied back after its end is none (W12).
  read: {
    keys: 2,
    lua: `${now}${snapshot}
if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
return snapshot(KEYS[1])`,
  },
  // KEYS sessions, then their tombstones · ARGV the generations that are known: each as a snapshot, or as "x a" if it
  // has not moved. One key that somebody damaged is an error of its own (T109).
  readIfMoved: {
    lua: `${now}${snapshot}
local answers = { tostring(nowMs) }
for index = 1, #ARGV do
  local key = KEYS[index]
  local v = redis.pcall('HMGET', key, 'g', 'x', 'a')
  if v.err then
    answers[index + 1] = v
  elseif redis.call('EXISTS', KEYS[#ARGV + index]) == 1 then
    answers[index + 1] = {}
  elseif v[1] == ARGV[index] and v[2] and v[3] then
    answers[index + 1] = v[2] .. ' ' .. v[3]
  else
    answers[index + 1] = snapshot(key)
  end
end
return answers`,
  },
  // KEYS session · ARGV idle timeout
  touch: {
    keys: 1,
    lua: `${now}${snapshot}
local absolute = redis.call('HGET', KEYS[1], 'x')
if not absolute then return 'gone' end
redis.call('HSET', KEYS[1], 'a', nowSeconds, 'n', ARGV[1])
expireAtEnd(KEYS[1], nowSeconds, ARGV[1], absolute)
return 'touched'`,
  },
  // KEYS session, lease, tombstone · ARGV expected generation, owner, lease ms
  acquire: {
    keys: 3,
    lua: `${now}${snapshot}
if redis.call('EXISTS', KEYS[3]) == 1 then return { 'gone' } end
local v = redis.call('HMGET', KEYS[1], 'g', 'b', 'r')
if not v[1] then return { 'gone' } end
if v[1] ~= ARGV[1] then return { 'newer', snapshot(KEYS[1]) } end
if tonumber(v[2] or 0) > nowMs then return { 'backoff', tonumber(v[2]) - nowMs, v[3] or '0' } end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return { 'busy', redis.call('PTTL', KEYS[2]) } end
if not holder then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return { 'acquired', snapshot(KEYS[1]) }`,
  },
  // KEYS session, lease, tombstone · ARGV owner, expected generation, tokens, identity, nearer absolute end or ''. It
  // sets what it knows and leaves the rest: a newer release may have put more there.
  commit: {
    keys: 3,
    lua: `${now}${snapshot}
if redis.call('EXISTS', KEYS[3]) == 1 then return 'gone' end
local v = redis.call('HMGET', KEYS[1], 'g', 'w')
if not v[1] then return 'gone' end
if v[1] ~= ARGV[2] then
  return (tonumber(v[1]) == tonumber(ARGV[2]) + 1 and v[2] == ARGV[1]) and 'committed' or 'stale'
end
redis.call('HSET', KEYS[1], 'g', tonumber(ARGV[2]) + 1, 'w', ARGV[1], 't', ARGV[3], 'i', ARGV[4], 'b', 0)
local absolute = tonumber(redis.call('HGET', KEYS[1], 'x'))
local nearer = tonumber(ARGV[5])
if nearer and absolute and nearer < absolute then
  local seen = redis.call('HMGET', KEYS[1], 'a', 'n')
  redis.call('HSET', KEYS[1], 'x', nearer)
  expireAtEnd(KEYS[1], seen[1], seen[2], nearer)
end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 'committed'`,
  },
  // KEYS session, lease · ARGV owner, expected generation, back-off ms, '1' where the authorization server refused
  fail: {
    keys: 2,
    lua: `${now}
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[2] then return 'moved' end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'b', nowMs + tonumber(ARGV[3]), 'r', ARGV[4])
return 'failed'`,
  },
  // KEYS session, lease, tombstone · ARGV expected generation or '', tombstone seconds
  end: {
    keys: 3,
    lua: `
local v = redis.call('HMGET', KEYS[1], 'g', 'd', 'u', 'e')
if v[1] and ARGV[1] ~= '' and v[1] ~= ARGV[1] then return { 'moved' } end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
if not v[1] then return { 'gone' } end
return { 'ended', v[2] or '', v[3] or '', v[4] or '' }`,
  },
  // KEYS index · ARGV handle, absolute timeout: one sorted set for every login of a subject or provider session
  indexAdd: {
    keys: 1,
    lua: `${now}
local absolute = nowSeconds + tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', nowSeconds)
redis.call('ZADD', KEYS[1], absolute, ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.ceil(tonumber(last[2])))
return 'added'`,
  },
  // KEYS mark · ARGV the provider's instant or '', seconds to keep it. Of two instants the later one includes the other.
  markEnded: {
    keys: 1,
    lua: `${now}
local at = string.format('%d.%06d', time[1], time[2])
if ARGV[1] == '' then
  redis.call('HSET', KEYS[1], 'us', at)
else
  local known = redis.call('HGET', KEYS[1], 'before')
  redis.call('HSET', KEYS[1], 'provider', at)
  if not known or tonumber(known) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'before', ARGV[1]) end
end
redis.call('EXPIREAT', KEYS[1], nowSeconds + tonumber(ARGV[2]))
return 'marked'`,
  },
  endedMark: {
    keys: 1,
    lua: `return redis.call('HMGET', KEYS[1], 'us', 'provider', 'before')`,
  },
  // KEYS what is kept. Sent twice it may be gone: as if its life had ended.
  take: {
    keys: 1,
    lua: `
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return value`,
  },
  // KEYS session: its node's clock
  clock: {
    keys: 1,
    lua: `${now}
return nowMs`,
  },
  indexList: {
    keys: 1,
    lua: `${now}
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. nowSeconds, '+inf')`,
  },
} as const;

/** Every command of Redis that the scripts use, in lower case: what its user must be allowed. */
export const scriptCommands: readonly string[] = [
  ...new Set(
    Object.values(lua).flatMap(({ lua: text }) =>
      [...text.matchAll(/redis\.p?call\('(\w+)'/g)].map(([, name = '']) => name.toLowerCase()),
    ),
  ),
];

export type ScriptName = keyof typeof lua;
export type ScriptArgument = string | number | Buffer;
/** Runs a script by its hash; Redis that does not know it (restart, failover) is sent the text again. */
export type RunScript = (name: ScriptName, keys: string[], args: ScriptArgument[]) => Promise<unknown>;

/** Registers the scripts on the connection. Replies have Buffers where Redis has strings. */
export function defineScripts(redis: RedisClient): RunScript {
  const commandName = (name: string) => `cloakroom${name[0]?.toUpperCase()}${name.slice(1)}`;
  for (const [name, script] of Object.entries(lua)) {
    const numberOfKeys = 'keys' in script ? { numberOfKeys: script.keys } : {};
    redis.defineCommand(commandName(name), { ...numberOfKeys, lua: script.lua });
  }
  // defineCommand adds methods that the types do not know.
  const commands = redis as unknown as Record<string, (...args: ScriptArgument[]) => Promise<unknown>>;
  return (name, keys, args) => {
    const command = commands[`${commandName(name)}Buffer`];
    if (command === undefined) throw new Error(`script ${name} is not defined`);
    return 'keys' in lua[name]
      ? command.call(redis, ...keys, ...args)
      : command.call(redis, keys.length, ...keys, ...args);
  };
}
