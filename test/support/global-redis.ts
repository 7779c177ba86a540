import type { TestProject } from 'vitest/node';
import { findRedisProgram, startRedis } from './redis.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The Redis shared by all test files: `inject('redisUrl')`. Use your own `uniqueKeyPrefix()` in it. */
    redisUrl: string;
  }
}

/** vitest `globalSetup`: `REDIS_URL` if set, else a server started from the PATH, else one clear line. */
export default async function provideRedis(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env.REDIS_URL;
  if (given) {
    project.provide('redisUrl', given);
    return undefined;
  }
  if (findRedisProgram() === undefined) {
    throw new Error(
      'Tests need Redis: set REDIS_URL, or install redis-server (>= 6.2) or valkey-server into the PATH.',
    );
  }
  const server = await startRedis();
  project.provide('redisUrl', server.url);
  return () => server.stop();
}
