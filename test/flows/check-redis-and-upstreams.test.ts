import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { scriptCommands } from '../../src/store/redis-scripts.ts';
import { type Certificates, createCertificates, writeCaFile } from '../support/certificates.ts';
import { check, configOf, faultsOf, linesOf, startEvil, stopAfterwards } from '../support/check.ts';
import { startEchoUpstream } from '../support/echo-upstream.ts';
import { freePort, startRedis, uniqueKeyPrefix } from '../support/redis.ts';
import { startRedisCluster } from '../support/redis-cluster.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { startRedisSentinel } from '../support/redis-sentinel.ts';
import type { ConfigData } from '../support/world.ts';

// `cloakroom check --connect` asks Redis, and connects to the upstreams.

let certificates: Certificates;
let files: Awaited<ReturnType<typeof writeCaFile>>;
beforeAll(async () => {
  certificates = await createCertificates();
  files = await writeCaFile(certificates);
});
afterAll(() => files.remove());

describe('upstreams', () => {
  it('are as well a development server', async () => {
    const devServer = await startEchoUpstream();
    stopAfterwards(devServer);
    const provider = await startEvil();
    const data = { ...configOf(provider), publicUrl: 'http://localhost:8080', devServer: devServer.url };
    const about = async () => linesOf(await check(data), 'ok', 'FAIL').filter((line) => line.includes('devServer'));
    expect(await about()).toEqual([expect.stringMatching(/^ok {4}devServer: .* is reached$/)]);
    data.devServer = `http://localhost:${await freePort()}`;
    expect(await about()).toEqual([expect.stringMatching(/^FAIL {2}devServer: .*→/)]);
    expect(devServer.requests).toEqual([]);
  });

  it('are connected to as calls would be, and nothing is sent', async () => {
    const [plain, secure, bad] = [
      await startEchoUpstream(),
      await startEchoUpstream({ tls: certificates.good }),
      await startEchoUpstream({ tls: certificates.selfSigned }),
    ];
    const mutual = await startEchoUpstream({
      tls: { ...certificates.good, ca: certificates.ca, requestCert: true, rejectUnauthorized: true },
    });
    stopAfterwards(...[plain, secure, bad, mutual]);
    for (const [name, text] of Object.entries(certificates.client))
      await writeFile(join(files.folder, `client-${name}.pem`), text);
    const clientCertificate = {
      certFile: join(files.folder, 'client-cert.pem'),
      keyFile: join(files.folder, 'client-key.pem'),
    };
    const provider = await startEvil();
    const data = configOf(provider);
    const api = (name: string, upstream: unknown, more: object = {}) => ({
      [name]: { path: `/api/${name}`, upstream, ...more },
    });
    data.apis = {
      ...api('plain', [plain.url, `http://127.0.0.1:${await freePort()}`]),
      ...api('secure', secure.url, { caFile: files.caFile }),
      ...api('bad', bad.url, { caFile: files.caFile }),
      ...api('mutual', mutual.url, { caFile: files.caFile, clientCertificate }),
      ...api('uncertified', mutual.url, { caFile: files.caFile }),
      ...api('socket', 'unix:/run/no-such.sock'),
      ...api('clear', secure.url.replace('https', 'http').replace('localhost', '127.0.0.1')),
    };
    const findings = await check(data);
    const of = (name: string) =>
      findings.filter(({ key }) => key.startsWith(`apis.${name}.`)).map(({ status, says }) => `${status} ${says}`);
    expect(of('plain')).toEqual([
      `ok 127.0.0.1:${plain.port} is reached`,
      expect.stringMatching(/^FAIL .*nothing listens there/),
    ]);
    expect(of('secure')).toEqual([expect.stringMatching(/^warn .*with TLS, its certificate is good until/)]);
    expect(of('bad')).toEqual([expect.stringMatching(/^FAIL .*not trusted here/)]);
    expect(of('mutual')).toEqual([expect.stringMatching(/^warn .*with TLS/)]);
    expect(of('uncertified')).toEqual([expect.stringMatching(/^FAIL .*(TLS handshake|hung up)/)]);
    expect(of('socket')).toEqual([
      expect.stringMatching(/^FAIL unix:\/run\/no-such\.sock is not reached: there is no such socket/),
    ]);
    expect(of('clear')).toEqual([expect.stringMatching(/^ok /)]);
    for (const upstream of [plain, secure, bad, mutual]) expect(upstream.requests).toEqual([]);
  });
});

