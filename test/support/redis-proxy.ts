import { inject, onTestFinished } from 'vitest';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import './global-redis.ts';

/** A proxy in front of the Redis that all tests share, until this test has ended: only its own world loses Redis. */
export async function startRedisProxy(): Promise<FaultProxy> {
  const proxy = await startFaultProxy(Number(new URL(inject('redisUrl')).port));
  onTestFinished(() => proxy.stop());
  return proxy;
}
