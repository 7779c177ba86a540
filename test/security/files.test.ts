import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// W17: the SPA's files are looked up by their names. What a name looks like to a router, and where a link leads, must
// make no difference to anything else.

let folder: string;
let root: string;
let world: World;

const odd = [
  ':id',
  'star*',
  '*',
  ':id.js',
  'a:b.js',
  '(.*)',
  ':x(^d+$)',
  'a b.txt',
  'ümläut.txt',
  '{x}',
  '[y].css',
  'a+b',
  '$',
  'constructor',
  '__proto__',
  'at@home;v=1',
];
const outside = 'what stands outside';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  root = join(folder, 'real');
  await mkdir(join(root, 'assets/deep'), { recursive: true });
  await mkdir(join(root, '..2024_01/config'), { recursive: true });
  await mkdir(join(folder, 'private'));
  await writeFile(join(folder, 'private/secret.txt'), outside);
  await writeFile(join(folder, 'real-too.txt'), outside); // begins with the folder's own name
  const files = {
    'index.html': 'the SPA',
    'assets/app.4f9c2d1a.js': 'app',
    'assets/index.html': 'the index of assets',
    'assets/deep/:id': 'deep :id',
    '.env': outside,
    '..2024_01/config.json': 'mounted',
    '..2024_01/config/more.json': 'mounted below',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(root, name), text);
  for (const name of odd) await writeFile(join(root, name), `the file ${name}`);
  // As Kubernetes mounts a ConfigMap.
  await symlink('..2024_01', join(root, '..data'));
  await symlink('..data/config.json', join(root, 'config.json'));
  await symlink('..data/config', join(root, 'config'));
  await symlink('assets/app.4f9c2d1a.js', join(root, 'inside.js'));
  await symlink(join(folder, 'private/secret.txt'), join(root, 'leak.txt'));
  await symlink('../private', join(root, 'leaks'));
  await symlink('../real-too.txt', join(root, 'leak-too.txt'));
  await symlink('/dev/zero', join(root, 'zero'));
  await symlink('nowhere', join(root, 'broken'));
  await symlink('.', join(root, 'loop'));
  execFileSync('mkfifo', [join(root, 'fifo')]);
  await writeFile(join(root, 'later.txt'), 'before');
  await symlink(root, join(folder, 'link'));
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      data.files = join(folder, 'link');
    },
  });
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

/** A change of the folder is served once it has settled. */
const untilGot = (path: string, wanted: string | number) =>
  until(async () => Object.values(await get(path)).includes(wanted), {
    timeoutMs: 10_000,
    message: `${path}: ${wanted}`,
  });

async function get(path: string, { isNavigation = false, method = 'GET', lines = [] as string[] } = {}) {
  const mode = isNavigation
    ? ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document']
    : ['Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty'];
  const head = [`${method} ${path} HTTP/1.1`, `Host: localhost:${world.port}`, ...mode, ...lines, '', ''];
  const { status, headers, body } = await rawRequest(world.port, head.join('\r\n'));
  return { status, body, header: (name: string) => headers.find(([one]) => one.toLowerCase() === name)?.[1] };
}

describe('W17 names', () => {
  it.each(odd)('W17 %s is a file and nothing else', async (name) => {
    const path = `/${encodeURIComponent(name)}`;
    expect(await get(path)).toMatchObject({ status: 200, body: `the file ${name}` });
    expect((await get(path.toUpperCase() === path ? `${path}x` : path.toUpperCase())).body).not.toBe(
      `the file ${name}`,
    );
  });

  it('W17 no name stands for another path', async () => {
    for (const path of [
      '/anything',
      '/7',
      '/7.js',
      '/star',
      '/stars',
      '/start/x',
      '/a7',
      '/x/y/z',
      '/assets/deep/7',
      '/toString',
    ]) {
      expect((await get(path)).status, path).toBe(404);
      expect(await get(path, { isNavigation: true }), path).toMatchObject({ status: 200, body: 'the SPA' });
    }
    expect((await get('/assets/deep/:id')).body).toBe('deep :id');
    // Nor does it make a route of ours its own.
    expect((await get('/bff/session')).header('content-type')).toMatch(/json/);
    expect((await get('/api/public')).status).toBe(404);
  });

  it('W17 names are decoded once', async () => {
    expect((await get('/%3Aid')).body).toBe('the file :id');
    expect((await get('/%253Aid')).status).toBe(404);
    expect((await get('/assets%2fapp.4f9c2d1a.js')).body).toBe('app'); // as static hosts have it
    for (const path of ['/assets/../:id', '/..%2fprivate/secret.txt', '/assets%2f..%2f:id'])
      expect((await get(path)).status, path).toBe(400);
  });
});