describe('Redis', () => {
  const checkRedis = async (redis: ConfigData) => {
    const data = configOf(await startEvil());
    data.session.redis = redis;
    return (await check(data)).filter(({ key }) => key === 'session.redis');
  };
  const documented = (keyPrefix: string) =>
    ['resetkeys', `~${keyPrefix}*`, 'resetchannels', `&${keyPrefix}*`, '-@all'].concat(
      '+evalsha +eval +get +set +del +exists +expireat +pttl +hget +hmget +hset +zadd +zrem +zrange +zrangebyscore +zremrangebyscore +time +ping +info +client|setname +publish +subscribe'.split(
        ' ',
      ),
    );
  const password = 'password-of-the-user-8s7d6f';

  async function userWith(rules: string[]): Promise<ConfigData> {
    const keyPrefix = uniqueKeyPrefix();
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const admin = new Redis(server.url);
    await admin.call('ACL', 'SETUSER', 'cloakroom', 'reset', 'on', `>${password}`, ...documented(keyPrefix), ...rules);
    admin.disconnect();
    return { url: server.url, username: 'cloakroom', password, keyPrefix };
  }

  it('with the documented user has nothing but ok, and no key is left', async () => {
    const redis = await userWith([]);
    const findings = await checkRedis(redis);
    expect(faultsOf(findings)).toEqual([]);
    expect(linesOf(findings, 'ok').join('\n')).toMatch(
      /version \d+\.\d+\.\d+: connected as cloakroom\n.*all commands of sessions work/,
    );
    expect(await dumpRedis(redis.url, '*')).toEqual([]);
  });

  it.each([...scriptCommands, 'publish', 'subscribe', 'eval'])('names it when the user may not %s', async (command) => {
    const faults = faultsOf(await checkRedis(await userWith([`-${command}`])));
    expect(faults.length).toBeGreaterThan(0);
    expect(faults.join('\n')).toMatch(
      new RegExp(`FAIL {2}session\\.redis: .*(\\b${command}\\b|channel).* → .*ACL line`),
    );
  });

  it('names keys and channels that the user may not touch, and INFO as a warning', async () => {
    const redis = await userWith([]);
    const other = faultsOf(await checkRedis({ ...redis, keyPrefix: 'other:' }));
    expect(other).toContainEqual(expect.stringMatching(/the user may not use the keys other:\* → .*~other:\*/));
    expect(other).toContainEqual(expect.stringMatching(/channel other:events: NOPERM → .*&other:\*/));
    expect(faultsOf(await checkRedis(await userWith(['-info'])))).toEqual([
      expect.stringMatching(/^warn {2}session\.redis: .*may not use info/),
    ]);
  });

  it('names a wrong password, a missing one, and a server that is not there', async () => {
    const redis = await userWith([]);
    expect(faultsOf(await checkRedis({ ...redis, password: 'another-password-8s7d6f' }))).toEqual([
      expect.stringMatching(
        /^FAIL {2}session\.redis: redis:\/\/127\.0\.0\.1:\d+ can’t be used: WRONGPASS, user or password are wrong → /,
      ),
    ]);
    const locked = await startRedis({ args: ['--requirepass', password] });
    onTestFinished(() => locked.stop());
    expect(faultsOf(await checkRedis({ url: locked.url }))).toEqual([
      expect.stringMatching(/NOAUTH, it wants a password → set session\.redis\.password/),
    ]);
    expect(faultsOf(await checkRedis({ url: `redis://127.0.0.1:${await freePort()}` }))).toEqual([
      expect.stringMatching(/nothing listens there .*→/),
    ]);
    expect(faultsOf(await checkRedis({ url: locked.url.replace('redis:', 'rediss:') }))).toEqual([
      expect.stringMatching(/can’t be used: no answer in time .*; if it speaks no TLS, write redis:\/\/ instead/),
    ]);
  });

  it('names a replica, a full memory, and a policy that throws sessions away', async () => {
    const primary = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] });
    const full = await startRedis({ args: ['--maxmemory', '1'] });
    stopAfterwards(...[primary, replica, full]);
    expect(faultsOf(await checkRedis({ url: primary.url }))).toEqual([
      expect.stringMatching(/^warn {2}.*allkeys-lru throws sessions away.* → CONFIG SET maxmemory-policy noeviction/),
    ]);
    expect(faultsOf(await checkRedis({ url: replica.url }))).toEqual([
      expect.stringMatching(/^FAIL {2}.*is a replica.* → name the primary/),
    ]);
    expect(faultsOf(await checkRedis({ url: full.url }))).toEqual([
      expect.stringMatching(/^FAIL {2}.*takes no writes: OOM, its memory is full → /),
    ]);
  });

  it('behind Sentinels names a primary that they do not know, and Sentinels that are not there', async () => {
    const topology = await startRedisSentinel();
    stopAfterwards(topology);
    const sentinel = { name: topology.name, nodes: topology.nodes };
    expect(faultsOf(await checkRedis({ sentinel, keyPrefix: uniqueKeyPrefix() }))).toEqual([]);
    expect(faultsOf(await checkRedis({ sentinel: { ...sentinel, name: 'another' } }))).toEqual([
      expect.stringMatching(
        /^FAIL {2}session\.redis: .*the Sentinels: .* → correct nodes and name of session\.redis\.sentinel/,
      ),
    ]);
    const nodes = [`redis://127.0.0.1:${await freePort()}`];
    expect(faultsOf(await checkRedis({ sentinel: { ...sentinel, nodes } }))).toEqual([
      expect.stringMatching(
        /the Sentinels: not connected → correct nodes and name of session\.redis\.sentinel, or start them/,
      ),
    ]);
  });

  it('as a cluster is asked node by node', async () => {
    const cluster = await startRedisCluster();
    stopAfterwards(cluster);
    const keyPrefix = uniqueKeyPrefix();
    const rules = [
      ...documented(keyPrefix),
      ...'+spublish +ssubscribe +cluster|slots +cluster|info +asking'.split(' '),
    ];
    for (const node of [0, 1, 2])
      await cluster.ask(node, 'ACL', 'SETUSER', 'cloakroom', 'on', `>${password}`, ...rules);
    const redis = { cluster: cluster.urls, username: 'cloakroom', password, keyPrefix };
    const good = await checkRedis(redis);
    expect(faultsOf(good)).toEqual([]);
    expect(linesOf(good, 'ok').filter((line) => line.includes('all commands of sessions work'))).toHaveLength(3);
    await cluster.ask(1, 'ACL', 'SETUSER', 'cloakroom', '-zadd');
    expect(faultsOf(await checkRedis(redis))).toEqual([
      expect.stringMatching(new RegExp(`127\\.0\\.0\\.1:${cluster.nodes[1]?.port}: the user may not use zadd → `)),
    ]);
    for (const node of [0, 1, 2])
      await cluster.ask(node, 'ACL', 'SETUSER', 'cloakroom', 'resetpass', '>another-password');
    expect(faultsOf(await checkRedis(redis))).toEqual([expect.stringMatching(/WRONGPASS/)]);
    for (const { url } of cluster.nodes) expect(await dumpRedis(url, '*')).toEqual([]);
  });
});
