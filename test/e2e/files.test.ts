import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { reply } from '../support/echo-upstream/answers.ts';
import { restart } from '../support/restart.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import type { ConfigData, World } from '../support/world.ts';
import { launchChromium } from './support/visitor.ts';

// What Chromium makes of the SPA's files: the content security policy (W65), and a new release under an open tab (W56).

let chromium: Browser;
let tab: Page;
let folder: string;
let world: World | undefined;
let written: ConfigData;
/** What the policy refused in the page. */
let refused: string[];

const pdf = `%PDF-1.1
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj
trailer<</Root 1 0 R>>`;

beforeAll(async () => {
  chromium = await launchChromium();
});
afterAll(() => chromium.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  tab = await (await chromium.newContext()).newPage();
  refused = [];
  tab.on('console', (message) => {
    if (/Content Security Policy|frame-ancestors|X-Frame-Options/i.test(message.text())) refused.push(message.text());
  });
});
afterEach(async () => {
  await tab.context().close();
  await world?.stop();
  world = undefined;
  await rm(folder, { recursive: true });
});

async function start(contentSecurityPolicy?: string): Promise<World> {
  world = await startTimedWorld({
    config: (data) => {
      data.files = contentSecurityPolicy === undefined ? folder : { folder, contentSecurityPolicy };
      written = data;
    },
  });
  return world;
}

const said = () => tab.evaluate<string[]>('window.said ?? []');
const boot = `<script>window.said = ['inline'];</script>
  <script type="module" src="/app.js"></script>`;

it('W65 the inline scripts of the page run under a strict policy, and no others', async () => {
  await writeFile(
    join(folder, 'app.js'),
    `said.push('module'); document.body.insertAdjacentHTML('beforeend', '<b onclick="said.push(1)">x</b><i style="color:red"></i>');`,
  );
  await writeFile(
    join(folder, 'index.html'),
    `<!doctype html><html><style>body{color:rgb(1,2,3)}</style>${boot}<body></body></html>`,
  );
  const { origin } = await start("default-src 'self'");
  await tab.goto(`${origin}/deep/link`);
  await expect.poll(said).toEqual(['inline', 'module']);
  expect(await tab.evaluate('getComputedStyle(document.body).color')).toBe('rgb(1, 2, 3)');
  await tab.locator('b').click();
  await expect.poll(() => refused.length).toBeGreaterThan(0);
  expect(await said()).toEqual(['inline', 'module']);
});

it('W65 each page has a nonce of its own', async () => {
  await writeFile(join(folder, 'app.js'), `said.push('module')`);
  await writeFile(
    join(folder, 'index.html'),
    `<!doctype html><html>${boot.replaceAll('<script', '<script nonce="{{nonce}}"')}<script>said.push('without')</script></html>`,
  );
  const { origin } = await start("script-src 'nonce-{{nonce}}' 'strict-dynamic'");
  const nonces = new Set<string>();
  for (let load = 0; load < 2; load++) {
    const answer = await tab.goto(`${origin}/`);
    await expect.poll(said).toContain('module');
    const headers = await answer!.allHeaders();
    expect(headers['cache-control']).toBe('no-store');
    for (const name of ['etag', 'content-encoding', 'last-modified', 'accept-ranges'])
      expect(headers).not.toHaveProperty(name);
    expect(headers['content-security-policy']).not.toContain('{{');
    nonces.add(/'nonce-([^']+)'/.exec(headers['content-security-policy'] ?? '')?.[1] ?? '');
  }
  expect([nonces.size, nonces.has('')]).toEqual([2, false]);
});

const paths = ['/manual.pdf', '/api/orders/1.pdf'];
const elements = (path: string) => [
  `<embed type="application/pdf" src="${path}">`,
  `<object type="application/pdf" data="${path}"></object>`,
];
/** Chromium's viewer is a page of its own in the page. */
const isShown = () => tab.frames().some((frame) => frame.url().startsWith('chrome-extension://'));
async function show(element: string): Promise<void> {
  await tab.evaluate("document.body.innerHTML = ''");
  await expect.poll(isShown).toBe(false);
  await tab.evaluate(`document.body.innerHTML = ${JSON.stringify(element)}`);
}

