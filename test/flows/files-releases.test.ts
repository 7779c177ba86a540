import { readdirSync, readlinkSync } from 'node:fs';
import { appendFile, cp, mkdir, mkdtemp, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { request } from 'undici';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { configOf } from '../support/config-data.ts';
import { startProcess, untilAnswers, writeConfig } from '../support/process.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// W56: a new build comes into the folder while browsers load pages. Whatever they load is of one release.

let parent: string;
let folder: string;
let world: World;

/** As Vite builds: a page, its script, and a chunk that the script loads later. Both names change with each release. */
function build(release: string): Record<string, string> {
  const [main, lazy] = [`index-${release}xYz1aB.js`, `lazy-${release}xYz2aB.js`];
  return {
    'assets/config.json': `{"release":"${release}"}`,
    [`assets/${main}`]: `/* ${release} */ import("./${lazy}")${' '.repeat(2000)}`,
    [`assets/${lazy}`]: `/* ${release} */`,
    'index.html': `<!doctype html><html><head><script type="module" src="/assets/${main}"></script></head></html>`,
  };
}

async function write(at: string, files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(at, name)), { recursive: true });
    await writeFile(join(at, name), text);
  }
}

async function start(replicas = 1): Promise<void> {
  world = await startWorld({ store: 'memory', replicas, config: (data) => Object.assign(data, { files: folder }) });
}

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'cloakroom-releases-'));
  folder = join(parent, 'dist');
  await write(folder, build('A1'));
});
afterEach(async () => {
  await world.stop();
  await rm(parent, { recursive: true });
});

async function get(
  path: string,
  replica = 0,
): Promise<{ status: number; text: string; header: (n: string) => unknown }> {
  const answer = await request(`http://127.0.0.1:${world.ports[replica]}${path}`, {
    headers: { host: new URL(world.origin).host, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' },
  });
  return { status: answer.statusCode, text: await answer.body.text(), header: (name) => answer.headers[name] };
}

/** What a browser does with the page, to the last chunk. The release that it saw. */
async function load(pageOf = 0, assetsOf = pageOf): Promise<string> {
  const page = await get('/', pageOf);
  const main = /src="([^"]+)"/.exec(page.text)?.[1] ?? 'no script';
  const script = await get(main, assetsOf);
  expect([page.status, script.status, main], page.text).toEqual([200, 200, main]);
  const lazy = /import\("\.([^"]+)"\)/.exec(script.text)?.[1] ?? 'no chunk';
  const chunk = await get(`/assets${lazy}`, assetsOf);
  expect([chunk.status, lazy]).toEqual([200, lazy]);
  const release = /\/\* (\w+) \*\//.exec(script.text)?.[1];
  expect(chunk.text).toBe(`/* ${release} */`);
  return release ?? '';
}

/** Loads pages for so long: all of them are of this release. */
async function keepLoading(ms: number, wanted: string): Promise<void> {
  for (const end = performance.now() + ms; performance.now() < end; ) expect(await load()).toBe(wanted);
}

const untilServed = (release: string) =>
  until(async () => (await load()) === release, { timeoutMs: 15_000, message: `release ${release}` });

