import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { type Browser, createBrowser } from '../support/browser.ts';
import { assertNoSecrets } from '../support/canary.ts';
import { configOf } from '../support/config-data.ts';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type EvilProvider, startEvilProvider } from '../support/evil-provider.ts';
import '../support/global-redis.ts';
import { type Started, startCloakroom, startProcess, statusOf, untilAnswers, writeConfig } from '../support/process.ts';
import { openRaw, type RawConnection } from '../support/raw-client.ts';
import { freePort, uniqueKeyPrefix } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// The real process: `npm start -- --config …`, ended as an orchestrator ends it.

const csrf = { 'x-csrf': '1' };
const delayMs = 600;

let provider: EvilProvider;
let upstream: EchoUpstream;
let file: string;
let origin: string;
let ops: string;
let port: number;
let browser: Browser;
let processes: Started[];
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  provider = await startEvilProvider();
  upstream = await startEchoUpstream();
  upstream.respondWith({ body: { ok: true } });
  port = await freePort();
  const opsPort = await freePort();
  origin = `http://localhost:${port}`;
  ops = `http://127.0.0.1:${opsPort}`;
  const data = configOf({ origin, port, opsPort, provider, upstream });
  data.session.redis = { url: inject('redisUrl'), keyPrefix: uniqueKeyPrefix() };
  Object.assign(data, { shutdown: { delay: `${delayMs}ms`, grace: '14s' }, log: { level: 'trace' } });
  const config = await writeConfig(data);
  file = config.file;
  browser = createBrowser({ origin });
  processes = [];
  cleanups.push(config.remove, () => browser.close(), upstream.stop, provider.stop);
});
afterEach(async () => {
  await Promise.all(processes.map((one) => one.kill()));
  for (const cleanup of cleanups.splice(0)) await cleanup();
  const secrets = provider.issuedSecrets();
  const haystacks = processes.map((one, index) => ({ name: `output ${index}`, text: one.stdout() + one.stderr() }));
  assertNoSecrets({ secrets, haystacks });
});

async function start(command = () => startCloakroom('start', '--config', file)): Promise<Started> {
  const started = command();
  processes.push(started);
  await untilAnswers(`${ops}/readyz`, 200, started);
  await untilAnswers(`${origin}/bff/session`, 200, started);
  return started;
}

/** A connection that is kept alive: one request was answered on it. */
async function openIdle(): Promise<RawConnection> {
  const connection = await openRaw(port);
  cleanups.push(() => connection.close());
  await connection.write(`GET /bff/session HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`);
  expect((await connection.response()).status).toBe(200);
  expect(connection.closed()).toBe(false);
  return connection;
}

const errorLines = (one: Started) =>
  one
    .stdout()
    .split('\n')
    .filter((line) => line !== '' && /"level":"(error|fatal)"/.test(line));

