import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished } from 'vitest';
import type { Finding } from '../../src/check/finding.ts';
import { type Certificates, createCertificates } from '../support/certificates.ts';
import { configOf, sessionKey, startEvil, stopAfterwards } from '../support/check.ts';
import { startEchoUpstream } from '../support/echo-upstream.ts';
import '../support/global-redis.ts';
import { startCloakroom, startProcess, writeConfig } from '../support/process.ts';
import { startRedis, uniqueKeyPrefix } from '../support/redis.ts';
import { startVanishingPeer } from '../support/vanishing-peer.ts';
import type { ConfigData } from '../support/world.ts';

// `cloakroom check`, with and without `--connect`, as operators run it.

let certificates: Certificates;
let folder: string;
beforeAll(async () => {
  certificates = await createCertificates();
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-check-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the command', () => {
  const run = async (data: ConfigData, ...args: string[]) => {
    const written = await writeConfig(data);
    onTestFinished(() => written.remove());
    const began = performance.now();
    const started = startCloakroom('check', '--config', written.file, ...args);
    const code = await started.ended;
    return { code, stdout: started.stdout(), stderr: started.stderr(), seconds: (performance.now() - began) / 1000 };
  };

  it('prints a line for each check, and exits with 0, or 1 when one failed', async () => {
    const provider = await startEvil({ par: true });
    const data = configOf(provider);
    data.session.redis = { url: inject('redisUrl'), keyPrefix: uniqueKeyPrefix() };
    const good = await run(data, '--connect');
    expect([good.code, good.stderr]).toEqual([0, expect.not.stringMatching(/FAIL|at /)]);
    const [valid, ...lines] = good.stdout.trim().split('\n');
    expect(valid).toMatch(/: valid \(1 frontend, 0 APIs\)$/);
    expect(lines.length).toBeGreaterThan(6);
    expect(lines.filter((line) => !/^ok {4}[\w.]+: /.test(line))).toEqual([]);
    data.authorizationServer.clientSecret = 'another-secret-8s7d6f';
    const bad = await run(data, '--connect', '--json');
    expect(bad.code).toBe(1);
    const findings = JSON.parse(bad.stdout) as Finding[];
    expect(findings.filter(({ status }) => status === 'FAIL')).toMatchObject([
      { key: 'authorizationServer.clientAuthentication' },
    ]);
    expect(bad.stdout + bad.stderr).not.toMatch(/another-secret/);
    expect((await run(data)).code).toBe(0); // nobody is asked without --connect
  });

  it.each([
    ['the grace', { shutdown: { grace: '44s' } }, {}, '45s'],
    ['the refresh', {}, { refreshTimeout: '46s' }, '61s'],
  ])('W40 refuses a stop that leaves a refresh no time to finish: %s', async (_what, change, server, least) => {
    const data = Object.assign(configOf(await startEvil()), change);
    Object.assign(data.authorizationServer, server);
    const refused = await run(data);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/ shutdown(\.grace)?: is shorter than one refresh may take /);
    expect(refused.stderr).toContain(`set ${least} or more`);
  });

  it('is done within 10 s when everything is a black hole, or never says a word', async () => {
    const vanishing = await startVanishingPeer();
    const mute = await listen();
    const dripping = createHttpServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const timer = setInterval(() => response.write(' '), 100);
      response.on('close', () => clearInterval(timer));
    });
    await new Promise<void>((resolve) => dripping.listen(0, '127.0.0.1', resolve));
    onTestFinished(async () => {
      dripping.closeAllConnections();
      dripping.close();
      await vanishing.stop();
    });
    const drip = (dripping.address() as { port: number }).port;
    for (const port of [vanishing.port, mute, drip]) {
      const data = configOf({ issuer: `http://127.0.0.1:${port}`, clientId: 'x', clientSecret: 'a-real-one-8s7d6f' });
      data.authorizationServer.timeout = '60s';
      data.shutdown = { grace: '10m' };
      data.session.redis = { url: `redis://127.0.0.1:${port}`, connectTimeout: '60s', commandTimeout: '60s' };
      data.bearerIssuers = {
        jwt: { issuer: `http://127.0.0.1:${port}/`, audiences: ['https://api.example.com'], timeout: '60s' },
      };
      data.apis = {
        orders: {
          path: '/api/orders',
          upstream: port === vanishing.port ? `http://127.0.0.1:${port}` : `https://127.0.0.1:${port}`,
          accept: ['bearer'],
          timeouts: { connect: '60s' },
        },
      };
      const { code, stdout, seconds } = await run(data, '--connect');
      expect(code).toBe(1);
      const failed = stdout.split('\n').filter((line) => line.startsWith('FAIL'));
      expect(failed.map((line) => /^FAIL {2}(\w+)/.exec(line)?.[1]).sort()).toEqual(
        expect.arrayContaining(['apis', 'authorizationServer', 'bearerIssuers', 'session']),
      );
      expect(seconds).toBeLessThan(10);
    }
  }, 60_000);

  /** Takes connections and answers nothing. */
  async function listen(): Promise<number> {
    const server: Server = createServer((socket) => socket.on('error', () => undefined).resume());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    return (server.address() as { port: number }).port;
  }
});

