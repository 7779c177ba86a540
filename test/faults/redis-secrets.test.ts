import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createCertificates } from '../support/certificates.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { freePort, startRedis } from '../support/redis.ts';
import { startRedisCluster } from '../support/redis-cluster.ts';
import { startRedisSentinel } from '../support/redis-sentinel.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// W36: a password or CA of Redis is replaced while we run. The log says why each attempt fails, the file is read again,
// and nobody restarts anything.

let folder: string;
let passwordFile: string;
let world: World | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-redis-secrets-'));
  passwordFile = join(folder, 'password');
});
afterEach(async () => {
  await world?.stop();
  world = undefined;
  await rm(folder, { recursive: true, force: true });
});

const newPassword = () => `password-${randomBytes(12).toString('hex')}`;
const passwords: string[] = [];
/** In the file that the configuration names. */
async function write(password: string): Promise<void> {
  passwords.push(password);
  await writeFile(passwordFile, `${password}\n`);
}

async function startWith(redis: ConfigData): Promise<World> {
  world = await startWorld({
    config(data) {
      data.session.redis = { keyPrefix: data.session.redis.keyPrefix, commandTimeout: '2s', ...redis };
    },
  });
  return world;
}

const fromFile = () => `\${file:${passwordFile}}`;
const readiness = async () => (await world?.app.ops.inject('/readyz'))?.statusCode;
const isReady = () => until(async () => (await readiness()) === 200, { timeoutMs: 15_000, message: 'readiness' });
const lines = (message: string) => world?.log.lines.filter(({ msg }) => msg === message) ?? [];
const reasons = () => lines('redis is not reachable').map(({ reason }) => reason);
const channelReasons = () => lines('the session channel is down').map(({ reason }) => reason);
const noPasswordInLog = () => {
  for (const password of passwords) expect(world?.log.text()).not.toContain(password);
};

function adminOf(url: string): Redis {
  const admin = new Redis(url, { retryStrategy: () => 50, maxRetriesPerRequest: null }).on('error', () => undefined);
  onTestFinished(() => admin.disconnect());
  return admin;
}

const setUser = (admin: Redis, password: string) =>
  admin.call('ACL', 'SETUSER', 'cloakroom', 'reset', 'on', `>${password}`, '~*', '&*', '+@all');
const killUser = (admin: Redis) => admin.call('CLIENT', 'KILL', 'USER', 'cloakroom');

/** A world on a Redis whose user's password stands in a file; returns who may change that user. */
async function startOnPasswordFile(): Promise<Redis> {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const admin = adminOf(redis.url);
  await write(newPassword());
  await setUser(admin, passwords.at(-1) as string);
  await startWith({ url: redis.url, username: 'cloakroom', password: fromFile() });
  await isReady();
  return admin;
}

