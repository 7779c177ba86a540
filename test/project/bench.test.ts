import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parseOptions } from '../../bench/options.ts';
import type { Ratios, Row } from '../../bench/row.ts';

// Not what the benchmark measures, only that it still runs: nothing here looks at a time.

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');

describe('npm run bench', () => {
  it('--json prints one document with the ratios and rows, and leaves nothing behind', async () => {
    const options = ['--quick', '--json', '--only', 'redis', '--rounds', '1', '--seconds', '1', '--sessions', '2'];
    const { stdout, stderr } = await run(process.execPath, ['bench/run.ts', ...options], { cwd: root });
    const { ratios, rows, ...others } = JSON.parse(stdout) as { ratios: Ratios; rows: Row[] };

    expect(others).toEqual({});
    expect(Object.keys(ratios)).toEqual(['warm', 'perCall', 'modAuthOpenidc', 'p99', 'workers']);
    expect(ratios.perCall).toBeGreaterThan(0);
    expect(ratios.modAuthOpenidc, 'a row that was not asked for').toBeNull();
    // `measured`: every answer was 200 and came from the upstream, also behind a real login.
    expect(rows.map(({ name, status, why }) => ({ name, status, ...(why === undefined ? {} : { why }) }))).toEqual([
      { name: 'bare', status: 'measured' },
      { name: 'redis', status: 'measured' },
    ]);
    expect(rows[0]?.ratioToBare).toEqual({ median: 1, min: 1, max: 1 });
    expect(rows[1]?.redisCommands?.median).toBeGreaterThanOrEqual(1);

    const folder = /files and logs in (\S+)/.exec(stderr)?.[1] ?? '';
    expect(folder).not.toBe('');
    expect(existsSync(folder)).toBe(false);
  }, 60_000);

  it.each([
    [['--only', 'bare,ngnix'], /no row ngnix; there are bare, /],
    [['--rounds', '0'], /--rounds takes/],
    [['--secs', '1'], /--secs/],
  ])('refuses %j and says why', (args, fault) => {
    const parsed = parseOptions(args, ['bare', 'nginx']);
    expect(parsed.ok ? '' : parsed.fault).toMatch(fault);
  });
});
