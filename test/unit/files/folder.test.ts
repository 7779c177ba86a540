import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listFolder } from '../../../src/files/folder.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-folder-'));
  await writeFile(join(folder, 'index.html'), 'page');
});
afterAll(() => rm(folder, { recursive: true }));

describe('listFolder', () => {
  it('W56 is empty where there is no folder', async () => {
    expect([...(await listFolder(join(folder, 'none'))).keys()]).toEqual([]);
    expect([...(await listFolder(folder)).keys()]).toEqual(['index.html']);
  });

  it('W56 takes a process without descriptors for no empty folder', async () => {
    const module = resolve(import.meta.dirname, '../../../src/files/folder.ts');
    const program = `
      const { openSync } = await import('node:fs');
      const { listFolder } = await import(${JSON.stringify(module)});
      try { for (;;) openSync('/dev/null'); } catch {}
      await listFolder(${JSON.stringify(folder)}).then(({ size }) => console.log(size), ({ code }) => console.log(code));
    `;
    const limited = ['-c', 'ulimit -n 100 && exec "$0" --input-type=module -e "$1"', process.execPath, program];
    expect((await promisify(execFile)('/bin/sh', limited)).stdout).toBe('EMFILE\n');
  });
});
