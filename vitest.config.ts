import { defineConfig } from 'vitest/config';

const common = { testTimeout: 20_000, hookTimeout: 30_000, globals: false };

// unit: pure, no Redis. The rest runs against the real peers: Redis, an OpenID provider, sockets. faults: replicas
// in processes of their own, killed, frozen and cut off. e2e: Chromium. world: what needs a JVM, Python, Go tools or
// minutes of load; not in CI (docs/architecture.md, two lanes).
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/{unit,model,project}/**/*.test.ts', 'packages/*/test/**/*.test.ts'],
        },
      },
      {
        test: {
          ...common,
          name: 'integration',
          include: ['test/{flows,contract,security}/**/*.test.ts'],
          globalSetup: ['test/support/global-redis.ts'],
          maxWorkers: 2,
        },
      },
      {
        test: {
          ...common,
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          globalSetup: ['test/support/global-redis.ts', 'test/support/fault-table-setup.ts'],
          testTimeout: 60_000,
          maxWorkers: 1,
        },
      },
      {
        test: {
          ...common,
          name: 'world',
          include: ['test/world/**/*.test.ts'],
          globalSetup: ['test/support/global-redis.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          maxWorkers: 1,
        },
      },
      { test: { ...common, name: 'e2e', include: ['test/e2e/**/*.test.ts'], testTimeout: 60_000, maxWorkers: 1 } },
    ],
  },
});
