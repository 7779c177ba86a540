import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

// `npm run test:world` is read by people and by programs: its last line must be right, whatever went wrong.

const root = resolve(import.meta.dirname, '../..');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
const reporter = 'test/world/support/table-reporter.ts';

let folder: string | undefined;
afterEach(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true });
  folder = undefined;
});

/** Runs these files as tests, in a vitest of their own with the reporter of the lane. */
function run(files: Record<string, string>): { status: number | null; table: string[] } {
  folder = mkdtempSync(join(tmpdir(), 'cloakroom-world-'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const imports = `import { beforeAll, describe, expect, it } from 'vitest';\n`;
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), imports + text);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const options = ['--root', folder, '--maxWorkers', '1', '--reporter', 'default', '--reporter', join(root, reporter)];
  // The variables of the vitest that runs this test would make the other one a worker of it.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')));
  const { status, stdout } = spawnSync(process.execPath, [vitest, 'run', ...options], { env, encoding: 'utf8' });
  const lines = stdout.trimEnd().split('\n');
  return { status, table: lines.slice(lines.findIndex((line) => line.startsWith('proof '))) };
}

/** The row of a proof, without what it took. */
const row = (name: string, result: string) =>
  expect.stringMatching(new RegExp(`^${name} +│ ${result} +│ +\\d+\\.\\d$`));

describe('what the lane needs', () => {
  it('and is not to be had ends it with one line, not with a green skip', () => {
    folder = mkdtempSync(join(tmpdir(), 'cloakroom-path-'));
    // A Python without `venv`, as Debian installs it, where nothing can be installed.
    writeFileSync(join(folder, 'python3'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const command = [join(root, 'scripts/ensure-system.ts'), 'python'];
    const { status, stderr } = spawnSync(process.execPath, command, { env: { PATH: folder }, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/^The tests need python: install Python >= 3\.10 .*\n$/),
    });
  });
});

describe('the table of npm run test:world', { timeout: 60_000 }, () => {
  it('is wired into that lane only', () => {
    const wired = Object.entries(scripts).filter(([, command]) => command.includes(reporter));
    expect(wired.map(([name]) => name)).toEqual(['test:world']);
    expect(scripts['test:providers']).toBe('npm run test:world -- keycloak.test.ts django.test.ts');
  });

  it('says what a server does not offer, which counts as nothing', () => {
    const { table } = run({ 'django.test.ts': `it('plays', () => {});` });
    expect(table.slice(2, 4)).toEqual([
      row('django: plays', 'passed'),
      expect.stringMatching(/^django: .+ │ not offered by this server │ +$/),
    ]);
    expect(table.at(-1)).toBe('1 passed, 0 failed');
  });

  it('has a row for each proof and ends with the sums', () => {
    const { status, table } = run({
      'keycloak.test.ts': `describe('a login', () => {
        it('works', () => {});
        it('is refused', () => expect(1).toBe(2));
      });`,
      'releases.test.ts': `it('run side by side', () => {});`,
    });
    expect(table[0]).toMatch(/^proof +│ result +│ seconds$/);
    expect(table.slice(2).toSorted()).toEqual([
      '',
      '2 passed, 1 failed',
      row('keycloak: a login > is refused', 'failed'),
      row('keycloak: a login > works', 'passed'),
      row('releases: run side by side', 'passed'),
    ]);
    expect(table.at(-1)).toBe('2 passed, 1 failed');
    expect(status).toBe(1);
  });

  it('counts what failed before any test ran, and after', () => {
    const { status, table } = run({
      'broken.test.ts': `throw new Error('nothing is exported');`,
      'no-peer.test.ts': `beforeAll(() => { throw new Error('no JVM'); }); it('is never reached', () => {});`,
      'late.test.ts': `it('passes', () => { void Promise.reject(new Error('nobody caught this')); });`,
    });
    expect(table.slice(2)).toEqual(
      expect.arrayContaining([
        row('broken', 'failed'),
        row('no-peer', 'failed'),
        row('no-peer: is never reached', 'skipped'),
        row('late: passes', 'passed'),
        row('errors outside of any test', 'failed'),
      ]),
    );
    expect(table.at(-1)).toBe('1 passed, 3 failed');
    expect(status).toBe(1);
  });

  it('ends so too when all is well', () => {
    const { status, table } = run({ 'one.test.ts': `it('passes', () => {});` });
    expect({ status, last: table.at(-1) }).toEqual({ status: 0, last: '1 passed, 0 failed' });
  });
});
