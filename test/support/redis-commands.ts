import { Redis } from 'ioredis';

/** Commands of connections and of whoever counts; everything else is work that a request caused. */
const housekeeping = /^(info|hello|client|command|auth|select|ping|quit|config|monitor|cluster|subscribe|ssubscribe)\b/;

/** How many commands a private Redis has run, those inside scripts included. */
export async function countCommands(url: string): Promise<number> {
  const redis = new Redis(url);
  try {
    const stats = await redis.info('commandstats');
    return [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)]
      .filter(([, name = '']) => !housekeeping.test(name))
      .reduce((sum, [, , calls]) => sum + Number(calls), 0);
  } finally {
    redis.disconnect();
  }
}
