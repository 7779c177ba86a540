import { Cluster, type Redis } from 'ioredis';
import type { RedisClient, RedisLog } from './client.ts';

/** Policies that never throw away a session that has not nearly ended anyway. */
export const harmlessPolicies = ['noeviction', 'volatile-ttl'];

/**
 * Warns when Redis may throw sessions away to make room: those users are logged out, and their provider sessions are
 * no longer found by a back-channel logout. Asked on every connection, as another server may have another policy.
 */
export function warnAboutEviction(client: RedisClient, log: RedisLog): void {
  const warned = new Set<string>();
  const check = async () => {
    const servers = client instanceof Cluster ? client.nodes('master') : [client];
    for (const policy of await Promise.all(servers.map(evictionPolicy))) {
      if (policy === undefined || harmlessPolicies.includes(policy) || warned.has(policy)) continue;
      warned.add(policy);
      log.warn(
        { maxmemoryPolicy: policy, fix: 'CONFIG SET maxmemory-policy noeviction' },
        'redis evicts sessions when its memory is full: set maxmemory-policy to noeviction',
      );
    }
  };
  if (client.status === 'ready') void check();
  client.on('ready', () => void check());
}

/** From INFO, as managed servers forbid CONFIG. `undefined` when this user may not ask: then nobody can tell. */
async function evictionPolicy(server: Redis): Promise<string | undefined> {
  const memory = await server.info('memory').catch(() => '');
  return /^maxmemory_policy:([\w-]+)/m.exec(memory)?.[1];
}
