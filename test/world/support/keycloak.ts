import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Started, startProcess } from '../../support/process.ts';
import { freePort } from '../../support/redis.ts';
import { until } from '../../support/wait.ts';

const VERSION = '26.4.0';
const cache = resolve(import.meta.dirname, '../../../.cloakroom/world');

/** The JVM builds its configuration on the first start; on a busy machine that alone takes minutes. */
const START_TIMEOUT_MS = 480_000;

export interface Keycloak {
  port: number;
  /** Calls its admin API, below `/admin/realms`, and returns what it answers. Throws for any other status than 2xx. */
  admin<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /** Kills it; what is in its database stays for the next `start`. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** A real Keycloak on loopback with this realm, as `kc.sh start-dev --import-realm` makes it. Takes about a minute. */
export async function startKeycloak(realm: string): Promise<Keycloak> {
  const home = await fetchKeycloak();
  await rm(join(home, 'data'), { recursive: true, force: true });
  await mkdir(join(home, 'data/import'), { recursive: true });
  await writeFile(join(home, 'data/import/realm.json'), realm);
  const { realm: name } = JSON.parse(realm) as { realm: string };

  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const [username, password] = ['admin', randomBytes(16).toString('hex')];
  let running: Started | undefined;

  async function start(): Promise<void> {
    const started = launch(home, port, { username, password });
    running = started;
    try {
      await until(
        async () => {
          if (started.child.exitCode !== null) throw new Error(`Keycloak ended with ${started.child.exitCode}`);
          const answer = await fetch(`${url}/realms/${name}/.well-known/openid-configuration`).catch(() => undefined);
          await answer?.body?.cancel();
          return answer?.status === 200;
        },
        { timeoutMs: START_TIMEOUT_MS, message: `the realm ${name} at ${url}` },
      );
    } catch (error) {
      await started.kill();
      throw new Error(`Keycloak does not start:\n${started.stdout()}${started.stderr()}`, { cause: error });
    }
  }
  await start();

  return {
    port,
    async admin(method, path, body) {
      // Each time: an administrator's token lives for a minute only.
      const form = { grant_type: 'password', client_id: 'admin-cli', username, password };
      const login = `${url}/realms/master/protocol/openid-connect/token`;
      const token = await answerOf(await fetch(login, { method: 'POST', body: new URLSearchParams(form) }));
      const { access_token: bearer } = token as { access_token: string };
      const answer = await fetch(`${url}/admin/realms${path}`, {
        method,
        headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return answerOf(answer) as never;
    },
    start,
    kill: async () => running?.kill(),
  };
}

function launch(home: string, port: number, admin: { username: string; password: string }): Started {
  // kc.sh starts the JVM as its child. A test run that is killed must not leave it behind: the shell hears of its
  // parent's death and ends the whole group.
  const endWithParent = `trap 'kill -KILL 0' TERM; "$@" & wait $!`;
  return startProcess(
    'setpriv',
    [
      ...['--pdeathsig=TERM', 'sh', '-c', endWithParent, 'sh'],
      ...[join(home, 'bin/kc.sh'), 'start-dev', '--import-realm'],
      ...['--http-host=127.0.0.1', `--http-port=${port}`],
    ],
    {
      KC_BOOTSTRAP_ADMIN_USERNAME: admin.username,
      KC_BOOTSTRAP_ADMIN_PASSWORD: admin.password,
      JAVA_OPTS_KC_HEAP: '-Xms64m -Xmx512m',
      // It lives for minutes: what the second compiler makes of it comes too late, and takes one of two cores till then.
      JAVA_OPTS_APPEND: '-XX:TieredStopAtLevel=1',
    },
  );
}

async function answerOf(answer: Response): Promise<unknown> {
  const text = await answer.text();
  if (!answer.ok) throw new Error(`Keycloak answers ${answer.status} to ${answer.url}: ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}

/** Its folder; fetched with Maven from Maven Central the first time (160 MB). */
async function fetchKeycloak(): Promise<string> {
  const home = join(cache, `keycloak-${VERSION}`);
  if (existsSync(home)) return home;
  // Unpacked beside and moved, so that a fetch that was interrupted is never taken for a whole one. Maven runs there
  // because the goal leaves its markers in the folder where it runs.
  const cwd = join(cache, `unpacking-${randomBytes(4).toString('hex')}`);
  await mkdir(cwd, { recursive: true });
  const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack';
  const artifact = `-Dartifact=org.keycloak:keycloak-quarkus-dist:${VERSION}:zip`;
  const options = ['--quiet', '--batch-mode', '--strict-checksums'];
  try {
    await promisify(execFile)('mvn', [...options, goal, artifact, `-DoutputDirectory=${cwd}`], { cwd });
    await rename(join(cwd, `keycloak-${VERSION}`), home);
  } catch (error) {
    throw new Error(`no Keycloak: Maven can't fetch it; unpack keycloak-${VERSION}.zip into ${cache}`, {
      cause: error,
    });
  } finally {
    await rm(cwd, { recursive: true, force: true });
  }
  return home;
}
