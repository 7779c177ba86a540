import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Browser, createBrowser } from '../support/browser.ts';
import { findRedisProgram, freePort } from '../support/redis.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { createImageBuilder, type Image } from './compose/image.ts';
import { buildTarget, createStack, readComposeFile } from './compose/stack.ts';

// No Docker engine is at hand where these tests run. So the files are read, their images are built as folders and
// their commands are run as they stand, with other ports so that a demo that is running does not matter.

const project = resolve(import.meta.dirname, '../..');
const compose = readComposeFile(join(project, 'docker-compose.yml'));
const services = Object.entries(compose.services);
const serviceOf = (name: string) => services.find(([each]) => each === name)?.[1];
const CONTAINER_PORTS = [8080, 9000, 9001, 9002, 9090, 6379];

let folder: string;
let builder: ReturnType<typeof createImageBuilder>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-images-'));
  builder = createImageBuilder(project, folder);
  await Promise.all([builder.build(undefined), builder.build('demo')]);
}, 120_000);
afterAll(() => builder.clear());

describe('docker-compose.yml', () => {
  it('names only files, stages, volumes and services that exist', () => {
    for (const [name, service] of services) {
      const needed = Object.entries(service.depends_on ?? {});
      for (const [other, { condition }] of needed) {
        expect(Object.keys(compose.services), `${name} depends on ${other}`).toContain(other);
        const isChecked = serviceOf(other)?.healthcheck?.disable !== true;
        expect(isChecked, `${other} has a health check`).toBe(condition === 'service_healthy');
      }
      const network = service.network_mode ?? 'none';
      expect(['none', ...services.map(([other]) => `service:${other}`)]).toContain(network);
      const target = buildTarget(service);
      if (target !== undefined) expect(builder.stages.map((stage) => stage.name)).toContain(target);
      for (const volume of service.volumes ?? []) {
        const [source = ''] = volume.split(':');
        if (source.startsWith('.')) expect(existsSync(join(project, source)), source).toBe(true);
        else expect(Object.keys(compose.volumes)).toContain(source);
      }
    }
  });

  it.each([
    ['provider', 'demo/provider.ts'],
    ['orders', 'demo/api.ts'],
    ['catalog', 'demo/api.ts'],
  ])('sets no variable for %s that its program does not read', (name, program) => {
    const names = Object.keys(serviceOf(name)?.environment ?? {});
    const [, read = ''] =
      /const \{ ([\w, ]+) \} = process\.env/.exec(readFileSync(join(project, program), 'utf8')) ?? [];
    expect(names.length).toBeGreaterThan(0);
    expect(read.split(', ')).toEqual(expect.arrayContaining(names));
  });

  it('sets for Cloakroom exactly the variables that its configuration refers to', () => {
    const { environment = {}, volumes = [] } = serviceOf('cloakroom') ?? {};
    const [source = ''] = volumes.find((volume) => volume.includes('/etc/cloakroom/config.yaml'))?.split(':') ?? [];
    const config = readFileSync(join(project, source), 'utf8').replaceAll(/^\s*#.*$/gm, '');
    const wanted = new Set([...config.matchAll(/\$\{env:(\w+)\}/g)].map(([, variable]) => variable));
    expect(new Set(Object.keys(environment).map((variable) => variable.replace(/_FILE$/, '')))).toEqual(wanted);
  });

  it('takes from every container what it does not need', () => {
    for (const [name, service] of services) {
      expect(service, name).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      });
      for (const port of service.ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
    }
    const asRoot = services.filter(([, { user, build }]) => user === 'root' || (user ?? build) === undefined);
    expect(asRoot.map(([name]) => name)).toEqual(['key']);
    expect(serviceOf('key')?.network_mode).toBe('none');
  });
});

describe('the images', () => {
  it('hold, for the product, what it runs and nothing else', async () => {
    const image = await builder.build(undefined);
    const { dependencies, devDependencies } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
    expect(readdirSync(image.root)).toEqual(['app']);
    expect(readdirSync(join(image.root, 'app')).toSorted()).toEqual([
      'LICENSE',
      'dist',
      'node_modules',
      'package.json',
    ]);
    for (const name of Object.keys(dependencies))
      expect(existsSync(join(image.root, 'app/node_modules', name)), name).toBe(true);
    for (const name of Object.keys(devDependencies))
      expect(existsSync(join(image.root, 'app/node_modules', name)), name).toBe(false);
  });

  it.each(['demo', undefined])('run without root (%s)', async (target) => {
    const { user, base } = await builder.build(target);
    expect({ user, isNode: /^(build|node:24-[a-z]+-slim)$/.test(base) }).toEqual({ user: 'node', isNode: true });
  });
});