describe('W17 links', () => {
  it('W17 nothing outside the folder is served, nor what is no file', async () => {
    const paths = [
      '/leak.txt',
      '/leaks/secret.txt',
      '/leaks/',
      '/leak-too.txt',
      '/zero',
      '/fifo',
      '/broken',
      '/.env',
      '/..data/config.json',
      '/loop/index.html',
    ];
    for (const path of paths) {
      const answer = await get(path);
      expect([400, 404], path).toContain(answer.status);
      expect(answer.body, path).not.toContain(outside);
      expect((await get(path, { isNavigation: true })).body, path).not.toContain(outside);
    }
  });

  it('W17 links inside it are, as in a ConfigMap, also after the files were swapped', async () => {
    expect((await get('/config.json')).body).toBe('mounted');
    expect((await get('/config/more.json')).body).toBe('mounted below');
    expect((await get('/inside.js')).body).toBe('app');
    await mkdir(join(root, '..2024_02'));
    await writeFile(join(root, '..2024_02/config.json'), 'mounted anew');
    await symlink('..2024_02', join(root, '..data_tmp'));
    await rename(join(root, '..data_tmp'), join(root, '..data'));
    await untilGot('/config.json', 'mounted anew');
    expect((await get('/config/more.json')).status).toBe(404);
  });

  it('W17 a file that became a link to elsewhere, or a pipe, is one no more', async () => {
    expect((await get('/later.txt')).body).toBe('before');
    await rm(join(root, 'later.txt'));
    await symlink('../private/secret.txt', join(root, 'later.txt'));
    await untilGot('/later.txt', 404);
    await rm(join(root, 'later.txt'));
    await writeFile(join(root, 'later.txt'), 'after');
    await untilGot('/later.txt', 'after');
    await rm(join(root, 'later.txt'));
    execFileSync('mkfifo', [join(root, 'later.txt')]);
    await untilGot('/later.txt', 404);
    await rm(join(root, 'later.txt'));
    await writeFile(join(root, 'later.txt'), 'again');
    await untilGot('/later.txt', 'again');
  });
});

describe('files as before', () => {
  it('W17 have their type, ETag and time to live; HEAD, 304 and ranges', async () => {
    const script = await get('/assets/app.4f9c2d1a.js');
    expect(script).toMatchObject({ status: 200, body: 'app' });
    expect(script.header('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(script.header('content-type')).toMatch(/^(application|text)\/javascript/);
    const etag = script.header('etag') ?? '';
    expect(etag).not.toBe('');
    expect((await get('/assets/app.4f9c2d1a.js', { lines: [`If-None-Match: ${etag}`] })).status).toBe(304);
    const head = await get('/assets/app.4f9c2d1a.js', { method: 'HEAD' });
    expect([head.status, head.body, head.header('content-length')]).toEqual([200, '', '3']);
    expect((await get('/assets/app.4f9c2d1a.js', { lines: ['Range: bytes=1-'] })).body).toBe('pp');
    for (const path of ['/', '/index.html']) {
      const page = await get(path);
      expect(page).toMatchObject({ status: 200, body: 'the SPA' });
      expect(page.header('cache-control')).toBe('no-cache');
      expect(page.header('x-content-type-options')).toBe('nosniff');
    }
    expect((await get('/assets/')).body).toBe('the index of assets');
    expect((await get('/assets')).status).toBe(404);
    expect((await get('/', { method: 'POST' })).status).toBe(404);
  });
});
