import { defineConfig } from 'vitest/config';

const common = { testTimeout: 20_000, hookTimeout: 30_000, globals: false };
// Real processes, frozen and killed, on a machine of two cores: what fails there by timing alone gets one more try in CI.
// Pure tests get none, and nobody does at a desk.
const patient = { ...common, retry: process.env.CI === undefined ? 0 : 1 };

// unit: pure, no Redis. The rest runs against the real peers: Redis, an OpenID provider, sockets. faults: replicas
// in processes of their own, killed, frozen and cut off. e2e: Chromium.
export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'unit', include: ['test/{unit,model,project}/**/*.test.ts'] } },
      {
        test: {
          ...patient,
          name: 'integration',
          include: ['test/{flows,contract,security}/**/*.test.ts'],
          globalSetup: ['test/support/global-redis.ts'],
          maxWorkers: 2,
        },
      },
      {
        test: {
          ...patient,
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          globalSetup: ['test/support/global-redis.ts', 'test/support/fault-table-setup.ts'],
          testTimeout: 60_000,
          maxWorkers: 1,
        },
      },
      { test: { ...patient, name: 'e2e', include: ['test/e2e/**/*.test.ts'], testTimeout: 60_000, maxWorkers: 1 } },
    ],
  },
});
