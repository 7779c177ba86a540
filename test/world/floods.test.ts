import { afterAll, beforeAll, describe, it } from 'vitest';
import { type FloodWorld, nameOf, readLimits, startFloodWorld } from '../support/floods.ts';

// Issue 12, 6: each limit is flooded for ten seconds.

const rows = readLimits();

describe('another user is served while somebody runs into a limit', () => {
  let world: FloodWorld;
  beforeAll(async () => {
    world = await startFloodWorld();
  });
  afterAll(() => world.stop());

  for (const row of rows) it(nameOf(row), () => world.withstand(row, 10, 250));
});
