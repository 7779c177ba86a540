import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

const cache = resolve(import.meta.dirname, '../../../.cloakroom/world');
const run = promisify(execFile);

/**
 * The folder of a virtual environment with these very packages; made with pip from PyPI the first time. It is named after
 * the folder of `requirements`.
 */
export async function installPackages(requirements: string): Promise<string> {
  const name = basename(dirname(requirements));
  const version = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const home = join(cache, `${name}-${version}`);
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
    throw new Error(`no ${name}: pip can't fetch what ${requirements} names`, { cause: error });
  }
  return home;
}