describe('a single Redis', () => {
  it('W36 a password that was rotated is taken from its file, and the log says what was wrong until then', async () => {
    const admin = await startOnPasswordFile();
    const browser = await (world as World).loggedIn();

    const next = newPassword();
    await setUser(admin, next);
    await killUser(admin);
    await until(() => reasons().includes('WRONGPASS'), { message: 'the reason' });
    await until(() => channelReasons().includes('WRONGPASS'), { message: 'the reason for the channel' });
    expect((await browser.fetch('/bff/session')).status).toBe(503);
    await write(next);
    await isReady();
    expect(await isLoggedIn(browser)).toBe(true);
    await until(() => lines('the session channel is connected').length === 2);
    expect(reasons()).toEqual(['connection closed', 'WRONGPASS']);
    noPasswordInLog();
  });

  it('W36 so is one in the URL of a file, with the user', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const admin = adminOf(redis.url);
    const urlWith = (password: string) => redis.url.replace('://', `://cloakroom:${password}@`);
    const [first, second] = [newPassword(), newPassword()];
    await setUser(admin, first);
    await write(urlWith(first));
    await startWith({ url: fromFile() });
    await isReady();
    await setUser(admin, second);
    await killUser(admin);
    await until(() => reasons().includes('WRONGPASS'));
    await write(urlWith(second));
    await isReady();
  });

  it('W36 while the file is not there, or empty, the last password serves and the log names the key', async () => {
    const admin = await startOnPasswordFile();
    await rm(passwordFile);
    await killUser(admin);
    await until(() => lines('redis is connected').length === 2);
    expect(lines('redis is not reachable')[0]?.settings).toMatch(
      /^session\.redis\.password: .*can't be read \(ENOENT\)/,
    );
    await writeFile(passwordFile, '');
    await killUser(admin);
    await until(() => lines('redis is connected').length === 3);
    expect(lines('redis is not reachable')[1]?.settings).toMatch(/^session\.redis\.password: is empty/);
    noPasswordInLog();
  });

  it('W36 a reason that changes is told, one that stays is not told again', async () => {
    const port = await freePort();
    await write(newPassword());
    await startWith({ url: `redis://127.0.0.1:${port}`, password: fromFile() });
    await until(() => reasons().includes('ECONNREFUSED'));
    const wrong = await startRedis({ port, args: ['--requirepass', newPassword()] });
    await until(() => reasons().includes('WRONGPASS'), { timeoutMs: 10_000 });
    await wrong.stop();
    await until(() => reasons().filter((reason) => reason === 'ECONNREFUSED').length === 2, { timeoutMs: 10_000 });
    const right = await startRedis({ port, args: ['--requirepass', passwords.at(-1) as string] });
    onTestFinished(() => right.stop());
    await isReady();
    const told = reasons().filter((reason) => reason !== 'connection closed');
    expect(told).toEqual(['ECONNREFUSED', 'WRONGPASS', 'ECONNREFUSED']);
    noPasswordInLog();
  });

  it('W36 without a password where one is needed: NOAUTH', async () => {
    const redis = await startRedis({ args: ['--requirepass', newPassword()] });
    onTestFinished(() => redis.stop());
    await startWith({ url: redis.url });
    await until(() => reasons().includes('NOAUTH'));
  });

  it('W36 a user that may not listen: the channel says NOPERM', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const admin = adminOf(redis.url);
    await write(newPassword());
    await setUser(admin, passwords.at(-1) as string);
    await admin.call('ACL', 'SETUSER', 'cloakroom', 'resetchannels');
    await startWith({ url: redis.url, username: 'cloakroom', password: fromFile() });
    await until(() => channelReasons().includes('NOPERM'));
    expect(reasons()).toEqual([]);
  });

  it('W36 one that is still loading its data: LOADING', async () => {
    const filled = await startRedis({ args: ['--dir', folder] });
    const source = adminOf(filled.url);
    for (let index = 0; index < 400; index++) await source.set(`key-${index}`, 'x', 'PX', 60_000);
    await source.save();
    source.disconnect();
    await filled.stop();
    const port = await freePort();
    // Not ready for 400 × 10 ms; but its port is open, which is what `startRedis` waits for.
    const slow = startRedis({
      port,
      args: ['--dir', folder, '--key-load-delay', '10000', '--loading-process-events-interval-bytes', '1024'],
    });
    onTestFinished(async () => (await slow).stop());
    await startWith({ url: `redis://127.0.0.1:${port}` });
    await until(() => reasons().includes('LOADING'), { timeoutMs: 10_000 });
    await isReady();
  });

  it('W36 a CA that was replaced is taken from its file; until then the log says what is wrong with the certificate', async () => {
    const [old, next] = [await createCertificates(), await createCertificates()];
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, old.ca);
    const tlsPort = await freePort();
    const start = async (certificates: typeof old, port?: number) => {
      for (const [name, text] of Object.entries({ ...certificates.good, ca: certificates.ca }))
        await writeFile(join(folder, `server-${name}.pem`), text);
      const file = (name: string) => join(folder, `server-${name}.pem`);
      const tls = ['--tls-port', String(tlsPort), '--tls-auth-clients', 'no', '--tls-cert-file', file('cert')];
      return startRedis({
        ...(port === undefined ? {} : { port }),
        args: [...tls, '--tls-key-file', file('key'), '--tls-ca-cert-file', file('ca')],
      });
    };
    const first = await start(old);
    await startWith({ url: `rediss://localhost:${tlsPort}`, caFile });
    await isReady();
    await first.stop();
    const second = await start(next, first.port);
    onTestFinished(() => second.stop());
    await until(() => reasons().some((reason) => /^(UNABLE_TO_|CERT_|SELF_SIGNED)/.test(String(reason))), {
      timeoutMs: 10_000,
    });
    await rm(caFile);
    await until(() => lines('redis is not reachable').some(({ settings }) => /ENOENT/.test(String(settings))), {
      timeoutMs: 10_000,
      message: 'the missing CA to be told',
    });
    await writeFile(caFile, next.ca);
    await isReady();
  });
});

describe('topologies', () => {
  it('W36 Sentinels and the primary that they name: both passwords are read again', async () => {
    const topology = await startRedisSentinel();
    onTestFinished(() => topology.stop());
    const atPrimary = adminOf(topology.primary.url);
    const sentinelPort = new URL(topology.nodes[1] as string).port;
    const atSentinel = adminOf(`redis://127.0.0.1:${sentinelPort}`);
    const sentinelFile = join(folder, 'sentinel-password');
    const [first, second] = [newPassword(), newPassword()];
    await setUser(atPrimary, first);
    await setUser(atSentinel, first);
    await write(first);
    await writeFile(sentinelFile, first);
    await startWith({
      sentinel: {
        name: topology.name,
        nodes: topology.nodes,
        username: 'cloakroom',
        password: `\${file:${sentinelFile}}`,
      },
      username: 'cloakroom',
      password: fromFile(),
    });
    await isReady();
    await setUser(atSentinel, second);
    await killUser(atPrimary);
    await until(() => reasons().some((reason) => /^sentinels: /.test(String(reason))), { timeoutMs: 10_000 });
    await writeFile(sentinelFile, second);
    await isReady();
    await setUser(atPrimary, second);
    await killUser(atPrimary);
    await until(() => reasons().includes('WRONGPASS'), { timeoutMs: 10_000 });
    await write(second);
    await isReady();
    noPasswordInLog();
  });

  it('W36 a cluster: every node is asked with the new password', async () => {
    const cluster = await startRedisCluster();
    onTestFinished(() => cluster.stop());
    const admins = cluster.urls.map(adminOf);
    const rotate = async (password: string) => {
      for (const admin of admins) {
        await setUser(admin, password);
        await killUser(admin);
      }
    };
    await write(newPassword());
    await rotate(passwords.at(-1) as string);
    await startWith({ cluster: cluster.urls, username: 'cloakroom', password: fromFile() });
    await isReady();
    const channelUps = () => lines('the session channel is connected').length;
    await until(() => channelUps() > 0); // readiness does not wait for it
    const before = channelUps();
    const browser = await (world as World).loggedIn();
    const next = newPassword();
    await rotate(next);
    await until(() => reasons().includes('WRONGPASS'), { timeoutMs: 15_000 });
    await until(() => channelReasons().includes('WRONGPASS'), { timeoutMs: 10_000 });
    await write(next);
    await isReady();
    await until(async () => (await browser.fetch('/bff/session')).status === 200, { timeoutMs: 10_000 });
    expect(await isLoggedIn(browser)).toBe(true);
    // It tries again after growing pauses.
    await until(() => channelUps() > before, { timeoutMs: 15_000 });
    noPasswordInLog();
  });
});
