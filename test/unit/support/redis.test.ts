import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { redisError, startFaultProxy } from '../../support/fault-proxy.ts';
import { startRedis, uniqueKeyPrefix } from '../../support/redis.ts';
import { dumpRedis } from '../../support/redis-dump.ts';

test('a private Redis answers, freezes, comes back and shows its keys', async () => {
  const server = await startRedis();
  const redis = new Redis(server.url, { commandTimeout: 100 });
  const prefix = uniqueKeyPrefix();
  await redis.set(`${prefix}a`, 'one', 'PX', 60_000);
  await redis.hset(`${prefix}b`, { field: 'two' });
  await redis.zadd(`${prefix}c`, 3, 'member');
  server.pause();
  await expect(redis.get('x')).rejects.toThrow('timed out');
  server.resume();
  expect(await dumpRedis(server.url, `${prefix}*`)).toMatchObject([
    { type: 'string', value: 'one' },
    { type: 'hash', value: 'field\ntwo', pttl: -1 },
    { type: 'zset', value: 'member\n3' },
  ]);
  redis.disconnect();
  await server.stop();
  const again = await startRedis({ port: server.port });
  await again.stop();
});

test('the fault proxy cuts, swallows and answers for the peer', async () => {
  const server = await startRedis();
  const proxy = await startFaultProxy(server.port);
  const redis = new Redis(proxy.redisUrl, { commandTimeout: 200, retryStrategy: () => 5 });
  redis.on('error', () => {});
  expect(await redis.set('a', '1')).toBe('OK');
  proxy.faults.answer = redisError('READONLY You cannot write');
  await expect(redis.set('a', '2')).rejects.toThrow('READONLY');
  proxy.faults.answer = undefined;
  proxy.faults.blackHole = true;
  await expect(redis.get('a')).rejects.toThrow('timed out');
  proxy.reset();
  expect(await redis.get('a')).toBe('1');
  redis.disconnect();
  await proxy.stop();
  await server.stop();
});
