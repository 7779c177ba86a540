import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Certificates, createCertificates, type KeyAndCertificate } from '../support/certificates.ts';
import { isLoggedIn, userOf } from '../support/login-steps.ts';
import { freePort, type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// TLS is verified, and the ACL line of docs/operations.md is enough: it is read from there.

const csrf = { 'x-csrf': '1' };
const root = join(import.meta.dirname, '../..');
const password = randomBytes(24).toString('base64url');

/** The rules of the ACL line in the documentation, without user and password. */
function documentedRules(keyPrefix: string): string[] {
  const page = readFileSync(join(root, 'docs/operations.md'), 'utf8');
  const line = /^ACL SETUSER cloakroom on >\S+ (.*)$/m.exec(page)?.[1];
  if (line === undefined) throw new Error('docs/operations.md has no ACL line');
  return line.split(' ').map((rule) => rule.replace('~cr:', `~${keyPrefix}`).replace('&cr:', `&${keyPrefix}`));
}

let folder: string;
let certificates: Certificates;
let redis: RedisServer;
let world: World;
let tlsPort: number;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-redis-tls-'));
  certificates = await createCertificates();
  await writeFile(join(folder, 'ca.pem'), certificates.ca);
});
afterEach(async () => {
  await world.stop();
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});

async function startTlsRedis({ key, cert }: KeyAndCertificate, more: string[] = []): Promise<void> {
  await Promise.all([writeFile(join(folder, 'key.pem'), key), writeFile(join(folder, 'cert.pem'), cert)]);
  tlsPort = await freePort();
  const files = ['key', 'cert'].flatMap((name) => [`--tls-${name}-file`, join(folder, `${name}.pem`)]);
  const tls = ['--tls-port', String(tlsPort), '--tls-auth-clients', 'no', ...files];
  redis = await startRedis({ args: [...tls, '--tls-ca-cert-file', join(folder, 'ca.pem'), ...more] });
}

async function startTlsWorld(change: (redisConfig: ConfigData) => void = () => undefined): Promise<void> {
  world = await startWorld({
    redisUrl: redis.url,
    config(data) {
      Object.assign(data.session.redis, {
        url: `rediss://localhost:${tlsPort}`,
        caFile: join(folder, 'ca.pem'),
        commandTimeout: '500ms',
      });
      change(data.session.redis);
    },
  });
}

const readiness = async () => (await world.app.ops.inject('/readyz')).statusCode;

/** The rules name the world's key prefix, so the user is made when there is a world. */
async function createUser(rules: string[]): Promise<void> {
  const admin = new Redis(redis.url);
  await admin.call('ACL', 'SETUSER', 'cloakroom', 'reset', 'on', `>${password}`, ...rules);
  await admin.call('ACL', 'LOG', 'RESET'); // the connects until now
  admin.disconnect();
}

describe('over TLS', () => {
  it.each(['rediss://localhost', 'rediss://127.0.0.1'])(
    'T121 %s with a certificate of the configured CA works',
    async (url) => {
      await startTlsRedis(certificates.good);
      await startTlsWorld((config) => Object.assign(config, { url: `${url}:${tlsPort}` }));
      expect(await userOf(await world.loggedIn('alice'))).toBe('alice');
      await until(() => world.log.lines.some(({ msg }) => msg === 'the session channel is connected'));
    },
  );

  it.each(['expired', 'wrongName', 'selfSigned'] as const)(
    'T121 a Redis whose certificate is %s is not spoken to',
    async (fault) => {
      await startTlsRedis(certificates[fault]);
      await startTlsWorld();
      expect(await readiness()).toBe(503);
      const admin = new Redis(redis.url, { protocol: 2 }); // says no HELLO, with which ours would begin
      expect(await admin.info('commandstats')).not.toMatch(/cmdstat_(hello|auth|subscribe|eval|evalsha)/);
      admin.disconnect();
    },
  );

  it('T121 without the CA the same certificate is refused', async () => {
    await startTlsRedis(certificates.good);
    await startTlsWorld((config) => delete config.caFile);
    expect(await readiness()).toBe(503);
    expect(world.log.text()).toMatch(/redis is not reachable/);
  });
});

describe('as an ACL user', () => {
  beforeEach(() => startTlsRedis(certificates.good));

  it('the documented rules are enough for a login, calls, refresh, session list, logout and the session channel', async () => {
    await startTlsWorld((config) => Object.assign(config, { username: 'cloakroom', password }));
    await createUser(documentedRules(world.keyPrefix));
    await until(async () => (await readiness()) === 200);
    await until(() => world.log.lines.some(({ msg }) => msg === 'the session channel is connected'));
    const browser = await world.loggedIn('alice');
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    expect((await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf })).status).toBe(200);
    expect((await browser.fetch('/bff/sessions', { headers: csrf })).status).toBe(200);
    expect((await browser.fetch('/bff/logout', { method: 'POST', headers: csrf })).status).toBe(200);
    expect(await isLoggedIn(browser)).toBe(false);
    const admin = new Redis(redis.url);
    expect(await admin.call('ACL', 'LOG')).toEqual([]);
    admin.disconnect();
  });

  it('the documented rules name every command of the scripts, and open no other key', async () => {
    await startTlsWorld((config) => Object.assign(config, { username: 'cloakroom', password }));
    const rules = documentedRules(world.keyPrefix);
    const scripts = readFileSync(join(root, 'src/store/redis-scripts.ts'), 'utf8');
    const used = new Set(
      [...scripts.matchAll(/redis\.call\('(\w+)'/g)].map(([, name = '']) => `+${name.toLowerCase()}`),
    );
    expect([...used].filter((name) => !rules.includes(name))).toEqual([]);
    await createUser(rules);
    const user = new Redis(redis.url, { username: 'cloakroom', password });
    await expect(user.get('another:key')).rejects.toThrow(/NOPERM/);
    await expect(user.publish('another', 'x')).rejects.toThrow(/NOPERM/);
    await expect(user.flushall()).rejects.toThrow(/NOPERM/);
    user.disconnect();
  });

  it('T108 that may not ask for the eviction policy everything else works', async () => {
    await startTlsWorld((config) => Object.assign(config, { username: 'cloakroom', password }));
    await createUser([...documentedRules(world.keyPrefix), '-info', '-config']);
    await until(async () => (await readiness()) === 200);
    expect(await userOf(await world.loggedIn('alice'))).toBe('alice');
  });

  it('T106 a wrong password is an outage, named in the log without the password', async () => {
    const wrong = randomBytes(24).toString('base64url');
    await startTlsWorld((config) => Object.assign(config, { username: 'cloakroom', password: wrong }));
    await createUser(documentedRules(world.keyPrefix));
    expect(await readiness()).toBe(503);
    await until(() => world.log.text().includes('WRONGPASS'));
    expect(world.log.text()).not.toContain(wrong);
  });
});
