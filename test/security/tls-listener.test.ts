import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { WebSocket } from 'ws';
import { stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { openListenerTls } from '../../src/listener/tls.ts';
import { createBrowser } from '../support/browser.ts';
import { type Certificates, createCertificates, type KeyAndCertificate } from '../support/certificates.ts';
import { configOf } from '../support/config-data.ts';
import { hang } from '../support/echo-upstream/answers.ts';
import { startEchoUpstream } from '../support/echo-upstream.ts';
import { startCloakroom, untilAnswers, writeConfig } from '../support/process.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { freePort, uniqueKeyPrefix } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

// Issue 14, part 8: `listen.tls`, where no terminator is in front.

const run = promisify(execFile);

let certificates: Certificates;
let folder: string;
let rsa: KeyAndCertificate;
let world: World;
let origin: string;

const file = (name: string) => join(folder, name);
const save = async (name: string, { cert, key }: KeyAndCertificate) => {
  await writeFile(file(`${name}.crt`), cert);
  await writeFile(file(`${name}.key`), key);
  return { certFile: file(`${name}.crt`), keyFile: file(`${name}.key`) };
};

async function startTlsWorld(tls: object, config: WorldOptions['config'] = () => undefined): Promise<World> {
  return startWorld({
    store: 'memory',
    config(data) {
      data.publicUrl = data.publicUrl.replace('http:', 'https:');
      data.listen.tls = tls;
      data.cookie = { name: '__Host-cloakroom' };
      config(data);
    },
  });
}

beforeAll(async () => {
  certificates = await createCertificates();
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-listen-'));
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', file('rsa.key'), '-out', file('rsa.crt')];
  await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...names, ...files]);
  rsa = { cert: await readFile(file('rsa.crt'), 'utf8'), key: await readFile(file('rsa.key'), 'utf8') };
  await writeFile(file('ca.pem'), certificates.ca);
  world = await startTlsWorld(await save('good', certificates.good), (data) => {
    data.limits.headersTimeout = '1s';
    data.limits.connectionsPerAddress = 5;
    data.trustedProxies = ['127.0.0.9'];
    data.apis.orders.websocket = {};
    data.apis.public = { path: '/api/public', upstream: data.apis.orders.upstream, token: 'none' };
  });
  origin = `https://localhost:${world.port}`;
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What a client sees of a handshake: the protocol, or the code of its error. */
function shakeHands(port: number, options: ConnectionOptions = {}): Promise<{ socket?: TLSSocket; error?: string }> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca: certificates.ca, ...options });
    socket.once('secureConnect', () => resolve({ socket }));
    socket.once('error', (error: Error & { code?: string }) => resolve({ error: error.code ?? error.message }));
    onTestFinished(() => void socket.destroy());
  });
}

const certificateOf = async (port: number) => {
  const { socket } = await shakeHands(port, { rejectUnauthorized: false });
  return socket?.getPeerCertificate().fingerprint256;
};
const fingerprint = async (name: string) => {
  const { stdout } = await run('openssl', ['x509', '-in', file(`${name}.crt`), '-noout', '-fingerprint', '-sha256']);
  return stdout.trim().split('=')[1];
};

