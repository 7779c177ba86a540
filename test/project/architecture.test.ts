import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

// The house rules of docs/architecture.md, kept by a test rather than by good intentions.

const root = resolve(import.meta.dirname, '../..');
const src = join(root, 'src');

interface Module {
  /** Relative to src, or to the root for those of everywhere. */
  path: string;
  text: string;
  lines: number;
  /** As the path. */
  imports: string[];
  packages: string[];
}

const modules = new Map(
  listFiles(src)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [relative(src, file), readModule(file)]),
);

/** The whole repository, for what holds outside of src too. Relative to the root. */
const everywhere = new Map(
  ['src', 'packages', 'bench', 'demo', 'scripts', 'test']
    .flatMap((folder) => listFiles(join(root, folder)))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [relative(root, file), readModule(file, root)]),
);

const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8');

/** Room → what it may import, as the table of docs/architecture.md says. */
const rooms = new Map(
  [...page.matchAll(/^\| `([a-z/]+)` \| [^|]+ \|([^|]*)\|$/gm)].map(([, room = '', names = '']) => [
    room,
    [...names.matchAll(/`([a-z/]+)`/g)].map((match) => match[1] as string),
  ]),
);
/** The commands, the process and the composition root stand above all rooms. */
const entrances = ['cli.ts', 'server.ts', 'workers.ts', 'app.ts'];

describe('rooms', () => {
  it('are those of the table', () => {
    const built = new Set([...modules.keys()].map(roomOf).filter((room) => !entrances.includes(room)));
    expect([...built].sort()).toEqual([...rooms.keys()].sort());
  });

  it('import what the table says, no more and no less', () => {
    for (const [room, may] of rooms) {
      const imported = [...modules.values()].filter(({ path }) => roomOf(path) === room).flatMap((one) => one.imports);
      const others = new Set(imported.map(roomOf).filter((other) => other !== room));
      expect([room, ...[...others].sort()]).toEqual([room, ...may.sort()]);
    }
  });

  it('import only rooms that stand below them in the table', () => {
    const order = [...rooms.keys()];
    const wrong = [...rooms].flatMap(([room, may]) =>
      may.filter((other) => order.indexOf(other) < order.indexOf(room)).map((other) => `${room} → ${other}`),
    );
    expect(wrong).toEqual([]);
  });

  it('have at most ten files', () => {
    const sizes = [...rooms.keys()].map((room) => [room, [...modules.keys()].filter((p) => roomOf(p) === room).length]);
    expect(sizes.filter(([, size]) => Number(size) > 10)).toEqual([]);
  });
});

describe('the ways through the house', () => {
  const section = page.slice(page.indexOf('## The ways through the house'), page.indexOf('## Where a change belongs'));
  const ways = [...section.matchAll(/^- \*\*([^*]+)\*\*(.*)$/gm)].map(([, name = '', text = '']) => ({
    name,
    hops: [...text.matchAll(/`([a-z]+\/[a-z-]+)`/g)].map((match) => `${match[1]}.ts`),
  }));

  it.each(['API call', 'Login', 'Back-channel logout'])('tell of: %s', (wanted) => {
    expect(ways.map(({ name }) => name)).toContain(wanted);
  });

  it.each(ways)('$name has at most eight hops, each of them a file', ({ hops }) => {
    expect(hops.length).toBeGreaterThan(2);
    expect(hops.length).toBeLessThanOrEqual(8);
    expect(hops.filter((hop) => !modules.has(hop))).toEqual([]);
  });
});

describe('imports', () => {
  it('have no cycles', () => {
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (path: string, trail: string[]): void => {
      if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
      if (done.has(path) || trail.includes(path)) return;
      for (const next of everywhere.get(path)?.imports ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of everywhere.keys()) visit(path, []);
    expect(cycles).toEqual([]);
  });

  it.each([
    ['openid-client', /^(oidc|bearer|issuer)\//],
    ['jose', /^(oidc|bearer|issuer)\//],
    ['@fastify/session', /^session\/plugin\.ts$/],
    ['@fastify/http-proxy', /^proxy\/plugin\.ts$/],
    ['ioredis', /^redis\//],
    ['prom-client', /^ops\/(worker-)?metrics\.ts$/],
    ['zod', /^config\/|^endpoints\/(shapes|list)\.ts$/],
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

  it('W8 read the address of a peer or client in http/client-address.ts only', () => {
    const other = /\bremoteAddress\b|\brequest\.ips?\b|\{[^}]*\bips?\b[^}]*\}: FastifyRequest|\btrustProxy\b/;
    const readers = [...modules.values()].filter(({ text }) => other.test(text)).map(({ path }) => path);
    expect(readers).toEqual(['http/client-address.ts']);
  });

  it('exit the process in the entry points only', () => {
    const exits = [...modules.values()].filter(({ text }) => text.includes('process.exit(')).map(({ path }) => path);
    expect(exits.filter((path) => path !== 'server.ts' && path !== 'cli.ts')).toEqual([]);
  });

  it('reveal secrets in few places, each of them needed', () => {
    const users = [...modules.values()]
      .filter(({ text }) => text.includes('.reveal()'))
      .map(({ path }) => roomOf(path));
    expect([...new Set(users)].sort()).toEqual([
      'bearer',
      'crypto',
      'exchange',
      'issuer',
      'oidc',
      'outbound',
      'proxy',
      'redis',
      'tokens',
    ]);
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

function roomOf(path: string): string {
  return path.includes('/') ? dirname(path) : path;
}

function readModule(file: string, base = src): Module {
  const text = readFileSync(file, 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] as string);
  const own = specifiers
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => resolve(dirname(file), specifier));
  for (const target of own) if (!existsSync(target)) throw new Error(`${file} imports ${target}, which does not exist`);
  return {
    path: relative(base, file),
    text,
    lines: text.split('\n').length - 1,
    imports: own.map((target) => relative(base, target)),
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
