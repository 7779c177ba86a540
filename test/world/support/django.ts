import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Started, startProcess, untilAnswers } from '../../support/process.ts';
import { freePort } from '../../support/redis.ts';

const project = join(import.meta.dirname, 'django');
const requirements = join(project, 'requirements.txt');
const cache = resolve(import.meta.dirname, '../../../.cloakroom/world');
const run = promisify(execFile);

/** What changes between two starts of the site, as a deployment changes its settings. */
export interface DjangoSettings {
  accessTokenSeconds: number;
  /** PEM. The first signs. */
  signingKeys: string[];
}

export interface Django {
  port: number;
  settings: DjangoSettings;
  /** Calls one of the operations of `django/shop.py`. */
  operate<T = unknown>(operation: string, parameters: unknown): Promise<T>;
  /** Kills it; its database stays for the next `start`. */
  kill(): Promise<void>;
  /** With the settings as they are now. */
  start(): Promise<void>;
  /** Kills it and removes what it had. */
  remove(): Promise<void>;
}

/** The site of the folder `django` on loopback, with a database of its own. */
export async function startDjango(): Promise<Django> {
  const python = join(await installDjango(), 'bin/python');
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-django-'));
  const port = await freePort();
  const operatorKey = randomBytes(16).toString('hex');
  const secret = randomBytes(32).toString('hex');
  const settings: DjangoSettings = { accessTokenSeconds: 60, signingKeys: [createSigningKey()] };
  let running: Started | undefined;

  const environment = () => ({
    DJANGO_SETTINGS_MODULE: 'settings',
    PYTHONDONTWRITEBYTECODE: '1',
    SHOP_SECRET_KEY: secret,
    SHOP_DATABASE: join(folder, 'db.sqlite3'),
    SHOP_SIGNING_KEY: settings.signingKeys[0] as string,
    SHOP_OLD_SIGNING_KEYS: JSON.stringify(settings.signingKeys.slice(1)),
    SHOP_ACCESS_TOKEN_SECONDS: String(settings.accessTokenSeconds),
    SHOP_OPERATOR_KEY: operatorKey,
  });
  await run(python, ['-m', 'django', 'migrate', '-v0'], { cwd: project, env: { ...process.env, ...environment() } });

  async function start(): Promise<void> {
    const address = `127.0.0.1:${port}`;
    // Ends with this process, as Keycloak does.
    const command = ['--pdeathsig=KILL', python, '-m', 'django', 'runserver', '--noreload', address];
    running = startProcess('setpriv', command, environment(), project);
    await untilAnswers(`http://${address}/o/.well-known/openid-configuration`, 200, running, 60_000);
  }
  const kill = async () => running?.kill();
  await start();

  return {
    port,
    settings,
    async operate(operation, parameters) {
      const answer = await fetch(`http://127.0.0.1:${port}/operator/${operation}`, {
        method: 'POST',
        headers: { 'x-operator-key': operatorKey, 'content-type': 'application/json' },
        body: JSON.stringify(parameters),
      });
      if (!answer.ok) throw new Error(`${operation} answers ${answer.status}:\n${running?.stderr()}`);
      return (await answer.json()) as never;
    },
    kill,
    start,
    async remove() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export function createSigningKey(): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
}

/** A virtual environment with these very packages; made with pip from PyPI the first time. */
async function installDjango(): Promise<string> {
  const version = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const home = join(cache, `django-${version}`);
  const done = join(home, 'done');
  if (existsSync(done)) return home;
  // Its scripts have its path in them, so it can't be moved: a mark says that it is whole.
  await rm(home, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  try {
    await run('python3', ['-m', 'venv', home]);
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:'];
    await run(join(home, 'bin/python'), [...pip, '--requirement', requirements]);
    await rename(await mkdtemp(join(cache, 'mark-')), done);
  } catch (error) {
    throw new Error(`no Django: pip can't fetch what ${requirements} names`, { cause: error });
  }
  return home;
}
