import { type Ratios, type Row, targets } from './row.ts';
import type { Spread } from './statistics.ts';

/** The table for people, as Markdown, so that it can go into docs/performance.md as it is. */
export function buildTable(ratios: Ratios, rows: readonly Row[]): string {
  const plain = rows.filter(({ details }) => details === undefined);
  const others = rows.filter(({ details }) => details !== undefined);
  return [
    alignTable([headings, ...plain.map(cellsOf)]),
    '',
    ...plain.flatMap(({ title, status, note, why = note }) => {
      return why === undefined ? [] : [`- ${title}: ${status === 'measured' ? '' : `${status}: `}${why}`];
    }),
    ...others.map(describeDetails),
    '',
    alignTable([
      ['ratio', 'median', 'must be'],
      ...Object.entries(targets).map(([name, most]) => [name, format(ratios[name as keyof Ratios], 2), `≤ ${most}`]),
    ]),
    '',
  ].join('\n');
}

const headings = [
  '',
  'CPU µs/request',
  '× bare (min–max)',
  'requests/s',
  'p50 ms',
  'p99 ms',
  'RSS MiB',
  'Redis commands',
  'Redis reads',
  'Redis CPU µs',
];

function cellsOf(row: Row): string[] {
  if (row.status !== 'measured') return [row.title, row.status, ...headings.slice(2).map(() => '')];
  return [
    row.title,
    format(row.cpuUs?.median, 1),
    withSpread(row.ratioToBare),
    // Somebody else was the bottleneck: then it could do more.
    `${(row.busy?.median ?? 1) < 0.9 ? '> ' : ''}${format(row.requestsPerSecond?.median, 0)}`,
    format(row.p50Ms?.median, 2),
    format(row.p99Ms?.median, 2),
    format(row.rssMiB?.median, 0),
    format(row.redisCommands?.median, 2),
    format(row.redisReads?.median, 2),
    format(row.redisCpuUs?.median, 1),
  ];
}

function describeDetails({ title, status, why, note, details = {} }: Row): string {
  if (status !== 'measured') return `- ${title}: ${status}: ${why}`;
  const facts = Object.entries(details).map(
    ([name, value]) => `${name} ${isSpread(value) ? withSpread(value) : value}`,
  );
  return `- ${title}: ${facts.join(', ')}${note === undefined ? '' : ` (${note})`}`;
}

function isSpread(value: unknown): value is Spread {
  return typeof value === 'object' && value !== null && 'median' in value;
}

function withSpread(value: Spread | null | undefined): string {
  if (value === null || value === undefined) return '–';
  return `${value.median.toFixed(2)} (${value.min.toFixed(2)}–${value.max.toFixed(2)})`;
}

function format(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined || Number.isNaN(value) ? '–' : value.toFixed(digits);
}

function alignTable(lines: string[][]): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const text = lines.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [text[0], rule, ...text.slice(1)].join('\n');
}
