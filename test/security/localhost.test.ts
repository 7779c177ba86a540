import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, inject, it, onTestFinished } from 'vitest';
import { type Certificates, createCertificates } from '../support/certificates.ts';
import { configOf } from '../support/config-data.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { startProcess, untilAnswers, writeConfig } from '../support/process.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { freePort, uniqueKeyPrefix } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// `listen.host: localhost` has two addresses on most machines. What holds at one holds at the other.

let certificates: Certificates;
let world: World;
beforeAll(async () => {
  certificates = await createCertificates();
  world = await startWorld({ store: 'memory' });
});
afterAll(() => world.stop());

/** The system's own answer for the name may have one of them alone. */
const resolver = `import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
const both = [{ address: '127.0.0.1', family: 4 }, { address: '::1', family: 6 }];
const { lookup, promises: { lookup: ask } } = dns;
dns.lookup = (name, options, done) => name === 'localhost' && options.all ? process.nextTick(done, null, both) : lookup(name, options, done);
dns.promises.lookup = async (name, options) => name === 'localhost' && options?.all ? both : ask(name, options);
syncBuiltinESMExports();`;

async function start(change: object = {}) {
  const [port, opsPort] = [await freePort(), await freePort()];
  const secure = 'listen' in change;
  const data = configOf({ ...world, origin: `http${secure ? 's' : ''}://localhost:${port}`, port, opsPort });
  data.session.redis = { url: inject('redisUrl'), keyPrefix: uniqueKeyPrefix() };
  data.apis.public = { path: '/api/public', upstream: world.upstream.url, token: 'none' };
  data.limits = { connectionsPerAddress: 10 };
  data.shutdown = { delay: '0s' };
  const written = await writeConfig({
    ...data,
    ...change,
    listen: { host: 'localhost', port, ...((change as { listen?: object }).listen ?? {}) },
  });
  const env = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(resolver)}` };
  const started = startProcess(process.execPath, ['scripts/cloakroom.cjs', 'start', '--config', written.file], env);
  onTestFinished(() => started.kill().then(written.remove));
  await untilAnswers(`http://127.0.0.1:${opsPort}/readyz`, 200, started);
  for (const host of ['127.0.0.1', '::1'])
    await until(() =>
      openRaw(port, { host }).then(
        (one) => {
          one.close();
          return true;
        },
        () => false,
      ),
    );
  return { port, opsPort, started, folder: written.folder };
}

it('bounds and errors are those of the other address', async () => {
  const { port } = await start();
  const host = '::1';
  const answer = await rawRequest(port, `GET / HTTP/1.1\r\nHost: localhost:${port}\r\nX: 1\r\n y\r\n\r\n`, { host });
  expect([answer.status, JSON.parse(answer.body).code]).toEqual([400, 'BFF_REQUEST_MALFORMED']);
  const call = await rawRequest(port, `GET /bff/session HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`, { host });
  expect(call.status).toBe(200);
  const open = await Promise.all(Array.from({ length: 10 }, () => openRaw(port, { host })));
  const next = await openRaw(port, { host });
  expect(await next.peerClosed(1000)).toBe(true);
  for (const one of open) one.close();
});

it('a stop waits for the answers at both', async () => {
  const { port, started } = await start();
  world.upstream.reset();
  let go = () => {};
  const late = new Promise<void>((resolve) => {
    go = resolve;
  });
  world.upstream.respond = (request, socket) => late.then(() => reply({ body: 'late' })(request, socket));
  const call = `GET /api/public/1 HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`;
  const calls = await Promise.all(['127.0.0.1', '::1'].map((host) => openRaw(port, { host })));
  const unused = await openRaw(port, { host: '::1' });
  for (const one of calls) await one.write(call);
  await until(() => world.upstream.requests.length === 2);
  started.terminate();
  await until(() => started.stdout().includes('draining'));
  expect(await unused.peerClosed(5000)).toBe(true);
  go();
  for (const one of calls) expect((await one.response()).status).toBe(200);
  expect(await started.ended).toBe(0);
});

it('a renewed certificate is that of both', async () => {
  const { good, wrongName } = certificates;
  const files = await writeConfig('');
  onTestFinished(() => files.remove());
  const tls = { certFile: join(files.folder, 'tls.crt'), keyFile: join(files.folder, 'tls.key') };
  const write = async ({ cert, key }: typeof good) => {
    await writeFile(tls.certFile, cert);
    await writeFile(tls.keyFile, key);
  };
  await write(good);
  const { port } = await start({ listen: { tls } });
  const seen = (host: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ port, host, servername: 'localhost', rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.once('error', reject);
    });
  const before = await seen('::1');
  expect(await seen('127.0.0.1')).toBe(before);
  await write(wrongName);
  await until(async () => (await seen('127.0.0.1')) !== before, { timeoutMs: 10_000 });
  expect(await seen('::1')).toBe(await seen('127.0.0.1'));
});