describe('W56 a new build', () => {
  it('W56 is copied over the old one, the page first, with a pause', async () => {
    await start();
    const { 'index.html': index = '', ...others } = build('B2');
    await write(folder, { 'index.html': index });
    await keepLoading(4000, 'A1');
    for (const [name, text] of Object.entries(others)) {
      await write(folder, { [name]: text });
      await keepLoading(400, 'A1');
    }
    await untilServed('B2');
  });

  it('W56 comes without the chunk that is loaded later, for a while', async () => {
    await start();
    const { 'assets/lazy-B2xYz2aB.js': lazy = '', ...others } = build('B2');
    await write(folder, others);
    await keepLoading(5000, 'A1');
    await write(folder, { 'assets/lazy-B2xYz2aB.js': lazy });
    await untilServed('B2');
  });

  it('W56 comes after the folder was removed', async () => {
    await start();
    await rm(folder, { recursive: true });
    await keepLoading(3000, 'A1');
    await write(folder, build('B2'));
    await untilServed('B2');
  });

  it('W56 has a page of which only half is written', async () => {
    await start();
    await write(folder, build('B2'));
    await truncate(join(folder, 'index.html'), 40);
    await keepLoading(4000, 'A1');
    await write(folder, build('B2'));
    await untilServed('B2');
  });

  it('W56 is led to by a link', async () => {
    await rename(folder, join(parent, 'release-1'));
    await write(join(parent, 'release-2'), build('B2'));
    await symlink('release-1', folder);
    await start();
    await symlink('release-2', join(parent, 'next'));
    await rename(join(parent, 'next'), folder);
    await rm(join(parent, 'release-1'), { recursive: true });
    await untilServed('B2');
  });

  it('W56 is mounted by Kubernetes', async () => {
    const names = ['index.html', 'assets'];
    await rm(folder, { recursive: true });
    for (const [at, release] of [
      ['..1', 'A1'],
      ['..2', 'B2'],
    ] as const)
      await write(join(folder, at), build(release));
    await symlink('..1', join(folder, '..data'));
    for (const name of names) await symlink(`..data/${name}`, join(folder, name));
    await start();
    expect(await load()).toBe('A1');
    await symlink('..2', join(folder, '..data_tmp'));
    await rename(join(folder, '..data_tmp'), join(folder, '..data'));
    await rm(join(folder, '..1'), { recursive: true });
    await untilServed('B2');
  });

  it('W55 has files of the same length and date', async () => {
    const epoch = async () => {
      for (const name of Object.keys(build('A1'))) await utimes(join(folder, name), 0, 0).catch(() => undefined);
    };
    await write(folder, { 'plain.js': 'release(1)' });
    await utimes(join(folder, 'plain.js'), 0, 0);
    await epoch();
    await start();
    const { header } = await get('/plain.js');
    await writeFile(join(folder, 'plain.js'), 'release(2)');
    await utimes(join(folder, 'plain.js'), 0, 0);
    await until(async () => (await get('/plain.js')).text === 'release(2)', { timeoutMs: 10_000 });
    expect((await get('/plain.js')).header('etag')).not.toBe(header('etag'));
  });
});

describe('W56 the last release', () => {
  it('W56 goes on for those who have its page, but only what is named after its content', async () => {
    await write(folder, { 'old.txt': 'old' });
    await start();
    await cp(folder, join(parent, 'copy'), { recursive: true });
    await rm(folder, { recursive: true });
    await write(folder, build('B2'));
    await untilServed('B2');
    expect((await get('/assets/lazy-A1xYz2aB.js')).text).toBe('/* A1 */');
    expect((await get('/assets/lazy-A1xYz2aB.js')).header('cache-control')).toContain('immutable');
    expect((await get('/old.txt')).status).toBe(404);
    expect((await get('/assets/config.json')).text).toContain('B2');
    // And after one more, and when it comes back.
    await rm(folder, { recursive: true });
    await write(folder, build('C3'));
    await untilServed('C3');
    expect((await get('/assets/lazy-A1xYz2aB.js')).text).toBe('/* A1 */');
    await rm(folder, { recursive: true });
    await rename(join(parent, 'copy'), folder);
    await untilServed('A1');
    expect((await get('/old.txt')).text).toBe('old');
  });

  it('W56 is the only one while the new one has no script', async () => {
    await start();
    await rm(join(folder, 'assets'), { recursive: true });
    const { 'index.html': index = '' } = build('B2');
    await write(folder, { 'index.html': index, 'assets/index-B2xYz1aB.js': '' });
    await keepLoading(4000, 'A1');
  });
});

it('W56 a replica that has not switched has the files of one that has', async () => {
  await start(2);
  await write(folder, build('B2'));
  const seen = new Set<string>();
  await until(
    async () => {
      seen.add(await load(0, 1));
      seen.add(await load(1, 0));
      return seen.has('B2') && (await load(0)) === 'B2' && (await load(1)) === 'B2';
    },
    { timeoutMs: 15_000 },
  );
  // Nothing that lies elsewhere comes in by that way.
  await writeFile(join(parent, 'secret-4f9c2d1a.js'), 'secret');
  await symlink('../secret-4f9c2d1a.js', join(folder, 'leak-4f9c2d1a.js'));
  await writeFile(join(folder, '.hidden-4f9c2d1a.js'), 'hidden');
  await writeFile(join(folder, 'seen-4f9c2d1a.js'), 'seen');
  await until(async () => (await get('/seen-4f9c2d1a.js')).status === 200);
  for (const path of [
    '/.hidden-4f9c2d1a.js',
    '/leak-4f9c2d1a.js',
    '/..%2fsecret-4f9c2d1a.js',
    '/assets/../../secret-4f9c2d1a.js',
  ])
    expect([400, 404]).toContain((await get(path)).status);
});