describe('over TLS', () => {
  it('logs in, calls an API, logs out; cookies are Secure and there is HSTS', async () => {
    const browser = createBrowser({ origin, ca: certificates.ca });
    onTestFinished(() => browser.close());
    world.provider.nextLogin({ sub: 'alice' });
    await browser.login('/');
    const session = await browser.fetch('/bff/session');
    expect(session.json()).toMatchObject({ authenticated: true });
    expect(session.header('strict-transport-security')).toMatch(/max-age=/);
    expect(browser.cookie('__Host-cloakroom')).toMatchObject({ secure: true, httpOnly: true });
    world.upstream.requests.length = 0;
    expect((await browser.fetch('/api/orders/7')).json()).toEqual({ ok: true });
    const [call] = world.upstream.requests;
    expect(call?.header('x-forwarded-proto')).toBe('https');
    expect(call?.header('x-forwarded-for')).toBe('127.0.0.1');
    const upload = await browser.fetch('/api/orders', {
      method: 'POST',
      headers: { 'x-csrf': '1', 'content-type': 'text/plain' },
      body: 'x'.repeat(300_000),
    });
    expect(upload.status).toBe(200);
    const out = await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(out.status).toBe(200);
    for (const hop of browser.history.filter(({ url }) => url.startsWith(origin)))
      world.alsoSearch(hop.url, `${JSON.stringify(hop.headers)}\n${String(hop.body ?? '')}`);
  });

  it('opens WebSockets for its own page only', async () => {
    const browser = createBrowser({ origin, ca: certificates.ca });
    onTestFinished(() => browser.close());
    world.provider.nextLogin({ sub: 'bob' });
    await browser.login('/');
    const { respond } = world.upstream;
    world.upstream.respond = createWebSocketApi(echo).respond;
    onTestFinished(() => {
      world.upstream.respond = respond;
    });
    const cookie = browser
      .cookies()
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
    const dial = (from: string) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(`wss://localhost:${world.port}/api/orders/live`, {
          ca: certificates.ca,
          headers: { cookie, origin: from },
        });
        socket.once('open', () => socket.send('hello'));
        socket.once('message', (data) => {
          resolve(String(data));
          socket.close();
        });
        socket.once('error', (error) => resolve(error.message));
      });
    expect(await dial(origin)).toBe('hello');
    expect(await dial(origin.replace('https', 'http'))).toMatch(/403/);
  });

  it('speaks HTTP/1.1, whatever else is offered; to those who want only another protocol it says so', async () => {
    for (const offered of [['http/1.1'], ['h2', 'http/1.1'], ['http/1.1', 'h2']]) {
      const { socket } = await shakeHands(world.port, { ALPNProtocols: offered });
      expect(socket?.alpnProtocol).toBe('http/1.1');
      socket?.destroy();
    }
    expect((await shakeHands(world.port)).socket?.alpnProtocol).toBe(false);
    expect((await shakeHands(world.port, { ALPNProtocols: ['h2'] })).error).toMatch(/NO_APPLICATION_PROTOCOL/);
    const answer = await rawRequest(world.port, `GET /bff/session HTTP/1.1\r\nHost: localhost:${world.port}\r\n\r\n`, {
      tls: { ca: certificates.ca },
    });
    expect(answer.status).toBe(200);
  });

  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ['127.0.0.9', '203.0.113.7'],
  ])('believes X-Forwarded-For of trusted proxies only: %s', async (localAddress, address) => {
    world.upstream.requests.length = 0;
    const lines = [`Host: localhost:${world.port}`, 'X-Forwarded-For: 203.0.113.7', 'Sec-Fetch-Site: none', '', ''];
    const below = connectTcp({ port: world.port, host: '127.0.0.1', localAddress });
    const socket = connect({ socket: below, servername: 'localhost', ca: certificates.ca });
    onTestFinished(() => void socket.destroy());
    socket.write(`GET /api/public/1 HTTP/1.1\r\n${lines.join('\r\n')}`);
    await until(() => world.upstream.requests.length === 1);
    expect(world.upstream.requests[0]?.all('x-forwarded-for')).toEqual([address]);
  });
});

describe('protocols and ciphers', () => {
  let strict: World;
  beforeAll(async () => {
    strict = await startTlsWorld(await save('rsa', rsa));
  });
  afterAll(() => strict.stop());

  const client = async (...options: string[]) => {
    const args = ['s_client', '-connect', `127.0.0.1:${strict.port}`, '-servername', 'localhost', ...options];
    const asked = run('openssl', args);
    asked.child.stdin?.end();
    return asked.then(
      ({ stdout }) => /Cipher is (\S+)/.exec(stdout)?.[1],
      () => 'refused',
    );
  };
  const weak = ['-cipher', 'ALL:@SECLEVEL=0'];

  it.each([
    ['TLS 1.3', ['-tls1_3'], /^TLS_AES_/],
    ['TLS 1.2', ['-tls1_2'], /^ECDHE-RSA-(AES\d+-GCM|CHACHA20)/],
    ['TLS 1.2 with AES-GCM', ['-tls1_2', '-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'], /^ECDHE-RSA-AES128-GCM-SHA256$/],
  ])('takes %s', async (_name, options, cipher) => {
    expect(await client(...options)).toMatch(cipher);
  });

  it.each([
    ['TLS 1.1', ['-tls1_1', ...weak]],
    ['TLS 1.0', ['-tls1', ...weak]],
    ['CBC', ['-tls1_2', '-cipher', 'ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0']],
    ['RSA key exchange', ['-tls1_2', '-cipher', 'AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0']],
    ['no encryption', ['-tls1_2', '-cipher', 'NULL:@SECLEVEL=0']],
    ['nobody authenticated', ['-tls1_2', '-cipher', 'aNULL:@SECLEVEL=0']],
    ['CCM_8', ['-tls1_3', '-ciphersuites', 'TLS_AES_128_CCM_8_SHA256']],
  ])('refuses %s', async (_name, options) => {
    expect(await client(...options)).toMatch(/^(refused|\(NONE\))$/);
    expect(await client('-tls1_2')).toMatch(/^ECDHE/); // and goes on
  });

  it('shakes hands once on a connection', async () => {
    const { socket } = await shakeHands(strict.port, { maxVersion: 'TLSv1.2', rejectUnauthorized: false });
    const refused = new Promise((resolve) => socket?.once('error', resolve));
    socket?.renegotiate({ rejectUnauthorized: false }, () => undefined);
    expect(String(await refused)).toMatch(/no renegotiation/i);
  });
});

