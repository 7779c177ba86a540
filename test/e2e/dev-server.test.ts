import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'vite';
import { expect } from 'vitest';
import { freePort } from '../support/redis.ts';
import type { ConfigData } from '../support/world.ts';
import { enterPassword } from './support/spa.ts';
import { it as base } from './support/story.ts';

// Issue 14, part 7: a developer's machine, with Cloakroom in front of Vite.

const files = {
  'index.html': `<!doctype html><title>page</title><link rel="icon" href="data:,"><h1></h1><p id="user"></p><a href="/bff/login">Log in</a>
<script type="module" src="/main.ts"></script>`,
  'main.ts': `import { title } from '/title.ts';
const show = (text: string) => (document.querySelector('h1')!.textContent = text);
show(title);
import.meta.hot?.accept('/title.ts', (next) => show(next!.title));
const { user } = await (await fetch('/bff/session')).json();
document.querySelector('#user')!.textContent = user?.sub ?? 'nobody';
`,
  'title.ts': `export const title: string = 'first';\n`,
};

const it = base
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from the pattern what a fixture needs
  .extend('vite', async ({}, { onCleanup }) => {
    const folder = await mkdtemp(join(tmpdir(), 'cloakroom-vite-'));
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const port = await freePort();
    const watch = { usePolling: true, interval: 50 };
    const server = { port, strictPort: true, watch };
    const settings = { root: folder, cacheDir: join(folder, 'cache'), logLevel: 'silent' as const, server };
    const vite = await createServer({ configFile: false, ...settings });
    await vite.listen();
    onCleanup(async () => {
      await vite.close();
      await rm(folder, { recursive: true, force: true });
    });
    return { folder, origin: `http://localhost:${port}` };
  })
  .extend('demoConfig', ({ vite }) => (data: ConfigData) => {
    delete data.files;
    data.devServer = vite.origin;
  });

it('logs in by the page’s link, and shows an edited file without loading the page anew', async ({
  demo,
  visitor,
  vite,
}) => {
  const tab = await visitor.openTab();
  await tab.goto(`${demo.origin}/deep/link`);
  await tab.locator('#user', { hasText: 'nobody' }).waitFor();
  await tab.getByRole('link', { name: 'Log in' }).click();
  await enterPassword(tab, 'alice');
  await tab.locator('#user', { hasText: 'alice' }).waitFor();
  expect(await tab.locator('h1').innerText()).toBe('first');
  await tab.evaluate('window.isSamePage = true');
  await writeFile(join(vite.folder, 'title.ts'), files['title.ts'].replace('first', 'second'));
  await tab.locator('h1', { hasText: 'second' }).waitFor();
  expect(await tab.evaluate('window.isSamePage')).toBe(true);
  expect(await tab.locator('#user').innerText()).toBe('alice');
});
