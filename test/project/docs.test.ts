import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { configSchema } from '../../src/config/schema/schema.ts';

// What README and docs claim is run here, so that it stays true.

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];
const read = (page: string) => readFileSync(join(root, page), 'utf8');
const blocks = (page: string, language: string) =>
  [...read(page).matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1] as string,
  );
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };

const key = randomBytes(32).toString('base64url');
const environment = {
  ISSUER: 'https://id.example.com',
  CLIENT_ID: 'app',
  CLIENT_SECRET: 'a-real-one-8s7d6f',
  CLOAKROOM_KEY: key,
  FORWARD_AUTH_KEY: randomBytes(32).toString('base64url'),
};

/** As GitHub makes them: lower case, no punctuation, a hyphen for each space. */
const anchorsOf = (page: string) =>
  [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-'),
  );

/** Other programs' YAML has none of these keys. */
const isOurs = (text: string) => Object.keys(parse(text)).some((name) => name in configSchema.shape);

/** A page may show a part, such as the `apis` alone: what it leaves out is added. */
function completed(text: string): string {
  const part = parse(text);
  if ('publicUrl' in part || 'frontends' in part) return stringify({ session: { keys: [key] }, ...part });
  const { authorizationServer, session } = part;
  return stringify({
    ...part,
    publicUrl: 'https://app.example.com',
    authorizationServer: {
      issuer: 'https://id.example.com',
      clientId: 'app',
      clientSecret: 'a-real-one-8s7d6f',
      ...authorizationServer,
    },
    session: { keys: [key], ...session },
  });
}

describe.each(pages)('%s', (page) => {
  it('links to files that exist', () => {
    const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)].map((match) => match[1] as string);
    expect(links.filter((link) => !existsSync(resolve(root, dirname(page), link)))).toEqual([]);
  });

  it('links to headings that exist', () => {
    const links = [...read(page).matchAll(/\]\((?!https?:)([^)#]*)#([^)]+)\)/g)].map(([, file = '', anchor]) => ({
      target: file === '' ? page : join(dirname(page), file),
      anchor,
    }));
    const broken = links.filter(({ target, anchor }) => !anchorsOf(target).includes(anchor ?? ''));
    expect(broken).toEqual([]);
  });

  it('names npm scripts that exist', () => {
    const named = [...read(page).matchAll(/npm run (?:-s )?([a-z][a-z0-9:]*)/g)].map((match) => match[1] as string);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  it('shows configurations that are valid', () => {
    for (const block of blocks(page, 'yaml').filter(isOurs)) {
      const parsed = parseConfig(page, completed(block.replace(/\$\{file:[^}]+\}/g, 'a-real-one-8s7d6f')), environment);
      expect(parsed.ok ? [] : parsed.problems.map(formatProblem)).toEqual([]);
    }
  });
});

it('every page is in the index of docs/', () => {
  const index = read('docs/README.md');
  const names = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md') && name !== 'README.md');
  expect(names.filter((name) => !index.includes(`](${name})`))).toEqual([]);
});

describe('commands of the README', () => {
  const cli = (args: string[], env: Record<string, string> = {}) =>
    run('npm', ['run', '-s', 'cloakroom', '--', ...args], { cwd: root, env: { ...process.env, ...env } });

  it('keygen prints a key that the configuration accepts', async () => {
    const { stdout } = await cli(['keygen']);
    const { stdout: checked } = await cli(['check', '--config', 'config/local.yaml'], {
      ...environment,
      CLOAKROOM_KEY: stdout.trim(),
    });
    expect(checked).toContain('valid (1 frontend, 1 API)');
  });

  it('check names what is missing, with its line and cure', async () => {
    const failed = cli(['check', '--config', 'config/local.yaml'], { ...environment, CLOAKROOM_KEY: '' });
    await expect(failed).rejects.toMatchObject({ code: 1 });
    await expect(failed).rejects.toThrow(/config\/local\.yaml:\d+:\d+ session\.keys\.0: .*set CLOAKROOM_KEY/);
  });
});

it('generated pages and the schema are what the code says', async () => {
  await expect(run(process.execPath, ['scripts/generate-docs.ts', '--check'], { cwd: root })).resolves.toBeTruthy();
});

it('CI runs the README’s test command, the type check, lint, drift check and browser tests', () => {
  const ci = read('.ci/run');
  expect(blocks('README.md', 'sh').join('\n')).toContain('npm ci && npm test');
  for (const command of [
    'npm ci',
    'npm test',
    'npm run -s typecheck',
    'npm run -s lint',
    'npm run -s docs:check',
    'npm run test:e2e',
  ]) {
    expect(ci).toContain(command);
  }
});
