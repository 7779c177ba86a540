import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
} from 'yaml';
import { isName, shownKey, shownPath } from '../crypto/shown.ts';

/** One thing that is wrong with the configuration: where it is, and what to do about it. */
export interface Problem {
  file: string;
  line: number;
  column: number;
  /** Path of the key, `apis.orders.path`; empty for the whole file. */
  key: string;
  message: string;
}

/** A problem of several keys together; it gets its place in the file later. */
export interface CrossProblem {
  path: PropertyKey[];
  message: string;
}

export type KeyPath = readonly PropertyKey[];

/** A parsed YAML file that still knows where each key stands. */
export interface ConfigDocument {
  file: string;
  /** Plain data, with `${env:}` and `${file:}` filled in. */
  data: unknown;
  problems: Problem[];
  problemAt(path: KeyPath, message: string): Problem;
  /** What stands at `path`, with the references filled in again: files may have other contents by now. */
  fillAgain(path: KeyPath): { data: unknown; problems: Problem[] };
}

/** By itself the parser prints keys that are no texts as warnings of the process. */
const yamlOptions = { uniqueKeys: true, strict: true, logLevel: 'error' } as const;

/** Reads YAML 1.2 text. Duplicate keys, syntax errors and references that lead nowhere become problems. */
export function readDocument(file: string, text: string, env: NodeJS.ProcessEnv): ConfigDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, { ...yamlOptions, lineCounter: lines });
  const problems: Problem[] = [];
  const at = (offset: number, key: string, message: string): Problem => {
    const { line, col } = lines.linePos(offset);
    return { file, line, column: col, key, message };
  };
  const problemAt = (path: KeyPath, message: string) =>
    at(offsetOf(document, path), path.map(shownKey).join('.'), message);

  for (const error of [...document.errors, ...document.warnings]) {
    problems.push(at(error.pos[0], '', yamlFault(error.code)));
  }
  const unreadable = { file, data: undefined, problems, problemAt, fillAgain: () => ({ data: undefined, problems }) };
  if (problems.length > 0) return unreadable;
  const plain = resolveAliases(document);
  if (plain === undefined) {
    problems.push(at(0, '', 'has an alias (*name) that leads nowhere, or aliases that multiply: write the values out'));
    return unreadable;
  }
  const sources = { env, folder: dirname(resolve(file)) };
  const data = fill(plain.data, [], (path, message) => problems.push(problemAt(path, message)), sources);
  const fillAgain = (path: KeyPath) => {
    let part = plain.data;
    for (const step of path) part = (part as Record<PropertyKey, unknown> | undefined)?.[step];
    const found: Problem[] = [];
    const filled = fill(part, path, (at, message) => found.push(problemAt(at, message)), sources);
    return { data: filled, problems: found };
  };
  return { file, data, problems, problemAt, fillAgain };
}

/** The yaml library throws for an alias without anchor and for alias bombs. */
function resolveAliases(document: Document.Parsed): { data: unknown } | undefined {
  try {
    return { data: document.toJS({ maxAliasCount: 20 }) };
  } catch {
    return undefined;
  }
}

/** Offset of the key at `path`, or of the nearest parent that exists when the key is missing. */
function offsetOf(document: Document.Parsed, path: KeyPath): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(step)];
      if (item === undefined) break;
      if (isNode(item)) offset = item.range?.[0] ?? offset;
      node = item;
    } else break;
  }
  return offset;
}

interface Sources {
  env: NodeJS.ProcessEnv;
  folder: string;
}

/** `__proto__`, `constructor`, …: a rule, API or frontend of that name would be dropped, or found where there is none. */
const inherited = new Set(Object.getOwnPropertyNames(Object.prototype));

const reference = /\$\{(env|file):([^}]*)\}/g;

/** Replaces references in every string. A value never passes through YAML, so it can't add keys. */
function fill(
  value: unknown,
  path: KeyPath,
  report: (path: KeyPath, message: string) => void,
  sources: Sources,
): unknown {
  if (typeof value === 'string') {
    return value.replace(reference, (whole, kind: string, name: string) => {
      const found = kind === 'env' ? fromEnvironment(name, sources.env) : fromFile(name, sources.folder);
      if (found.value !== undefined) return found.value;
      report(path, found.why);
      return whole;
    });
  }
  if (Array.isArray(value)) return value.map((item, index) => fill(item, [...path, index], report, sources));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, item]) => {
        if (!inherited.has(key)) return [[key, fill(item, [...path, key], report, sources)]];
        report(
          [...path, key],
          'unknown key: every object has one of this name, so nothing may be called so: rename it',
        );
        return [];
      }),
    );
  }
  return value;
}

type Found = { value: string; why?: never } | { value?: never; why: string };

/** `NAME`, or the content of the file that `NAME_FILE` names: the convention of container secrets. */
function fromEnvironment(name: string, env: NodeJS.ProcessEnv): Found {
  const value = env[name];
  if (value !== undefined && value !== '') return { value };
  const file = env[`${name}_FILE`];
  if (file !== undefined && file !== '') return fromFile(file);
  const shown = isName(name.toLowerCase()) && !/[a-z][A-Z]|[A-Z][a-z]/.test(name) ? name : undefined;
  if (shown === undefined) return { why: 'the environment variable that is named here is not set: set it' };
  return {
    why: `\${env:${shown}}: the environment variable is not set: set ${shown}, or ${shown}_FILE to the path of a file that has the value`,
  };
}

function fromFile(path: string, folder = '.'): Found {
  try {
    return { value: readFileSync(resolve(folder, path), 'utf8').replace(/\r?\n$/, '') };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    return { why: `${shownPath(path)} can't be read (${code}): create the file or correct the path` };
  }
}

/**
 * What is wrong with YAML, in our words: the parser's own quote the text around the fault, and that may be a secret
 * without quotes, a tag or an anchor that was meant as a value (L6, W15).
 */
const yamlFaults: Partial<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias has an anchor or tag',
  BAD_ALIAS: 'an alias or anchor has no proper name',
  BAD_COLLECTION_TYPE: 'a tag does not fit what it stands at',
  BAD_DIRECTIVE: 'a line that begins with % is a directive, and not a known one',
  BAD_DQ_ESCAPE: 'an unknown escape in double quotes',
  BAD_INDENT: 'the indentation does not fit',
  BAD_PROP_ORDER: 'an anchor or tag stands in the wrong place',
  BAD_SCALAR_START: 'a value begins with a character that needs quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a value stands where a key was expected',
  BLOCK_IN_FLOW: 'a block inside brackets',
  DUPLICATE_KEY: 'a key stands there twice, and keys must be unique',
  KEY_OVER_1024_CHARS: 'a key is too long',
  MISSING_CHAR: 'a quote, bracket, comma, colon or space is missing',
  MULTILINE_IMPLICIT_KEY: 'a key runs over several lines',
  MULTIPLE_ANCHORS: 'two anchors at one value',
  MULTIPLE_DOCS: 'there are several documents',
  MULTIPLE_TAGS: 'two tags at one value',
  NON_STRING_KEY: 'a key is no text',
  TAB_AS_INDENT: 'a tab in the indentation',
  TAG_RESOLVE_FAILED: 'Unresolved tag',
  UNEXPECTED_TOKEN: 'something stands where nothing was expected',
};

function yamlFault(code: ErrorCode): string {
  return `is not valid YAML: ${yamlFaults[code] ?? 'it can’t be read here'}: correct the line, or quote the value`;
}
