import { accessSync, constants } from 'node:fs';
import { chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { startProcess } from './process.ts';
import { openRaw } from './raw-client.ts';
import { until } from './wait.ts';

export interface Nginx {
  /** Everything in its error log. */
  errors(): Promise<string>;
  /** Ends it, by its process id. */
  stop(): Promise<void>;
}

export interface NginxOptions {
  /** Where it listens, on 127.0.0.1. */
  port: number;
  /** What stands in `http { }`. `/etc/nginx/` in it is the folder of `files`. */
  http: string;
  /** By name, such as `cloakroom-auth.conf`. */
  files: Record<string, string>;
}

/** `nobody`: a test's nginx needs no rights. */
const nobody = 65_534;

/** Starts the nginx of Debian's package, without rights and in a folder of its own. */
export async function startNginx({ port, http, files }: NginxOptions): Promise<Nginx> {
  const program = findNginx();
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-nginx-'));
  const here = (text: string) => text.replaceAll('/etc/nginx/', `${folder}/`);
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), here(text));
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const errorLog = join(folder, 'error.log');
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${errorLog} info;
events { worker_connections 512; }
http {
access_log off;
${folders.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n')}
${here(http)}
}
`,
  );
  await writeFile(errorLog, '');
  for (const name of folders) await mkdir(join(folder, name));
  const isRoot = process.getuid?.() === 0;
  if (isRoot)
    for (const name of ['', 'nginx.conf', 'error.log', ...folders, ...Object.keys(files)])
      await chown(join(folder, name), nobody, nobody);
  const rights = isRoot ? [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'] : [];
  // A test that fails half way must not leave it running: it ends with the process that started it.
  const command = ['--pdeathsig=KILL', ...rights, program, '-c', join(folder, 'nginx.conf'), '-e', errorLog];
  const started = startProcess('setpriv', command);
  const errors = () => readFile(errorLog, 'utf8');
  const stop = async () => {
    await started.kill();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until(
      async () => {
        if (started.child.exitCode !== null) throw new Error(`nginx ended with ${started.child.exitCode}`);
        return openRaw(port).then(
          (connection) => [connection.close()],
          () => undefined,
        );
      },
      { timeoutMs: 15_000, message: `nginx on port ${port}` },
    );
  } catch (error) {
    const log = await errors();
    await stop();
    throw new Error(`nginx does not answer:\n${log}`, { cause: error });
  }
  return { errors, stop };
}

function findNginx(): string {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  const found = folders
    .map((folder) => join(folder, 'nginx'))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  if (found === undefined) throw new Error('no nginx in the PATH: apt-get install nginx');
  return found;
}
