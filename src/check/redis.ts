import type { RedisConfig } from '../config/config.ts';
import { harmlessPolicies } from '../redis/eviction.ts';
import { isTls } from '../redis/live-settings.ts';
import { type ProbedServer, probeRedis } from '../redis/probe.ts';
import { scriptCommands } from '../store/redis-scripts.ts';
import { causeOf } from './causes.ts';
import type { Report } from './finding.ts';

const key = 'session.redis';
const aclLine = 'give the user the rights of the ACL line in docs/operations.md';

/** Whether sessions can be kept there: connection, user, rights, version, what happens when its memory is full. */
export async function checkRedis(config: RedisConfig, timeoutMs: number, report: Report): Promise<void> {
  const { reason, settings, servers, channelReason } = await probeRedis(config, scriptCommands, timeoutMs);
  if (settings !== undefined)
    report({ status: 'FAIL', key, says: settings, cure: 'write the file again, or correct its path' });
  const [first] = servers;
  if (first === undefined) {
    const { says, cure } = causeOfRedis(reason ?? 'timeout');
    // A server without TLS waits for the rest of what it takes for a command.
    const isMute = isTls(config) && /TIMEDOUT|timeout/.test(reason ?? 'timeout');
    const withScheme = isMute ? `${cure}; if it speaks no TLS, write redis:// instead of rediss://` : cure;
    report({ status: 'FAIL', key, says: `${placeOf(config)} can’t be used: ${says}`, cure: withScheme });
    return;
  }
  for (const server of servers) checkServer(server, config, report);
  if (channelReason === undefined) {
    report({ status: 'ok', key, says: `replicas hear each other on ${config.keyPrefix}events` });
  } else {
    const isDenied = channelReason === 'NOPERM';
    report({
      status: 'FAIL',
      key,
      says: `nothing is heard on the channel ${config.keyPrefix}events: ${channelReason}`,
      cure: isDenied
        ? `${aclLine} (&${config.keyPrefix}*, +publish +subscribe, in a cluster +spublish +ssubscribe)`
        : 'look into the log of Redis',
    });
  }
}

function checkServer(
  { address, facts, denied, areKeysDenied, writeReason }: ProbedServer,
  config: RedisConfig,
  report: Report,
): void {
  const { version, role, evictionPolicy } = facts;
  const least = config.cluster === undefined ? '6.2' : '7.0';
  const name = `${address}${version === undefined ? '' : `, version ${version}`}`;
  if (isBelow(version, least))
    report({ status: 'FAIL', key, says: `${name}: too old`, cure: `use Redis or Valkey ${least} or later` });
  else
    report({
      status: 'ok',
      key,
      says: `${name}: connected${config.username === undefined ? '' : ` as ${config.username}`}`,
    });
  if (role === 'slave')
    report({
      status: 'FAIL',
      key,
      says: `${address} is a replica and takes no writes`,
      cure: 'name the primary, or let Sentinels do so (session.redis.sentinel)',
    });
  if (areKeysDenied)
    report({
      status: 'FAIL',
      key,
      says: `${address}: the user may not use the keys ${config.keyPrefix}*`,
      cure: `${aclLine} (~${config.keyPrefix}*)`,
    });
  if (denied.length > 0)
    report({
      status: denied.every((one) => one === 'info') ? 'warn' : 'FAIL',
      key,
      says: `${address}: the user may not use ${[...new Set(denied)].join(', ')}`,
      cure: aclLine,
    });
  if (writeReason !== undefined && role !== 'slave') {
    const { says, cure } = causeOfRedis(writeReason);
    report({ status: 'FAIL', key, says: `${address} takes no writes: ${says}`, cure });
  }
  if (!areKeysDenied && denied.length === 0 && writeReason === undefined && role !== 'slave')
    report({ status: 'ok', key, says: `${address}: all commands of sessions work on ${config.keyPrefix}*` });
  if (evictionPolicy !== undefined && !harmlessPolicies.includes(evictionPolicy))
    report({
      status: 'warn',
      key,
      says: `${address}: maxmemory-policy ${evictionPolicy} throws sessions away when the memory is full`,
      cure: 'CONFIG SET maxmemory-policy noeviction',
    });
}

const causes: Record<string, [says: string, cure: string]> = {
  WRONGPASS: ['user or password are wrong', 'correct username and password, or the user of Redis (ACL SETUSER)'],
  NOAUTH: ['it wants a password', 'set session.redis.password (and username), best as ${file:PATH}'],
  NOPERM: ['the user lacks rights', aclLine],
  LOADING: ['it is still loading its data', 'wait, and try again'],
  READONLY: ['it is a replica', 'name the primary, or let Sentinels do so (session.redis.sentinel)'],
  MISCONF: ['it can’t write its data to disk', 'look into the log of Redis: disk full, or no permission'],
  OOM: ['its memory is full', 'give it more memory (maxmemory): sessions can’t be thrown away'],
  NOREPLICAS: ['it has fewer replicas than min-replicas-to-write', 'start the replicas again'],
  DENIED: ['it is in protected mode', 'give its user a password, and let it listen on its own network'],
  MASTERDOWN: ['it is a replica without a primary', 'start the primary'],
  'too many clients': ['it has too many clients', 'raise maxclients there'],
};

function causeOfRedis(reason: string): { says: string; cure: string } {
  const ofSentinels = /^sentinels: (.*)$/.exec(reason)?.[1];
  const known = causes[ofSentinels ?? reason];
  if (ofSentinels === undefined) {
    if (known === undefined) return causeOf(reason);
    const [says, cure] = known;
    return { says: `${reason}, ${says}`, cure };
  }
  const isTheirUser = known !== undefined;
  return {
    says: `the Sentinels: ${isTheirUser ? known[0] : ofSentinels}`,
    cure: `correct ${isTheirUser ? 'username and password' : 'nodes and name'} of session.redis.sentinel${isTheirUser ? '' : ', or start them'}`,
  };
}

/** Without credentials: those are no part of what is kept of the URL. */
function placeOf({ url, sentinel, cluster }: RedisConfig): string {
  return url ?? (sentinel?.nodes ?? cluster ?? []).join(', ');
}

/** Unknown where the user may not ask. */
function isBelow(version: string | undefined, least: string): boolean {
  if (version === undefined) return false;
  const [a = 0, b = 0] = version.split('.').map(Number);
  const [c = 0, d = 0] = least.split('.').map(Number);
  return a < c || (a === c && b < d);
}
