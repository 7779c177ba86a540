import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

interface Row {
  scenario: string;
  did: string;
  saw: string;
  expected: string;
  ok: boolean;
}

/** vitest `globalSetup`: a file for the rows of `observe`, printed as a table when all tests are over. */
export default async function provideFaultTable(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-faults-'));
  const file = join(folder, 'rows.jsonl');
  project.provide('faultTable', file);
  return async () => {
    const text = await readFile(file, 'utf8').catch(() => '');
    const rows = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Row);
    if (rows.length > 0) process.stdout.write(`\n${formatTable(rows)}\n`);
    await rm(folder, { recursive: true, force: true });
  };
}

const widths = { scenario: 34, did: 46, saw: 46, expected: 46, ok: 3 };
const columns = Object.keys(widths) as (keyof Row)[];

/** Plain text with wrapped cells. */
export function formatTable(rows: Row[]): string {
  const line = (cells: Record<keyof Row, string>): string => {
    const wrapped = columns.map((name) => wrap(cells[name], widths[name]));
    const height = Math.max(...wrapped.map((lines) => lines.length));
    return Array.from({ length: height }, (_, at) =>
      columns
        .map((name, index) => (wrapped[index]?.[at] ?? '').padEnd(widths[name]))
        .join(' │ ')
        .trimEnd(),
    ).join('\n');
  };
  const rule = columns.map((name) => '─'.repeat(widths[name])).join('─┼─');
  const head = line({ scenario: 'scenario', did: 'did', saw: 'saw', expected: 'expected', ok: 'ok' });
  return [head, ...rows.map((row) => `${rule}\n${line({ ...row, ok: row.ok ? 'yes' : 'NO' })}`)].join('\n');
}

function wrap(text: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}
