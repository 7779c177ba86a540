import { readFileSync } from 'node:fs';
import { Agent } from 'undici';
import type { Api } from '../config/config.ts';

/** The connections to one API: its own pool, so that a dead API does not slow another (T98). TLS is verified (S0). */
export function createUpstream(api: Api): Agent {
  return new Agent({
    allowH2: false,
    connections: api.limits.connections,
    pipelining: 1,
    maxHeaderSize: 32 * 1024,
    connect: {
      timeout: api.timeouts.connect,
      rejectUnauthorized: true,
      ...(api.caFile === undefined ? {} : { ca: readFileSync(api.caFile, 'utf8') }),
    },
  });
}
