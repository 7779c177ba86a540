import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

// `npm test` needs a Redis and an nginx, `npm run test:e2e` a Chromium, `npm run test:world` also a JVM, Maven and Python.
// This looks for each, installs Debian's package where it may (root and apt-get), and says in one line what to install
// where it may not. It says nothing when all is there.

interface Requirement {
  /** The variable that says where it is already: then nothing is looked for. */
  variable?: string;
  /** Any of these programs on the PATH will do. */
  programs: string[];
  /** What one of them must run without an error, when to be there is not enough. */
  trial?: string[];
  debianPackage: string;
  advice: string;
}

const REQUIREMENTS: Record<string, Requirement> = {
  redis: {
    // REDIS_URL alone is not enough: the outage tests freeze, kill and restart a Redis of their own.
    programs: ['redis-server', 'valkey-server'],
    debianPackage: 'redis-server',
    advice: 'install redis-server (>= 6.2) or valkey-server; with REDIS_URL the other tests use that one',
  },
  nginx: {
    programs: ['nginx'],
    debianPackage: 'nginx',
    advice: 'install nginx (>= 1.18) with its auth_request module, as Debian has it; /usr/sbin is looked into too',
  },
  chromium: {
    variable: 'CHROMIUM_PATH',
    programs: ['chromium'],
    debianPackage: 'chromium',
    advice: 'install chromium, or set CHROMIUM_PATH to the program of a Chromium or Chrome',
  },
  java: {
    programs: ['java'],
    debianPackage: 'openjdk-17-jre-headless',
    advice: 'install a Java runtime, 17 or newer (openjdk-17-jre-headless)',
  },
  maven: {
    programs: ['mvn'],
    debianPackage: 'maven',
    advice: 'install maven (>= 3.6), which fetches Keycloak from Maven Central',
  },
  python: {
    programs: ['python3'],
    // Debian has pip and the rest of a virtual environment in a package of its own.
    trial: ['-c', 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))'],
    debianPackage: 'python3-venv',
    advice: 'install Python >= 3.10 with venv and ensurepip (python3-venv); it fetches Django and FastAPI from PyPI',
  },
};

/** Another apt-get, such as an unattended upgrade, may hold dpkg's lock for a while. */
const LOCK_TIMEOUT_SECONDS = 120;

const names = process.argv.slice(2);
const wanted = names.flatMap((name) => REQUIREMENTS[name] ?? []);
if (names.length === 0 || wanted.length < names.length) {
  console.error(`usage: node scripts/ensure-system.ts ${Object.keys(REQUIREMENTS).join('|')} ...`);
  process.exit(2);
}
process.exitCode = Math.max(...wanted.map((requirement, index) => ensure(names[index] as string, requirement)));

function ensure(what: string, { variable, programs, trial, debianPackage, advice }: Requirement): number {
  const isThere = () => programs.some((program) => isOnPath(program) && works(program, trial));
  if ((variable !== undefined && process.env[variable]) || isThere()) return 0;
  if (process.getuid?.() === 0 && isOnPath('apt-get')) {
    console.error(`The tests need ${what} and there is none: installing Debian's package ${debianPackage}.`);
    const complaint = installPackage(debianPackage);
    // The program decides, not apt-get: a package whose service cannot start, as in a container, counts as failed
    // there. The tests start the program themselves, on a port of their own.
    if (isThere()) return 0;
    if (complaint !== '') console.error(complaint);
  }
  console.error(`The tests need ${what}: ${advice}.`);
  return 1;
}

/** Returns the last lines of what apt-get had to say. */
function installPackage(debianPackage: string): string {
  // Without the update a fresh machine or image knows no packages at all; offline, the lists it has may still do.
  const outputs = [['update'], ['install', '--yes', '--no-install-recommends', debianPackage]].map((command) => {
    const { stdout, stderr, error } = spawnSync(
      'apt-get',
      ['--quiet', '-o', `DPkg::Lock::Timeout=${LOCK_TIMEOUT_SECONDS}`, ...command],
      {
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      },
    );
    return `${stdout ?? ''}${stderr ?? ''}${error?.message ?? ''}`;
  });
  return outputs.join('').trim().split('\n').slice(-8).join('\n');
}

function works(program: string, trial?: string[]): boolean {
  return trial === undefined || spawnSync(program, trial, { stdio: 'ignore' }).status === 0;
}

function isOnPath(program: string): boolean {
  // Debian has servers in /usr/sbin, which is not on every user's PATH.
  return [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'].some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
}
