import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { logInTimes } from '../logins.ts';
import type { BenchOptions } from '../options.ts';
import { untilListens } from '../processes.ts';
import { profileFlags } from '../profile.ts';
import { apiPath, buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Absent, Subject } from '../subjects.ts';

/** Which of Cloakroom's modes. */
export interface Mode {
  store: 'memory' | 'redis';
}

const program = resolve(import.meta.dirname, '../../src/cli.ts');

/** A real `cloakroom start` with a configuration of the documented kind, and sessions that logged in at the provider. */
export function startCloakroom(mode: Mode): (stage: Stage, options: BenchOptions) => Promise<Subject | Absent> {
  return async (stage, options) => {
    if (mode.store === 'redis' && stage.redis === undefined)
      return { absent: 'there is no Redis: apt-get install redis-server' };
    const port = stage.takePort();
    const name = `cloakroom-${mode.store}-${port}`;
    const file = join(stage.folder, `${name}.yaml`);
    writeFileSync(file, stringify(buildConfig(stage, mode, port)));
    const logFile = join(stage.folder, `${name}.log`);
    const running = stage.processes.start({
      command: process.execPath,
      args: [...profileFlags(options, name), program, 'start', '--config', file],
      cores: 'proxy',
      logFile,
    });
    await untilListens(port, running, name);
    const cookies = await logInTimes(options.sessions, `http://localhost:${port}/bff/login?return_to=/`);
    return { port, running, logFile, requests: buildRequests(port, cookies) };
  };
}

/** Every protection at its default. Only the limit of logins a minute is raised, because all users log in from here. */
function buildConfig(stage: Stage, { store }: Mode, port: number): unknown {
  return {
    publicUrl: `http://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    ops: { host: '127.0.0.1', port: 0 },
    authorizationServer: {
      issuer: stage.provider.issuer,
      clientId: stage.client.id,
      clientSecret: stage.client.secret,
      scopes: ['openid', 'profile', 'email', 'orders'],
    },
    session: {
      keys: [randomBytes(32).toString('base64url')],
      ...(store === 'redis' ? { redis: { url: stage.redis?.url, keyPrefix: `bench-${port}:` } } : {}),
    },
    limits: { loginsPerMinute: 100_000 },
    // Same path at the upstream, as with the proxies that rewrite nothing.
    apis: { orders: { path: apiPath, upstream: stage.upstream.guardedUrl, rewritePath: apiPath } },
  };
}