async function startWithPdf(contentSecurityPolicy?: string, headers: [string, string][] = []): Promise<void> {
  await writeFile(join(folder, 'manual.pdf'), pdf);
  await writeFile(join(folder, 'index.html'), '<!doctype html><html><body></body></html>');
  const { origin, upstream } = await start(contentSecurityPolicy);
  upstream.respond = reply({ headers: [['content-type', 'application/pdf'], ...headers], body: pdf });
  await tab.goto(`${origin}/bff/login?return_to=/`);
}

it('W65 a PDF of our origin is shown in the page, from the files and from an API', async () => {
  await startWithPdf();
  for (const element of paths.flatMap(elements)) {
    await show(element);
    await expect.poll(isShown, { message: element, timeout: 10_000 }).toBe(true);
  }
  expect(refused).toEqual([]);
});

it('W65 a PDF is not shown where the policy says so, or the API', async () => {
  await startWithPdf("object-src 'none'");
  for (const element of paths.flatMap(elements)) {
    refused.length = 0;
    await show(element);
    await expect.poll(() => refused, { message: element }).toEqual([expect.stringContaining("object-src 'none'")]);
    expect(isShown()).toBe(false);
  }
  await world?.stop();
  await startWithPdf(undefined, [['x-frame-options', 'DENY']]);
  refused.length = 0;
  await show(elements('/api/orders/1.pdf')[0] ?? '');
  await expect.poll(() => refused).toEqual([expect.stringContaining('X-Frame-Options')]);
  expect(isShown()).toBe(false);
});

it('W65 a new policy holds for a page that stayed as it was', async () => {
  await writeFile(join(folder, 'app.js'), `said.push('module')`);
  await writeFile(join(folder, 'index.html'), `<!doctype html><html>${boot}<body></body></html>`);
  const started = await start("script-src 'self'");
  const { origin } = started;
  await tab.goto(origin);
  await expect.poll(said).toEqual(['inline', 'module']);
  await restart(started, { ...written, files: { folder, contentSecurityPolicy: "script-src 'none'" } });
  const answer = await tab.goto(origin);
  expect(answer?.headers()['content-security-policy']).not.toContain("script-src 'self'");
  await expect.poll(() => refused.length).toBeGreaterThan(0);
  expect(await said()).toEqual(['inline']);
  expect(started.log.lines.some(({ status }) => status === 304)).toBe(true); // as the page is the same
});

it('W56 a tab that is open goes on with its release', async () => {
  const write = async (at: string, release: string) => {
    await mkdir(join(at, 'assets'), { recursive: true });
    await writeFile(
      join(at, `assets/main-${release}xYz1aB.js`),
      `window.later = () => import('' + './lazy-${release}xYz2aB.js');`,
    );
    await writeFile(join(at, `assets/lazy-${release}xYz2aB.js`), `export default '${release}';`);
    await writeFile(
      join(at, 'index.html'),
      `<!doctype html><html><title>${release}</title><script type="module" src="/assets/main-${release}xYz1aB.js"></script></html>`,
    );
  };
  const later = (page: Page) => page.evaluate<string>('later().then((found) => found.default)');
  await write(folder, 'A1');
  const { origin } = await start();
  await tab.goto(origin);
  await tab.waitForFunction('window.later');
  await write(join(folder, '.next'), 'B2');
  await rm(join(folder, 'assets'), { recursive: true });
  for (const name of await readdir(join(folder, '.next')))
    await rename(join(folder, '.next', name), join(folder, name));
  const other = await tab.context().newPage();
  await until(async () => (await other.goto(origin)) !== null && (await other.title()) === 'B2', { timeoutMs: 20_000 });
  await other.waitForFunction('window.later');
  expect([await later(tab), await later(other)]).toEqual(['A1', 'B2']);
});