describe('SIGTERM', () => {
  it('tells the balancer first and refuses connections only after shutdown.delay', async () => {
    const started = await start();
    started.terminate();
    await untilAnswers(`${ops}/readyz`, 503);
    expect(await statusOf(`${ops}/livez`)).toBe(200);
    const late = await fetch(`${origin}/bff/session`);
    expect(late.status).toBe(200);
    expect(late.headers.get('connection')).toBe('close');
    expect(await started.ended).toBe(0);
    expect(await statusOf(`${origin}/bff/session`)).toBe(0);
    expect(errorLines(started)).toEqual([]);
  });

  it('lets slow requests and a running refresh finish, closes kept-alive connections and exits with 0', async () => {
    const first = await start();
    await browser.login('/');
    const idle = await openIdle();
    const slow = Promise.withResolvers<void>();
    upstream.respond = async (request, socket) => {
      await slow.promise;
      await reply({ body: 'slow but whole' })(request, socket);
    };
    const call = browser.fetch('/api/orders/slow');
    await until(() => upstream.active === 1);

    // Whoever asked for the refresh has left; the rotation is finished and stored all the same (RF6, RF19).
    const held = Promise.withResolvers<void>();
    provider.faults.refreshResponse = [{ holdUntil: held.promise }];
    const gone = new AbortController();
    const left = browser
      .fetch('/bff/refresh', { method: 'POST', headers: csrf, signal: gone.signal })
      .catch(() => 'left');
    await until(() => provider.tokenRequests('refresh_token').length === 1);
    gone.abort();
    expect(await left).toBe('left');

    first.terminate();
    expect(await idle.peerClosed(delayMs + 4000)).toBe(true);
    await until(async () => (await statusOf(`${origin}/bff/session`)) === 0);
    expect(await statusOf(`${ops}/readyz`)).toBe(503);
    slow.resolve();
    const answer = await call;
    expect([answer.status, answer.text]).toEqual([200, 'slow but whole']);
    held.resolve();
    expect(await first.ended).toBe(0);
    expect(errorLines(first)).toEqual([]);

    await start();
    upstream.respondWith({ body: 'ok' });
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(provider.reuseDetected()).toBe(0);
  });

  it('does not wait for the connection of an answer whose head went out before', async () => {
    const started = await start();
    await browser.login('/');
    const rest = Promise.withResolvers<void>();
    upstream.respondWith({
      body: (async function* () {
        yield 'first ';
        await rest.promise;
        yield 'last';
      })(),
    });
    const cookie = browser.cookies().map(({ name, value }) => `${name}=${value}`);
    const connection = await openRaw(port);
    cleanups.push(() => connection.close());
    await connection.write(
      `GET /api/orders/stream HTTP/1.1\r\nHost: localhost:${port}\r\nx-csrf: 1\r\nCookie: ${cookie.join('; ')}\r\n\r\n`,
    );
    await connection.readUntil((text) => text.includes('first '));
    started.terminate();
    await until(async () => (await statusOf(`${origin}/bff/session`)) === 0);
    rest.resolve();
    expect((await connection.response()).body).toBe('first last');
    const endedAt = performance.now();
    expect(await started.ended).toBe(0);
    expect(performance.now() - endedAt).toBeLessThan(3000);
  });

  it('does not wait for a connection that a browser opened ahead and never used', async () => {
    const started = await start();
    const ahead = await openRaw(port);
    const before = performance.now();
    started.terminate();
    expect(await started.ended).toBe(0);
    expect(performance.now() - before).toBeLessThan(delayMs + 3000);
    expect(await ahead.peerClosed()).toBe(true);
  });

  it('gives up on a request that never ends after shutdown.grace', async () => {
    // The least that may be set: a refresh must be able to finish (W40).
    const text = readFileSync(file, 'utf8').replace(/imeout: .*/g, 'imeout: 100ms');
    const { file: hasty, remove } = await writeConfig(text.replace(/grace: .*/, 'grace: 6s'));
    cleanups.push(remove);
    const started = await start(() => startCloakroom('start', '--config', hasty));
    await browser.login('/');
    upstream.respond = hang();
    const call = browser.fetch('/api/orders/1').catch(() => 'cut');
    await until(() => upstream.active === 1);
    started.terminate();
    expect(await started.ended).toBe(1);
    expect(await call).toBe('cut');
  });
});

describe('the command line', () => {
  it('npm start -- --config FILE runs it and passes SIGTERM on', async () => {
    const started = await start(() => startProcess('npm', ['start', '--', '--config', file]));
    await browser.login('/');
    started.terminate();
    await started.ended;
    await until(async () => (await statusOf(`${ops}/livez`)) === 0);
  });

  it('says in one line that a port is taken, and exits', async () => {
    await start();
    const second = startCloakroom('start', '--config', file);
    processes.push(second);
    expect(await second.ended).toBe(1);
    expect(second.stderr()).toMatch(/EADDRINUSE/);
    expect(second.stderr()).not.toMatch(/^\s+at /m);
  });

  it('starts with nothing but problems listed when the configuration is wrong', async () => {
    const { file: wrong, remove } = await writeConfig({ publicUrl: 'http://app.example.com', listen: { port } });
    cleanups.push(remove);
    const started = startCloakroom('start', '--config', wrong);
    processes.push(started);
    expect(await started.ended).toBe(1);
    expect(started.stderr()).toMatch(/^\S+\.yaml:1:1 publicUrl: must be https/m);
    expect(started.stderr()).not.toMatch(/^\s+at /m);
    expect(started.stdout()).toBe('');
  });
});
