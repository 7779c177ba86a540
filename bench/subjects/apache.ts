import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { logInTimes } from '../logins.ts';
import { findProgram } from '../machine.ts';
import type { BenchOptions } from '../options.ts';
import { untilListens } from '../processes.ts';
import { apiPath, buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Absent, Subject } from '../subject.ts';
import { fillTemplate } from '../upstream.ts';

/** Where distributions put Apache's modules: Debian, Fedora, Alpine, Arch. */
const moduleFolders = [
  '/usr/lib/apache2/modules',
  '/usr/lib64/httpd/modules',
  '/usr/lib/apache2',
  '/usr/lib/httpd/modules',
];

// One process; two to eight with as many threads together, and prefork, took the same time for each request.
const servers = 1;
const threads = 64;

/** The folder with mod_auth_openidc in it. */
export function findApacheModules(): string | undefined {
  return moduleFolders.find((folder) => existsSync(join(folder, 'mod_auth_openidc.so')));
}

/** mod_auth_openidc on Redis behind real logins, `peers/apache-mod-auth-openidc.conf`. */
export async function startApache(stage: Stage, options: BenchOptions): Promise<Subject | Absent> {
  const apache = findProgram('apache2', 'httpd');
  const modules = findApacheModules();
  if (apache === undefined || modules === undefined)
    return { absent: 'not installed: apt-get install apache2 libapache2-mod-auth-openidc' };
  if (stage.redis === undefined) return { absent: 'there is no Redis: apt-get install redis-server' };
  const port = stage.takePort();
  const logFile = join(stage.folder, 'apache-access.log');
  const file = fillTemplate('apache-mod-auth-openidc.conf', stage.folder, {
    FOLDER: stage.folder,
    PORT: String(port),
    MODULES: modules,
    USER: process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : '',
    SERVERS: String(servers),
    THREADS: String(threads),
    WORKERS: String(servers * threads),
    LOG: logFile,
    ISSUER: stage.provider.issuer,
    CLIENT_ID: stage.client.id,
    CLIENT_SECRET: stage.client.secret,
    PASSPHRASE: randomBytes(32).toString('hex'),
    REDIS_PORT: String(stage.redis.port),
    UPSTREAM: stage.upstream.guardedUrl,
  });
  const running = stage.processes.start({ command: apache, args: ['-f', file, '-DFOREGROUND'], cores: 'proxy' });
  await untilListens(port, running, 'Apache');
  try {
    const cookies = await logInTimes(options.sessions, `http://localhost:${port}${apiPath}/1`);
    return { port, running, logFile, requests: buildRequests(port, cookies) };
  } catch (error) {
    const log = readFileSync(join(stage.folder, 'apache-error.log'), 'utf8');
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${log.slice(-3000)}`);
  }
}
