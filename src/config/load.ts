import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { isName } from '../crypto/shown.ts';
import { readForwardProxies } from '../outbound/forward-proxy.ts';
import { buildConfig, type Config } from './config.ts';
import { type ConfigDocument, type KeyPath, type Problem, readDocument } from './document.ts';
import { followRedis } from './redis.ts';
import { salvageProblems } from './salvage.ts';
import { configSchema } from './schema/schema.ts';

export type LoadResult =
  | {
      ok: true;
      config: Config;
      warnings: string[];
      /** For what is found wrong later on: with the place of the key in the file. */
      problemAt(path: KeyPath, message: string): Problem;
    }
  | { ok: false; problems: Problem[] };

/**
 * Reads, fills in, checks and completes the configuration. All problems are reported at once.
 * The only place that reads the environment.
 */
export function loadConfig(file: string, env: NodeJS.ProcessEnv = process.env): LoadResult {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    return {
      ok: false,
      problems: [
        {
          file,
          line: 1,
          column: 1,
          key: '',
          message: `can't be read (${code}): name the configuration with --config FILE`,
        },
      ],
    };
  }
  return parseConfig(file, text, env);
}

/** `loadConfig` for text that is at hand already. */
export function parseConfig(file: string, text: string, env: NodeJS.ProcessEnv = process.env): LoadResult {
  const document = readDocument(file, text, env);
  if (document.data === undefined) return { ok: false, problems: document.problems };

  const parsed = parseFilled(document.data);
  const { proxies, faults } = readForwardProxies(env);
  const problems = [...document.problems, ...faults.map((fault) => document.problemAt([], fault))];
  if (!parsed.success) problems.push(...parsed.error.issues.flatMap((issue) => explainIssue(document, issue)));
  const built = parsed.success ? buildConfig(parsed.data, proxies) : undefined;
  const acrossKeys = built?.problems ?? salvageProblems(document.data);
  problems.push(...acrossKeys.map(({ path, message }) => document.problemAt(path, message)));
  if (problems.length > 0 || built === undefined) return { ok: false, problems: inOrder(problems) };
  const { config, warnings } = built;
  const { redis } = config.session;
  if (redis !== undefined) config.session.redis = followRedis(redis, document);
  return { ok: true, config, warnings, problemAt: document.problemAt };
}

/**
 * Validates. What `${env:PORT}` left as text becomes the number or boolean that the schema wants there; YAML itself
 * already made numbers of what was written as such.
 */
function parseFilled(data: unknown): z.ZodSafeParseResult<z.output<typeof configSchema>> {
  const first = configSchema.safeParse(data, { reportInput: true });
  const scalars = (first.error?.issues ?? []).flatMap((issue) => {
    const { path, input } = issue;
    const values = typeof input === 'string' ? expectedTypes(issue).map((expected) => scalarOf(expected, input)) : [];
    const value = values.find((each) => each !== undefined);
    return value === undefined ? [] : [{ path, value }];
  });
  if (scalars.length === 0) return first;
  const copy = structuredClone(data);
  for (const { path, value } of scalars) {
    let holder = copy as Record<PropertyKey, unknown>;
    for (const step of path.slice(0, -1)) holder = holder[step] as Record<PropertyKey, unknown>;
    holder[path.at(-1) as PropertyKey] = value;
  }
  return configSchema.safeParse(copy, { reportInput: true });
}

/** What the schema wanted where something else stood; one of several things, perhaps. */
function expectedTypes(issue: z.core.$ZodIssue): string[] {
  if (issue.code === 'invalid_union') return issue.errors.flat().flatMap(expectedTypes);
  return issue.code === 'invalid_type' ? [issue.expected] : [];
}

function scalarOf(expected: string, text: string): number | boolean | undefined {
  if (/^(number|int)$/.test(expected) && /^\d{1,15}$/.test(text)) return Number(text);
  return expected === 'boolean' && /^(true|false)$/.test(text) ? text === 'true' : undefined;
}

/** `config.yaml:12:5 apis.orders.path: …`, a line a problem. */
export function formatProblem({ file, line, column, key, message }: Problem): string {
  return `${file}:${line}:${column} ${key === '' ? '' : `${key}: `}${message}`;
}

/** By their places in the file. */
export function inOrder(problems: Problem[]): Problem[] {
  return problems.sort((a, b) => a.line - b.line || a.column - b.column);
}

function explainIssue(document: ConfigDocument, issue: z.core.$ZodIssue): Problem[] {
  const path: KeyPath = issue.path;
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) =>
        document.problemAt(
          [...path, key],
          `unknown key${isName(key) ? '' : ' (not shown, because it may be a secret)'}: remove it or correct its spelling${suggestion(path, key)}`,
        ),
      );
    case 'invalid_type':
      return [
        document.problemAt(
          path,
          issue.input === undefined
            ? `is required: add it (${issue.message.startsWith('Invalid input') ? `a ${issue.expected}` : issue.message})`
            : issue.message.startsWith('Invalid input')
              ? `must be a ${issue.expected}, not ${describe(issue.input)}: correct the value`
              : issue.message,
        ),
      ];
    case 'invalid_value':
      return [document.problemAt(path, `must be one of ${issue.values.map(String).join(', ')}`)];
    case 'invalid_key':
      return [document.problemAt(path, issue.issues.map((inner) => inner.message).join('; '))];
    case 'too_small':
    case 'too_big':
      return [
        document.problemAt(path, `${issue.message.replace(/^(Too \w+|Invalid input): /, '')}: correct the value`),
      ];
    default:
      return [document.problemAt(path, issue.message)];
  }
}

function describe(input: unknown): string {
  return input === null ? 'empty' : Array.isArray(input) ? 'a list' : `a ${typeof input}`;
}

/** The known key at this place that is nearest in spelling, so that a typo names its cure. */
function suggestion(path: KeyPath, key: string): string {
  const known = knownKeys(path);
  const near = known.find((candidate) => distance(candidate.toLowerCase(), key.toLowerCase()) <= 2);
  if (near !== undefined) return ` (did you mean ${near}?)`;
  return known.length > 0 && known.length <= 25 ? ` (known here: ${known.join(', ')})` : '';
}

function knownKeys(path: KeyPath): string[] {
  let schema: unknown = configSchema;
  for (const step of path) schema = child(schema, String(step));
  const shape = unwrap(schema)?.shape;
  return shape === undefined ? [] : Object.keys(shape);
}

interface SchemaInside {
  shape?: Record<string, unknown>;
  valueType?: unknown;
  innerType?: unknown;
  element?: unknown;
  in?: unknown;
}

function unwrap(schema: unknown): SchemaInside | undefined {
  const inside = (schema as { def?: SchemaInside } | undefined)?.def;
  if (inside?.innerType !== undefined) return unwrap(inside.innerType);
  if (inside?.in !== undefined) return unwrap(inside.in);
  return inside;
}

function child(schema: unknown, step: string): unknown {
  const inside = unwrap(schema);
  return (
    (Object.hasOwn(inside?.shape ?? {}, step) ? inside?.shape?.[step] : undefined) ??
    inside?.valueType ??
    inside?.element
  );
}

/** Levenshtein distance of two short names. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