describe('W56 what is never whole', () => {
  it('W56 a style sheet that is empty, as of Angular, and a script that an API serves hold no release up', async () => {
    const page = (release: string) => {
      const { 'index.html': index = '', ...others } = build(release);
      const head = '<head><link rel="stylesheet" href="/styles-5INURTSO.css"><script src="/api/settings.js"></script>';
      return { ...others, 'styles-5INURTSO.css': '', 'index.html': index.replace('<head>', head) };
    };
    await rm(folder, { recursive: true });
    await write(folder, page('A1'));
    await start();
    await write(folder, page('B2'));
    await until(async () => (await get('/')).text.includes('index-B2'), { timeoutMs: 15_000 });
  });

  it('W56 a folder that is written to while Cloakroom starts', async () => {
    const large = join(folder, 'large.bin');
    await writeFile(large, Buffer.alloc(20_000_000));
    let isWriting = true;
    const writing = (async () => {
      for (const end = performance.now() + 1500; performance.now() < end; ) await appendFile(large, 'more');
      isWriting = false;
    })();
    await start();
    expect(isWriting).toBe(false);
    expect(world.app.server.initialConfig.pluginTimeout).toBe(0); // nor does Fastify give it up after ten seconds
    expect(await load()).toBe('A1');
    await writing;
  });

  it('W56 builds that were given up leave no copies behind', async () => {
    const copies = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        try {
          return /cloakroom-[0-9a-f]{32}/.test(readlinkSync(`/proc/self/fd/${fd}`));
        } catch {
          return false; // closed meanwhile
        }
      }).length;
    await start();
    const before = copies();
    for (const name of ['gone-4f9c2d1a.js', 'gone-5f9c2d1a.js']) {
      await write(folder, { '.vite/manifest.json': JSON.stringify({ 'main.ts': { file: name } }) });
      await until(() => copies() > before, { timeoutMs: 15_000 });
      await rm(join(folder, '.vite'), { recursive: true });
      await until(() => copies() === before, { timeoutMs: 15_000 });
    }
  });
});

it('W56 a file that is there before its release is whole for all who ask at once, and not kept for a year', async () => {
  await start();
  const text = `/* next */${'x'.repeat(3_000_000)}`;
  await write(folder, { 'next-4f9c2d1a.js': text });
  await until(async () => (await get('/next-4f9c2d1a.js')).status === 200);
  await write(folder, { 'more-4f9c2d1a.js': text });
  const ask = () => Promise.all(Array.from({ length: 20 }, () => get('/more-4f9c2d1a.js')));
  const answers = await until(async () => [await ask()].find((all) => all.some(({ status }) => status === 200)));
  for (const answer of answers.filter(({ status }) => status === 200)) {
    expect(answer.text === text).toBe(true);
    expect(answer.header('cache-control')).toBe('no-cache');
  }
  await until(async () => String((await get('/more-4f9c2d1a.js')).header('cache-control')).includes('immutable'), {
    timeoutMs: 15_000,
  });
});

it('W56 where there is no room for a copy it is said what to do, once', async () => {
  await writeFile(join(folder, 'large.bin'), Buffer.alloc(3_000_000));
  world = await startWorld({ store: 'memory' });
  const [port, opsPort] = [await freePort(), await freePort()];
  const data = { ...configOf({ ...world, port, opsPort }), files: folder };
  const written = await writeConfig(data);
  onTestFinished(written.remove);
  // Files of 1 MB and no larger: as little as a small tmpfs has.
  const start = () => {
    const shell = 'ulimit -f 1000; exec "$0" scripts/cloakroom.cjs start --config "$1"';
    const started = startProcess('bash', ['-c', shell, process.execPath, written.file]);
    onTestFinished(() => started.kill());
    return started;
  };
  const full = start();
  expect(await full.ended).toBe(1);
  expect(full.stderr()).toMatch(/files: no room .*TMPDIR/);
  await rm(join(folder, 'large.bin'));
  const running = start();
  await untilAnswers(`http://127.0.0.1:${opsPort}/readyz`, 200, running);
  const told = () => running.stdout().match(/files: [^"]*TMPDIR[^"]*/g)?.length ?? 0;
  for (const name of ['large.bin', 'larger.bin']) await writeFile(join(folder, name), Buffer.alloc(3_000_000));
  await until(() => told() > 0, { timeoutMs: 15_000 });
  const since = performance.now();
  await until(() => performance.now() - since > 7000, { timeoutMs: 10_000 }); // tried once more meanwhile
  await rm(join(folder, 'larger.bin'));
  await writeFile(join(folder, 'sign.txt'), 'x');
  await rm(join(folder, 'large.bin'));
  const served = () => /files: a new release/.test(running.stdout());
  await until(served, { timeoutMs: 15_000 });
  expect(told()).toBe(1);
});
