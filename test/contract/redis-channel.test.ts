import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RedisConfig } from '../../src/config/config.ts';
import { createRedisChannel, type RedisChannel } from '../../src/redis/channel.ts';
import { createRedisClient, type RedisClient, StoreUnavailableError } from '../../src/redis/client.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { type RedisServer, startRedis, uniqueKeyPrefix } from '../support/redis.ts';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.ts';
import { until } from '../support/wait.ts';

interface Replica {
  channel: RedisChannel;
  heard: string[];
  statuses: boolean[];
  close(): Promise<void>;
}

const silent = { warn() {}, info() {} };

/** One process: its client and its channel. */
async function startReplica(where: Partial<RedisConfig>, name = 'events', keyPrefix = 'cr:'): Promise<Replica> {
  const config: RedisConfig = { keyPrefix, connectTimeout: 500, commandTimeout: 300, ...where };
  const client: RedisClient = createRedisClient(config, silent);
  await client.connect().catch(() => undefined);
  const channel = createRedisChannel(config, client, name, silent);
  const heard: string[] = [];
  const statuses: boolean[] = [];
  channel.onMessage((text) => heard.push(text));
  channel.onStatus((isUp) => statuses.push(isUp));
  return {
    channel,
    heard,
    statuses,
    async close() {
      await channel.close();
      client.disconnect();
    },
  };
}

const isUp = ({ channel }: Replica) => until(() => channel.isUp(), { message: 'the subscription' });
const isDown = ({ channel }: Replica) => until(() => !channel.isUp(), { message: 'the loss to be noticed' });

async function expectDelivery(from: Replica, to: Replica[], text: string): Promise<void> {
  await from.channel.publish(text);
  await until(() => to.every(({ heard }) => heard.includes(text)), { message: `${text} everywhere` });
}

describe('the session channel on a single Redis', () => {
  let redis: RedisServer;
  let proxy: FaultProxy;
  let near: Replica;
  let far: Replica;
  beforeEach(async () => {
    redis = await startRedis();
    proxy = await startFaultProxy(redis.port);
    [near, far] = await Promise.all([startReplica({ url: proxy.redisUrl }), startReplica({ url: redis.url })]);
    await Promise.all([near, far].map(isUp));
  });
  afterEach(async () => {
    redis.resume();
    await Promise.all([near, far].map((replica) => replica.close()));
    await proxy.stop();
    await redis.stop();
  });

  it('delivers to every replica, the sender included', async () => {
    await expectDelivery(near, [near, far], 'from near');
    await expectDelivery(far, [near, far], 'from far');
    expect(near.heard).toEqual(['from near', 'from far']);
    expect(near.statuses).toEqual([true]);
  });

  it('keeps names and key prefixes apart', async () => {
    const others = await Promise.all([
      startReplica({ url: redis.url }, 'other'),
      startReplica({ url: redis.url }, 'events', uniqueKeyPrefix()),
    ]);
    await Promise.all(others.map(isUp));
    await expectDelivery(near, [far], 'mine');
    for (const other of others) {
      await expectDelivery(other, [other], 'theirs');
      expect(other.heard).toEqual(['theirs']);
      await other.close();
    }
    expect(far.heard).toEqual(['mine']);
  });

  const losses: [string, () => void][] = [
    ['is cut', () => proxy.cut()],
    ['falls silent', () => proxy.abandon()],
    ['is refused for a while', () => proxy.refuse()],
    ['runs through a black hole for a while', () => Object.assign(proxy.faults, { blackHole: true })],
  ];
  it.each(losses)('says down when its connection %s, and is subscribed again by itself', async (_how, lose) => {
    lose();
    await isDown(near);
    expect(far.channel.isUp()).toBe(true);
    proxy.reset();
    await isUp(near);
    await expectDelivery(far, [near, far], 'after the loss');
    expect(near.statuses).toEqual([true, false, true]);
  });

  it('says down while Redis is frozen, and rejects what it is told to publish', async () => {
    redis.pause();
    await expect(near.channel.publish('lost')).rejects.toThrow(StoreUnavailableError);
    await Promise.all([near, far].map(isDown));
    redis.resume();
    await Promise.all([near, far].map(isUp));
    // What publishes is another connection: it comes back by itself too, in its own time.
    await until(
      () =>
        near.channel.publish('thawed').then(
          () => true,
          () => false,
        ),
      { message: 'the client' },
    );
    await until(() => far.heard.includes('thawed'), { message: 'thawed everywhere' });
  });

  it('stays subscribed while nothing is said for longer than every timeout', async () => {
    const quietUntil = performance.now() + 1200;
    await until(() => performance.now() > quietUntil);
    expect(near.statuses).toEqual([true]);
    await expectDelivery(far, [near], 'still there');
  });

  it('is down after close, also when Redis is away', async () => {
    await redis.stop();
    await near.close();
    expect(near.channel.isUp()).toBe(false);
  });
});

describe('the session channel on a cluster', () => {
  let cluster: RedisCluster;
  let replicas: Replica[];
  beforeEach(async () => {
    cluster = await startRedisCluster();
    replicas = await Promise.all(cluster.urls.map((url) => startReplica({ cluster: [url] })));
    await Promise.all(replicas.map(isUp));
  });
  afterEach(async () => {
    await Promise.all(replicas.map((replica) => replica.close()));
    await cluster.stop();
  });

  it('delivers to every replica, whichever node they asked first', async () => {
    for (const replica of replicas) await expectDelivery(replica, replicas, `by ${replicas.indexOf(replica)}`);
  });

  it('follows its slot to another node', async () => {
    await cluster.moveSlot('cr:events');
    await until(() => replicas.every(({ channel, statuses }) => statuses.includes(false) && channel.isUp()), {
      message: 'the new subscriptions',
    });
    for (const replica of replicas) await expectDelivery(replica, replicas, `moved ${replicas.indexOf(replica)}`);
  });
});