describe('the files, without --connect', () => {
  const problems = async (change: (data: ConfigData) => void): Promise<string[]> => {
    const data = configOf({ issuer: 'https://id.example.com', clientId: 'x', clientSecret: 'a-real-one-8s7d6f' });
    data.apis = { orders: { path: '/api/orders', upstream: 'https://orders:8443' } };
    change(data);
    const written = await writeConfig(data);
    onTestFinished(() => written.remove());
    const started = startCloakroom('check', '--config', written.file);
    const code = await started.ended;
    const lines = started
      .stderr()
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('warning: '));
    expect([code, lines.length > 0]).toEqual([1, true]);
    expect(started.stdout()).toBe('');
    for (const line of lines) expect(line).toMatch(/^\S+\.yaml:\d+:\d+ [\w.]+: .*: /);
    return lines.map((line) => line.replace(/^\S+\.yaml:\d+:\d+ /, ''));
  };

  it('names every file that is missing or is not what it should be, all at once and with their lines', async () => {
    await writeFile(join(folder, 'empty.pem'), '');
    await writeFile(join(folder, 'wrong-key.pem'), certificates.good.key);
    await writeFile(join(folder, 'a-client.pem'), certificates.client.cert);
    const missing = join(folder, 'missing.pem');
    const found = await problems((data) => {
      data.authorizationServer.caFile = missing;
      data.authorizationServer.privateKey = '-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----';
      data.session.redis = { url: 'rediss://redis:6380', caFile: join(folder, 'empty.pem') };
      data.bearerIssuers = { jwt: { issuer: 'https://id.example.com', audiences: ['x'], caFile: folder } };
      data.apis.orders.accept = ['bearer'];
      data.apis.orders.caFile = missing;
      data.apis.pair = {
        path: '/api/pair',
        upstream: 'https://pair',
        clientCertificate: { certFile: join(folder, 'a-client.pem'), keyFile: join(folder, 'wrong-key.pem') },
      };
      data.files = join(folder, 'no-such-build');
      data.listen = { tls: { certFile: join(folder, 'empty.pem'), keyFile: missing } };
    });
    expect(found).toEqual([
      expect.stringMatching(/^authorizationServer\.caFile: can't read .*\(ENOENT\): correct the path/),
      expect.stringMatching(/^authorizationServer\.privateKey: is no PEM \(PKCS #8\) key for RS256: convert it/),
      expect.stringMatching(/^session\.redis\.caFile: .*has no usable PEM: /),
      expect.stringMatching(/^apis\.orders\.caFile: can't read .*\(ENOENT\): /),
      expect.stringMatching(
        /^apis\.pair\.clientCertificate\.keyFile: .*is not the key of the first certificate in certFile: /,
      ),
      expect.stringMatching(/^bearerIssuers\.jwt\.caFile: can't read .*\(EISDIR\): /),
      expect.stringMatching(/^files: the folder can't be read \(ENOENT\): build the SPA first/),
      expect.stringMatching(/^listen\.tls\.certFile: .*has no usable PEM: /),
      expect.stringMatching(/^listen\.tls\.keyFile: can't read .*\(ENOENT\): /),
    ]);
  });

  it('warns of a certificate of listen.tls that browsers refuse, and refuses one that is not that of the key', async () => {
    const [certFile, keyFile] = [join(folder, 'listen.crt'), join(folder, 'listen.key')];
    const told = async ({ cert }: { cert: string }, { key }: { key: string }) => {
      await writeFile(certFile, cert);
      await writeFile(keyFile, key);
      const data = configOf({ issuer: 'https://id.example.com', clientId: 'x', clientSecret: 'a-real-one-8s7d6f' });
      const written = await writeConfig({ ...data, listen: { tls: { certFile, keyFile } } });
      onTestFinished(() => written.remove());
      const started = startCloakroom('check', '--config', written.file);
      return [await started.ended, started.stderr().replace(/^\S+\.yaml:\d+:\d+ /, '')];
    };
    const { wrongName, expired, good } = certificates;
    expect(await told(expired, expired)).toEqual([
      0,
      expect.stringMatching(
        /^warning: listen\.tls\.certFile: .* expired on .*2020.*\nwarning: .* is not for app\.example\.com of/m,
      ),
    ]);
    expect(await told(wrongName, good)).toEqual([
      1,
      expect.stringMatching(
        / listen\.tls\.keyFile: .* is not the key of the first certificate in certFile: pair them$/m,
      ),
    ]);
    const { stdout: weak } = await promisify(execFile)('openssl', [
      ...['req', '-x509', '-newkey', 'rsa:1024', '-nodes', '-subj', '/CN=x', '-keyout', '-'],
    ]);
    expect(await told({ cert: weak }, { key: weak })).toEqual([
      1,
      expect.stringMatching(/ listen\.tls\.certFile: OpenSSL does not take it \(ERR_SSL_EE_KEY_TOO_SMALL\): /),
    ]);
  });

  it('names a folder without index.html, and secrets whose file is not there', async () => {
    expect(await problems((data) => Object.assign(data, { files: folder }))).toEqual([
      expect.stringMatching(/^files: the folder has no index\.html that can be read \(ENOENT\): /),
    ]);
    expect(
      await problems((data) =>
        Object.assign(data.authorizationServer, { clientSecret: '${file:/run/secrets/no-such}' }),
      ),
    ).toEqual([
      expect.stringMatching(/^authorizationServer\.clientSecret: \/run\/secrets\/no-such can't be read \(ENOENT\): /),
    ]);
  });
});

describe('docs/operations.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
  const section = page.slice(page.indexOf('## Is everything there?')).split('\n## ')[0] ?? '';
  const block = (language: string) =>
    new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(section)?.[1] ?? expect.fail(language);

  it('shows what the command prints', async () => {
    const provider = await startEvil({ tls: certificates.good, par: true, clientId: 'shop' });
    const redis = await startRedis();
    const upstream = await startEchoUpstream();
    stopAfterwards(redis, upstream);
    const password = 'password-of-the-user-8s7d6f';
    const admin = new Redis(redis.url);
    const [, rules = ''] = /^ACL SETUSER cloakroom on >PASSWORD (.*)$/m.exec(page) ?? [];
    await admin.call('ACL', 'SETUSER', 'cloakroom', 'on', `>${password}`, ...rules.split(' '), '-zadd');
    admin.disconnect();
    await writeFile(join(folder, 'ca.pem'), certificates.ca);
    const places: [shown: string, real: string][] = [
      ['https://id.example.com', provider.issuer],
      ['id.example.com:443', new URL(provider.issuer).host],
      ['redis://redis:6379', redis.url],
      ['redis:6379', `127.0.0.1:${redis.port}`],
      ['http://orders:8080', upstream.url],
      ['orders:8080', new URL(upstream.url).host],
      ['/etc/ssl/company-ca.pem', join(folder, 'ca.pem')],
      ['${file:/run/secrets/client_secret}', 'an-old-secret-8s7d6f'],
      ['${file:/run/secrets/redis}', password],
    ];
    const config = places.reduce((text, [shown, real]) => text.replaceAll(shown, real), block('yaml'));
    await writeFile(join(folder, 'cloakroom.yaml'), config);
    const [, command = ''] = /-- (.*)/.exec(block('sh')) ?? [];
    const cli = join(import.meta.dirname, '../../scripts/cloakroom.cjs');
    const started = startProcess(process.execPath, [cli, ...command.split(' ')], { CLOAKROOM_KEY: sessionKey }, folder);
    expect(await started.ended).toBe(1);
    const printed = places.reduce((text, [shown, real]) => text.replaceAll(real, shown), started.stdout());
    const [version] = /\d+\.\d+\.\d+(?=: connected)/.exec(block('text')) ?? [];
    const [date] = /\d{4}-\d{2}-\d{2}/.exec(block('text')) ?? [];
    expect(
      printed.replace(/\d+\.\d+\.\d+(?=: connected)/, version ?? '').replace(/\d{4}-\d{2}-\d{2}/, date ?? ''),
    ).toBe(block('text'));
  });
});
