import { afterAll, beforeAll, describe, it } from 'vitest';
import { type FloodWorld, readLimits, startFloodWorld } from '../support/floods.ts';

// Issue 12, 6: each limit is flooded for ten seconds.

const rows = readLimits();

describe('another user is served while somebody runs into a limit', () => {
  let world: FloodWorld;
  beforeAll(async () => {
    world = await startFloodWorld();
  });
  afterAll(() => world.stop());

  for (const row of rows) {
    const ids = row.limit.startsWith('unanswered')
      ? 'W13 '
      : row.limit.startsWith('bodies')
        ? 'W14 '
        : /introspections|tokens/.test(row.limit)
          ? 'W9 '
          : '';
    it(`${ids}${row.limit}`, () => world.withstand(row, 10, 250));
  }
});
