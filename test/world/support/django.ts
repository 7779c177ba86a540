import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Started, startProcess, untilAnswers } from '../../support/process.ts';
import { freePort } from '../../support/redis.ts';
import { installPackages } from './python.ts';

const project = join(import.meta.dirname, 'django');
const requirements = join(project, 'requirements.txt');
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
  const python = join(await installPackages(requirements), 'bin/python');
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
