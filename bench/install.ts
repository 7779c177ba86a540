import { spawnSync } from 'node:child_process';
import { findProgram } from './machine.ts';
import { findApacheModules } from './subjects/apache.ts';

/** Debian packages of what the bench can use and this machine lacks. */
export function missingPackages(): string[] {
  const missing = (name: string, ...programs: string[]) => (findProgram(...programs) === undefined ? [name] : []);
  return [
    ...missing('redis-server', 'redis-server', 'valkey-server'),
    ...missing('nginx-light', 'nginx'),
    ...missing('apache2', 'apache2', 'httpd'),
    ...(findApacheModules() === undefined ? ['libapache2-mod-auth-openidc'] : []),
    ...missing('wrk', 'wrk'),
  ];
}

/** Only with `--install`. The services that some of these packages would start are not: the bench starts its own. */
export function installPackages(packages: string[], progress: (line: string) => void): void {
  if (process.getuid?.() !== 0 || findProgram('apt-get') === undefined) {
    progress('--install needs root and apt-get: nothing is installed');
    return;
  }
  progress(`installing ${packages.join(' ')} with apt-get`);
  for (const args of [['update'], ['install', '--yes', '--no-install-recommends', ...packages]]) {
    const { status, stderr } = spawnSync('apt-get', ['--quiet', ...args], {
      encoding: 'utf8',
      // RUNLEVEL=1: Debian's policy is to start no service then (invoke-rc.d(8)).
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
    });
    if (status !== 0)
      progress(`apt-get ${args[0]} ended with ${status}: ${stderr.trim().split('\n').slice(-3).join(' ')}`);
  }
}