describe('docker compose up', () => {
  let stack: ReturnType<typeof createStack>;
  let browser: Browser;
  let product: Image;
  let filesBefore: string[];
  const ports = new Map<number, number>();
  const portOf = (port: number) => ports.get(port) as number;
  const csrf = { 'x-csrf': '1' };

  beforeAll(async () => {
    // Debian's Redis, or the Valkey of a machine that has that instead.
    const redisProgram = findRedisProgram() ?? 'redis-server';
    for (const port of CONTAINER_PORTS) ports.set(port, await freePort());
    const translate = (text: string, root: string) =>
      text
        .replaceAll(new RegExp(`\\b(${CONTAINER_PORTS.join('|')})\\b`, 'g'), (port) => String(portOf(Number(port))))
        .replaceAll('0.0.0.0', '127.0.0.1')
        .replaceAll('//redis:', '//127.0.0.1:')
        .replace(/^redis-(server|cli)$/, (_program, which) => redisProgram.replace(/server$/, which))
        .replaceAll(/(^|\s)(\/keys|\/etc\/cloakroom)\//g, `$1${root}$2/`);
    browser = createBrowser({ origin: `http://localhost:${portOf(8080)}` });
    stack = createStack({ project, folder, compose, builder, translate });
    product = await stack.imageOf('cloakroom');
    await stack.start('cloakroom');
    await stack.becomesHealthy('cloakroom');
    filesBefore = await readdir(product.root, { recursive: true });
  }, 90_000);
  afterAll(async () => {
    // Also after a start that failed half way.
    await stack.stopAll();
    await browser.close();
  });

  it('answers on every published port', async () => {
    const published = services.flatMap(([, service]) => service.ports ?? []).map((port) => Number(port.split(':')[2]));
    expect(published.toSorted()).toEqual([8080, 9000]);
    for (const port of published) expect(await accepts(portOf(port)), String(port)).toBe(true);
  });

  it('passes the health check that the image brings', async () => {
    const { healthcheck } = product;
    expect(healthcheck?.join(' ')).toContain(':9090/livez');
    const livez = await fetch(`http://127.0.0.1:${portOf(9090)}/livez`);
    expect(livez.status).toBe(200);
  });

  it('lets somebody log in at the provider and call both APIs, with the session in Redis', async () => {
    const form = await browser.login('/');
    expect(new URL(form.url).port).toBe(String(portOf(9000)));
    const page = await browser.navigate(form.url, {
      method: 'POST',
      from: new URL(form.url).origin,
      body: new URLSearchParams({ username: 'bob', password: 'bob' }),
    });
    expect(page.url).toBe(`${browser.origin}/`);
    expect(page.text).toContain('<title>Cloakroom demo</title>');
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true, user: { sub: 'bob' } });
    expect((await browser.fetch('/api/orders/orders', { headers: csrf })).status).toBe(200);
    expect((await browser.fetch('/api/catalog/products', { headers: csrf })).status).toBe(200);
    expect((await browser.fetch('/api/orders/orders/1', { method: 'DELETE', headers: csrf })).status).toBe(403);
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(await dumpRedis(`redis://127.0.0.1:${portOf(6379)}`, 'cr:*')).not.toEqual([]);
  });

  it('keeps the session over a restart of Cloakroom, which stops with exit code 0 on SIGTERM', async () => {
    expect(await stack.stop('cloakroom')).toBe(0);
    expect(await accepts(portOf(8080))).toBe(false);
    // `docker compose up` runs the service that makes the key again: it must not make another one.
    expect(await stack.stop('key')).toBe(0);
    await stack.start('cloakroom');
    await stack.becomesHealthy('cloakroom');
    expect((await browser.fetch('/api/orders/me', { headers: csrf })).json()).toMatchObject({ claims: { sub: 'bob' } });
  });

  it('logs out, at the provider too', async () => {
    const answer = await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
    const { endSessionUrl } = answer.json<{ endSessionUrl: string }>();
    expect(new URL(endSessionUrl).port).toBe(String(portOf(9000)));
    expect((await browser.navigate(endSessionUrl, { from: browser.origin })).text).toContain('Log out?');
    expect((await browser.fetch('/api/orders/me', { headers: csrf })).status).toBe(401);
  });

  it('writes nothing into the image: a read-only root is enough', async () => {
    expect(await readdir(product.root, { recursive: true })).toEqual(filesBefore);
    expect(stack.logOf('cloakroom')).not.toMatch(/"level":"(error|fatal)"/);
  });
});

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = createConnection(port, '127.0.0.1', () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
