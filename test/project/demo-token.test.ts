import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Demo, startDemo } from '../support/demo.ts';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');

let folder: string;
let keyFile: string;
let demo: Demo;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-demo-'));
  keyFile = join(folder, 'tmp', 'key.json');
  demo = await startDemo({ provider: { keyFile } });
});
afterAll(async () => {
  if (existsSync(keyFile)) await demo.stop();
  await rm(folder, { recursive: true });
});

/** As a person types it; what it prints. */
const mint = async (args: string, env: Record<string, string> = {}) => {
  const environment = { ...process.env, DEMO_SIGNING_KEY: keyFile, ...env };
  const { stdout } = await run('npm', ['run', '-s', 'demo:token', '--', ...args.split(' ')], {
    cwd: root,
    env: environment,
  });
  return stdout.trim();
};
const order = async (token: string, method = 'GET', path = '/orders') => {
  const headers = { authorization: `Bearer ${token}` };
  const { status } = await fetch(`${demo.apis.orders.url}${path}`, { method, headers });
  return status;
};

describe('curl examples of docs/apis.md', () => {
  const page = readFileSync(join(root, 'docs/apis.md'), 'utf8');
  const [, section = ''] = /^## By hand.*\n([\s\S]*?)^## /m.exec(page) ?? [];
  const examples = [...section.matchAll(/^```sh\n([\s\S]*?)^```/gm)]
    .flatMap((match) => (match[1] ?? '').split('\n'))
    .filter((line) => line !== '');
  const [token = '', ...calls] = examples;

  it('are some, after a token', () => {
    expect(token).toMatch(/^TOKEN=\$\(npm run -s demo:token -- /);
    expect(calls.map((line) => /# (\d+)/.exec(line)?.[1])).toEqual(['200', '401', '403', '200', '401', '401']);
  });

  it.each(calls)('%s', async (call) => {
    const here = call
      .replace('http://127.0.0.1:9001', demo.apis.orders.url)
      .replace('http://127.0.0.1:9002', demo.apis.catalog.url)
      .replace('http://localhost:8080', demo.origin);
    const env = { ...process.env, DEMO_SIGNING_KEY: keyFile };
    const { stdout } = await run('sh', ['-c', `${token}\n${here}`], { cwd: root, env });
    expect(/^HTTP\/1\.1 (\d+)/.exec(stdout)?.[1]).toBe(/# (\d+)/.exec(call)?.[1]);
  });
});

describe('npm run demo:token', () => {
  it('puts into the token what was asked for, and nothing else decides', async () => {
    const token = await mint('--sub eve --role clerk --role admin --aud orders --ttl 30s');
    const claims = decodeJwt(token);
    expect(claims).toMatchObject({
      iss: demo.issuer,
      sub: 'eve',
      aud: 'urn:cloakroom:demo:orders',
      roles: ['clerk', 'admin'],
    });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(30);
    expect(await order(token, 'DELETE', '/orders/1')).toBe(200);
    expect(decodeJwt(await mint('--sub eve --aud https://else.example')).aud).toBe('https://else.example');
  });

  it.each([
    ['--sub eve --aud orders --rule admin', "Unknown option '--rule'"],
    ['--aud orders', '--sub is missing'],
    ['--sub eve', '--aud is missing'],
    ['--sub eve --aud ordres', 'neither orders nor catalog nor a URI'],
    ['--sub eve --aud orders --ttl 5', 'is not a time such as 30s'],
    ['--sub eve --aud orders --ttl 2h', 'of an hour at most'],
    ['--sub eve --aud orders extra', 'Unexpected argument'],
  ])('explains %s, with the usage', async (args, message) => {
    const failed = mint(args);
    await expect(failed).rejects.toMatchObject({ code: 2, stdout: '' });
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toThrow(/usage: npm run -s demo:token/);
  });
});

describe('the signing key of the demo', () => {
  const refused = async (message: RegExp, env: Record<string, string> = {}) => {
    const failed = mint('--sub eve --aud orders', env);
    await expect(failed).rejects.toMatchObject({ code: 1, stdout: '' });
    await expect(failed).rejects.toThrow(message);
  };

  it('can be read by its owner alone, and is not used in production', async () => {
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    await refused(/NODE_ENV is production/, { NODE_ENV: 'production' });
  });

  it('signs nothing for a provider that is not on loopback, or that has other keys', async () => {
    const { key } = JSON.parse(readFileSync(keyFile, 'utf8'));
    const planted = join(folder, 'planted.json');
    await writeFile(planted, JSON.stringify({ issuer: 'https://id.example.com', key }));
    await refused(/is not on loopback/, { DEMO_SIGNING_KEY: planted });
    await writeFile(planted, JSON.stringify({ issuer: demo.issuer, key: { ...key, kid: 'of another start' } }));
    await refused(/is not the demo that left its key here/, { DEMO_SIGNING_KEY: planted });
  });

  it('goes when the demo stops, and no token is made without the demo', async () => {
    const copy = join(folder, 'copy.json');
    await writeFile(copy, readFileSync(keyFile));
    await demo.stop();
    expect(existsSync(keyFile)).toBe(false);
    await refused(/no demo is running here: start it with/);
    await refused(/no demo answers at/, { DEMO_SIGNING_KEY: copy });
  });
});