describe('who is no client', () => {
  const lines = () => world.log.lines.filter(({ msg }) => msg === 'a TLS handshake failed');
  const expectQuiet = async (level = 'debug') => {
    await until(() => lines().length > 0);
    expect(lines().every((line) => line.level === level)).toBe(true);
    expect(world.log.lines.filter((line) => ['warn', 'error'].includes(String(line.level)))).toEqual([]);
  };

  it.each([
    ['http', `GET / HTTP/1.1\r\nHost: localhost\r\n\r\n`],
    ['a scan', '\x00\x01\x02\x03garbage\r\n\r\n'],
    ['SSH', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ])('is cut off without an answer of ours, and noted at debug: %s', async (_name, bytes) => {
    world.log.clear();
    const connection = await openRaw(world.port);
    await connection.write(bytes);
    expect(await connection.peerClosed(3000)).toBe(true);
    expect(connection.text()).not.toMatch(/HTTP/);
    await expectQuiet();
    const metrics = await world.app.ops.inject('/metrics');
    expect(metrics.body).not.toMatch(/problems_total\{code="BFF_REQUEST_MALFORMED"\}/);
  });

  it.each([
    ['nothing', ''],
    ['half a ClientHello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ])('has as long for the handshake as for a head: %s', async (_name, bytes) => {
    world.log.clear();
    const connection = await openRaw(world.port);
    const began = performance.now();
    if (bytes !== '') await connection.write(bytes);
    expect(await connection.peerClosed(4000)).toBe(true);
    expect(performance.now() - began).toBeGreaterThan(900);
    await expectQuiet();
  });

  it('counts as a connection before it has said anything', async () => {
    const open = await Promise.all(Array.from({ length: 5 }, () => openRaw(world.port, { localAddress: '127.0.0.3' })));
    const sixth = await openRaw(world.port, { localAddress: '127.0.0.3' });
    expect(await sixth.peerClosed(500)).toBe(true);
    for (const one of open) expect(one.closed()).toBe(false);
    expect((await shakeHands(world.port, { localAddress: '127.0.0.3' } as ConnectionOptions)).error).toBeDefined();
    for (const one of open) one.close();
    await until(async () => (await shakeHands(world.port, { localAddress: '127.0.0.3' } as ConnectionOptions)).socket);
    const metrics = await world.app.ops.inject('/metrics');
    expect(metrics.body).toMatch(/connections_refused_total\{limit="address"\} [2-9]/);
  });

  it('may break off anywhere', async () => {
    world.log.clear();
    const early = await openRaw(world.port);
    await early.write('\x16\x03\x01');
    early.socket.resetAndDestroy();
    const tls = await openRaw(world.port, { tls: { ca: certificates.ca } });
    await tls.write('GET /bff/session HTTP/1.1\r\nHo');
    tls.socket.destroy();
    // Encrypted garbage after a proper handshake: through a plain socket below TLS.
    const below = connectTcp(world.port, '127.0.0.1');
    const above = connect({ socket: below, servername: 'localhost', ca: certificates.ca });
    above.on('error', () => undefined);
    await new Promise((resolve) => above.once('secureConnect', resolve));
    below.write('\x17\x03\x03\x00\x10aaaaaaaaaaaaaaaa');
    await new Promise((resolve) => below.once('close', resolve));
    expect((await shakeHands(world.port)).socket).toBeDefined();
    expect(world.log.errors()).toEqual([]);
  });
});

describe('a certificate that is renewed', () => {
  /** A world on a link, as Kubernetes mounts secrets: ..data leads to the folder of the day. */
  const start = async (files: { certFile: string; keyFile: string }) => {
    const renewing = await startTlsWorld(files);
    onTestFinished(() => renewing.stop());
    return renewing;
  };
  const serves = (port: number, name: string) =>
    until(async () => (await certificateOf(port)) === (await fingerprint(name)), { message: `the one of ${name}` });
  const warnings = (one: World) => one.log.warnings().map(({ setting }) => String(setting));

  it('is used when its files were replaced by renaming, without cutting connections', async () => {
    await save('good', certificates.good);
    await save('rsa', rsa);
    const files = await save('live', certificates.good);
    const renewing = await start(files);
    const kept = await openRaw(renewing.port, { tls: { ca: certificates.ca } });
    await save('next', rsa);
    await rename(file('next.crt'), files.certFile);
    await rename(file('next.key'), files.keyFile);
    await serves(renewing.port, 'rsa');
    await kept.write(`GET /bff/session HTTP/1.1\r\nHost: localhost:${renewing.port}\r\n\r\n`);
    expect((await kept.response()).status).toBe(200);
    kept.close();
    // The settings are those of the first.
    expect((await shakeHands(renewing.port, { ALPNProtocols: ['h2'] })).error).toMatch(/NO_APPLICATION_PROTOCOL/);
    expect(
      (await shakeHands(renewing.port, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }))
        .error,
    ).toBeDefined();
    expect(warnings(renewing)).toEqual([]);
  });

  it('is used when a link was swapped, as in a mounted secret', async () => {
    for (const [day, pair] of [
      ['monday', certificates.good],
      ['tuesday', rsa],
    ] as const) {
      await mkdir(file(day));
      await writeFile(file(`${day}/tls.crt`), pair.cert);
      await writeFile(file(`${day}/tls.key`), pair.key);
    }
    await symlink('monday', file('..data'));
    for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, file(name));
    const renewing = await start({ certFile: file('tls.crt'), keyFile: file('tls.key') });
    await serves(renewing.port, 'good');
    await symlink('tuesday', file('..data_tmp'));
    await rename(file('..data_tmp'), file('..data'));
    await serves(renewing.port, 'rsa');
    expect(warnings(renewing)).toEqual([]);
  });

  it('says nothing of halves that belong together at the next look, and what is meant it says once', async () => {
    const files = await save('written', certificates.good);
    const data = configOf({ ...world, origin, opsPort: 0 });
    const parsed = parseConfig('tls.yaml', stringify({ ...data, listen: { ...data.listen, tls: files } }), {});
    if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const tls = openListenerTls(parsed.config, 1000);
    if (tls === undefined) throw new Error('listen.tls is set');
    const said: string[] = [];
    const say = (_facts: object, message: string) => void said.push(message);
    const server = createServer(tls.options);
    tls.serve(server, { warn: say, info: say, debug: say });
    const look = () => vi.advanceTimersByTime(1000);

    await writeFile(files.certFile, rsa.cert);
    look();
    expect(said).toEqual([]);
    await writeFile(files.keyFile, rsa.key);
    look();
    expect(said).toEqual(['the certificate of listen.tls was replaced']);
    await writeFile(files.keyFile, certificates.good.key);
    for (let count = 0; count < 4; count++) look();
    expect(said.slice(1)).toEqual(['the certificate of listen.tls can’t be replaced, the last one is kept']);
    server.emit('close');
  });

  it('waits until both files belong together; the old one serves meanwhile, and the log says so once', async () => {
    const files = await save('halves', certificates.good);
    const renewing = await start(files);
    await writeFile(files.certFile, rsa.cert);
    const told = () => warnings(renewing).filter((text) => text.startsWith('listen.tls.keyFile: '));
    await until(() => told().length > 0, { timeoutMs: 8000 });
    expect(await certificateOf(renewing.port)).toBe(await fingerprint('good'));
    await writeFile(files.keyFile, rsa.key);
    await serves(renewing.port, 'rsa');
    expect(told()).toEqual([expect.stringMatching(/is not the key of the first certificate in certFile: pair them$/)]);
  });

  it.each([
    ['empty', '', /^listen\.tls\.certFile: .* has no usable PEM/],
    ['cut off', 'HALF', /^listen\.tls\.certFile: .* has no usable PEM/],
    ['no PEM', 'SECRET-that-nobody-may-see', /^listen\.tls\.certFile: .* has no usable PEM/],
    ['gone', undefined, /^listen\.tls\.certFile: can't read .* \(ENOENT\)/],
  ])('keeps the old one while a file is %s, and takes the next good one', async (name, text, warning) => {
    const files = await save(`broken-${name.replace(' ', '-')}`, certificates.good);
    const renewing = await start(files);
    const half = certificates.good.cert.slice(0, certificates.good.cert.length / 2);
    if (text === undefined) await rm(files.certFile);
    else await writeFile(files.certFile, text === 'HALF' ? half : text);
    await until(() => warnings(renewing).length > 0, { timeoutMs: 8000 });
    expect(warnings(renewing)).toEqual([expect.stringMatching(warning)]);
    expect(renewing.log.text()).not.toMatch(/SECRET-that/);
    expect(await certificateOf(renewing.port)).toBe(await fingerprint('good'));
    await writeFile(files.keyFile, rsa.key);
    await writeFile(files.certFile, rsa.cert);
    await serves(renewing.port, 'rsa');
  });
});

describe('a certificate that browsers refuse', () => {
  it.each([
    ['expired', /^listen\.tls\.certFile: the certificate expired on .*2020.*: browsers refuse it\. Renew it$/],
    ['wrongName', /^listen\.tls\.certFile: the certificate is not for localhost of publicUrl: browsers refuse it/],
  ] as const)('is served all the same, with a warning: %s', async (name, warning) => {
    const warned = await startTlsWorld(await save(name, certificates[name]));
    onTestFinished(() => warned.stop());
    expect(warned.log.warnings().map(({ setting }) => setting)).toEqual([expect.stringMatching(warning)]);
    expect(await certificateOf(warned.port)).toBe(await fingerprint(name));
  });
});

describe('the process', () => {
  const start = async (tls: object, change: object = {}) => {
    const [port, opsPort] = [await freePort(), await freePort()];
    const data = configOf({ ...world, origin: `https://localhost:${port}`, port, opsPort });
    data.session.redis = { url: inject('redisUrl'), keyPrefix: uniqueKeyPrefix() };
    const written = await writeConfig({ ...data, listen: { ...data.listen, tls }, ...change });
    const started = startCloakroom('start', '--config', written.file);
    onTestFinished(() => started.kill().then(written.remove));
    return { port, opsPort, started };
  };

  it('has each of its workers use a renewed certificate', async () => {
    const files = await save('workers', certificates.good);
    const { port, opsPort, started } = await start(files, { workers: 2 });
    await untilAnswers(`http://127.0.0.1:${opsPort}/readyz`, 200, started);
    const seen = async () => new Set(await Promise.all(Array.from({ length: 20 }, () => certificateOf(port))));
    await until(() => started.stdout().match(/listening at https:/g)?.length === 2, { timeoutMs: 10_000 });
    expect([...(await seen())]).toEqual([await fingerprint('good')]);
    await save('workers', rsa);
    const renewed = await fingerprint('rsa');
    await until(() => started.stdout().match(/was replaced/g)?.length === 2, { timeoutMs: 10_000 });
    expect([...(await seen())]).toEqual([renewed]);
    started.terminate();
    expect(await started.ended).toBe(0);
    expect(started.stdout()).not.toMatch(/"setting":"listen|"level":"error"|PRIVATE KEY/);
  });

  it.each([
    ['a file that is not there', 'missing.crt', 'good.key', /listen\.tls\.certFile: can't read .* \(ENOENT\): correct/],
    ['a key of another', 'good.crt', 'rsa.key', /listen\.tls\.keyFile: .* is not the key of the first certificate/],
    ['a key for a certificate', 'good.key', 'good.key', /listen\.tls\.certFile: .* has no usable PEM: /],
  ])('does not start with %s', async (_name, cert, key, says) => {
    const { started } = await start({ certFile: file(cert), keyFile: file(key) });
    expect(await started.ended).toBe(1);
    expect(started.stderr().trim().split('\n')).toEqual([expect.stringMatching(says)]);
    expect(started.stdout() + started.stderr()).not.toMatch(/BEGIN|MII/);
  });
});

describe('a drain', () => {
  it('waits for no connection that asks for nothing, and for an answer under way', async () => {
    const slow = await startEchoUpstream();
    onTestFinished(() => slow.stop());
    slow.respond = hang();
    const draining = await startTlsWorld(await save('drained', certificates.good), (data) => {
      data.apis.slow = { path: '/api/slow', upstream: slow.url, token: 'none', timeouts: { headers: '1s' } };
    });
    const unused = await openRaw(draining.port, { tls: { ca: certificates.ca } });
    const silent = await openRaw(draining.port);
    const busy = await openRaw(draining.port, { tls: { ca: certificates.ca } });
    await busy.write(`GET /api/slow/1 HTTP/1.1\r\nHost: localhost:${draining.port}\r\n\r\n`);
    await until(() => slow.requests.length === 1);
    const began = performance.now();
    const stopped = draining.stop();
    expect((await busy.response()).status).toBe(504);
    await stopped;
    expect(performance.now() - began).toBeLessThan(3000);
    for (const one of [unused, silent, busy]) expect(await one.peerClosed(100)).toBe(true);
  });
});
