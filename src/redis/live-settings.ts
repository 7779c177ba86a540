import type { RedisConfig } from '../config/config.ts';
import { readCertificates } from '../outbound/pem.ts';

/** The configuration with what stands in files of its own (secrets, the CA) as it is there now. */
export interface LiveSettings {
  config: RedisConfig;
  /** PEM; only with TLS. */
  ca?: string;
  /** What can't be read now, and is as it was. Holds no secret. */
  fault?: string;
}

/**
 * Reads the files again with each call: a password or CA that was replaced needs no restart (W36). While one can't be
 * read, because it is just being replaced, the last good one serves. Throws only at first.
 */
export function followFiles(config: RedisConfig): () => LiveSettings {
  let last: Omit<LiveSettings, 'fault'> = { config, ...readCa(config) };
  return () => {
    try {
      const now = config.readAgain?.() ?? config;
      last = { ...last, config: now };
      last = { config: now, ...readCa(now) };
      return last;
    } catch (error) {
      return { ...last, fault: error instanceof Error ? error.message : 'unknown' };
    }
  };
}

export function isTls({ url, sentinel, cluster }: RedisConfig): boolean {
  return (url ?? sentinel?.nodes[0] ?? cluster?.[0] ?? '').startsWith('rediss:');
}

function readCa(config: RedisConfig): { ca?: string } {
  if (config.caFile === undefined || !isTls(config)) return {};
  return { ca: readCertificates('session.redis.caFile', config.caFile) };
}
