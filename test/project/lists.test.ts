import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createApp } from '../../src/app.ts';
import { parseConfig } from '../../src/config/load.ts';
import { configSchema } from '../../src/config/schema/schema.ts';
import { endpoints } from '../../src/endpoints/list.ts';
import { answers } from '../../src/endpoints/shapes.ts';
import { createMetrics } from '../../src/ops/metrics.ts';
import * as problems from '../../src/problems/errors.ts';

// What is made in one place and used in another: nothing may be forgotten on either side (docs/architecture.md).

const root = resolve(import.meta.dirname, '../..');
const sources = new Map(
  readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [file, readFileSync(join(root, 'src', file), 'utf8')]),
);
const textOf = (isWanted: (file: string) => boolean) =>
  [...sources].flatMap(([file, text]) => (isWanted(file) ? [text] : [])).join('\n');

describe('endpoints', () => {
  const listed = [...new Set(endpoints.map(({ path }) => `/bff${path}`))];

  it('are all that the server serves under /bff', async () => {
    const routed = new Set([...(await routesOf('query')), ...(await routesOf('form_post'))]);
    const own = [...routed].filter((path) => !path.endsWith('*') && path !== '/bff' && !path.includes('forward-auth'));
    expect(new Set(own)).toEqual(new Set(listed));
  });

  it('are documented', () => {
    const page = readFileSync(join(root, 'docs/endpoints.md'), 'utf8');
    const isTold = (name: string) => new RegExp(`\`${name.replace(/[/:]/g, '\\$&')}[\`?]`).test(page);
    const missing = endpoints.filter(({ method, path }) => !isTold(`${method} /bff${path}`));
    // The callback's POST is told of in the row of its GET.
    expect(missing.map(({ method, path }) => `${method} ${path}`)).toEqual(['POST /callback']);
    expect(page).toContain('POST instead with `responseMode: form_post`');
  });
});

it('every shape that an endpoint answers is one that docs and the client package are made from', () => {
  const shapes = answers.map(({ shape }) => shape);
  const unions = endpoints.flatMap(({ answer }) => (answer === undefined ? [] : [answer]));
  const members = unions.flatMap((answer) => (answer instanceof z.ZodUnion ? answer.options : [answer]));
  expect(members.filter((shape) => !shapes.includes(shape as z.ZodType))).toEqual([]);
});

it('every audit word of a log line is in docs/operations.md', () => {
  const page = readFileSync(join(root, 'docs/operations.md'), 'utf8');
  const words = [...textOf(() => true).matchAll(/audit: '([a-z_]+)'/g)].map((match) => match[1] as string);
  expect(words.length).toBeGreaterThan(15);
  expect([...new Set(words)].filter((word) => !page.includes(`\`${word}\``))).toEqual([]);
});

it('every error code is thrown somewhere', () => {
  const users = textOf((file) => file !== 'problems/errors.ts');
  const names = Object.entries(problems).flatMap(([name, value]) =>
    (problems.problemTypes as unknown[]).includes(value) ? [name] : [],
  );
  expect(names).toHaveLength(problems.problemTypes.length);
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(users.replace(/import[^;]*;/g, '')))).toEqual([]);
});

it('no two errors share a code', () => {
  const codes = problems.problemTypes.map((Type) => new Type().code);
  expect(new Set(codes).size).toBe(codes.length);
});

it('every metric is counted somewhere', () => {
  const users = textOf((file) => file !== 'ops/metrics.ts');
  const { contentType: _contentType, render: _render, ...metrics } = createMetrics();
  expect(Object.keys(metrics).filter((name) => !new RegExp(`\\b${name}\\b`).test(users))).toEqual([]);
});

it('every configuration key is read somewhere', () => {
  const users = textOf((file) => !file.startsWith('config/schema/')).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
  const names = new Set<string>();
  collectKeys(z.toJSONSchema(configSchema, { io: 'input' }), names);
  expect(names.size).toBeGreaterThan(100);
  expect([...names].filter((name) => !new RegExp(`\\b${name}\\b`).test(users))).toEqual([]);
});

function collectKeys(node: unknown, names: Set<string>): void {
  if (typeof node !== 'object' || node === null) return;
  const { properties } = node as { properties?: object };
  if (typeof properties === 'object') for (const name of Object.keys(properties)) names.add(name);
  for (const child of Object.values(node)) collectKeys(child, names);
}

/** The paths under /bff of a server. */
async function routesOf(responseMode: string): Promise<string[]> {
  const text = JSON.stringify({
    publicUrl: 'http://localhost:3000',
    authorizationServer: {
      issuer: 'http://localhost:9',
      clientId: 'app',
      clientSecret: 'a-real-one-8s7d6f',
      responseMode,
    },
    session: { keys: [randomBytes(32).toString('base64url')] },
    log: { level: 'silent' },
  });
  const parsed = parseConfig('lists.yaml', text, {});
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const app = await createApp(parsed.config);
  try {
    await app.server.ready();
    return pathsOf(app.server.printRoutes({ commonPrefix: false })).filter((path) => path.startsWith('/bff'));
  } finally {
    await app.close();
  }
}

/** Fastify prints a tree, each branch with the end of its path: `├── login (GET)`. */
function pathsOf(tree: string): string[] {
  const trail: string[] = [];
  return tree.split('\n').flatMap((line) => {
    const [, indent = '', part = '', methods] = /^((?:[│ ] {3})*)[├└]── (\S*)(?: \((.+)\))?/.exec(line) ?? [];
    trail.splice(indent.length / 4, Number.POSITIVE_INFINITY, part);
    return methods === undefined ? [] : [trail.join('')];
  });
}
