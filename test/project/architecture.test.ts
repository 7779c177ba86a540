import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

// The house rules of docs/architecture.md, kept by a test rather than by good intentions.

const root = resolve(import.meta.dirname, '../..');
const src = join(root, 'src');

interface Module {
  /** Relative to src. */
  path: string;
  text: string;
  lines: number;
  /** Relative to src. */
  imports: string[];
  packages: string[];
}

const modules = new Map(
  listFiles(src)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [relative(src, file), readModule(file)]),
);

/** From the top of the house down: a room may use rooms below it, and its own. */
const floors: string[][] = [
  ['cli.ts', 'server.ts', 'workers.ts'],
  ['app.ts'],
  ['endpoints', 'proxy'],
  ['frontend'],
  ['tokens'],
  ['session', 'oidc'],
  ['http', 'ops', 'redis', 'crypto'],
  ['config'],
];

describe('imports', () => {
  it('point one way: down', () => {
    const wrong: string[] = [];
    for (const { path, imports } of modules.values()) {
      for (const target of imports) {
        const [from, to] = [floorOf(path), floorOf(target)];
        if (from > to) wrong.push(`${path} → ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('do not cross between endpoints and proxy, nor between session and oidc', () => {
    const wrong = [...modules.values()].flatMap(({ path, imports }) =>
      imports
        .filter((target) => {
          const pair = [roomOf(path), roomOf(target)].sort().join(' ');
          return pair === 'endpoints proxy' || pair === 'oidc session';
        })
        .map((target) => `${path} → ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  it('have no cycles', () => {
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (path: string, trail: string[]): void => {
      if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
      if (done.has(path) || trail.includes(path)) return;
      for (const next of modules.get(path)?.imports ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of modules.keys()) visit(path, []);
    expect(cycles).toEqual([]);
  });

  it.each([
    ['openid-client', /^oidc\//],
    ['jose', /^oidc\//],
    ['@fastify/session', /^session\/plugin\.ts$/],
    ['@fastify/http-proxy', /^proxy\/plugin\.ts$/],
    ['ioredis', /^redis\/|^session\/redis-store\.ts$/],
    ['prom-client', /^ops\/(worker-)?metrics\.ts$/],
    ['zod', /^config\/|^endpoints\/shapes\.ts$|^endpoints\/plugin\.ts$/],
  ])('let only the room that owns it use %s', (name, owner) => {
    const users = [...modules.values()].filter(({ packages }) => packages.includes(name)).map(({ path }) => path);
    expect(users.length).toBeGreaterThan(0);
    expect(users.filter((path) => !owner.test(path))).toEqual([]);
  });
});

describe('files', () => {
  it('have at most 300 lines', () => {
    expect(
      [...modules.values()].filter(({ lines }) => lines > 300).map(({ path, lines }) => `${path}: ${lines}`),
    ).toEqual([]);
  });

  it('are named after what they are', () => {
    const vague = /(^|[-/])(utils?|helpers?|common|managers?|services?|base|misc|index)\.ts$/;
    expect([...modules.keys()].filter((path) => vague.test(path))).toEqual([]);
  });

  it('read the environment in config/load.ts only', () => {
    const readers = [...modules.values()].filter(({ text }) => text.includes('process.env')).map(({ path }) => path);
    expect(readers).toEqual(['config/load.ts']);
  });

  it('exit the process in the entry points only', () => {
    const exits = [...modules.values()].filter(({ text }) => text.includes('process.exit(')).map(({ path }) => path);
    expect(exits.filter((path) => path !== 'server.ts' && path !== 'cli.ts')).toEqual([]);
  });

  it('reveal secrets in few places, each of them needed', () => {
    const users = [...modules.values()]
      .filter(({ text }) => text.includes('.reveal()'))
      .map(({ path }) => roomOf(path));
    expect([...new Set(users)].sort()).toEqual(['crypto', 'oidc', 'proxy', 'redis', 'tokens']);
  });

  it('have no leftovers', () => {
    const left = /\b(TODO|FIXME|XXX)\b|\.(only|skip|todo)\(/;
    const files = [...listFiles(src), ...listFiles(join(root, 'test')), ...listFiles(join(root, 'demo'))].filter(
      (file) => file.endsWith('.ts') && file !== import.meta.filename,
    );
    expect(files.filter((file) => left.test(readFileSync(file, 'utf8'))).map((file) => relative(root, file))).toEqual(
      [],
    );
  });
});

function floorOf(path: string): number {
  const floor = floors.findIndex((rooms) => rooms.includes(roomOf(path)));
  if (floor === -1) throw new Error(`${path} is in no room of the house plan: add it to floors, or move it`);
  return floor;
}

function roomOf(path: string): string {
  return path.split('/')[0] as string;
}

function readModule(file: string): Module {
  const text = readFileSync(file, 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] as string);
  const own = specifiers
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => resolve(dirname(file), specifier));
  for (const target of own) if (!existsSync(target)) throw new Error(`${file} imports ${target}, which does not exist`);
  return {
    path: relative(src, file),
    text,
    lines: text.split('\n').length - 1,
    imports: own.map((target) => relative(src, target)),
    packages: specifiers.filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:')),
  };
}

function listFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? listFiles(path) : [path];
  });
}
