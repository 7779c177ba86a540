import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FloodWorld, floods, nameOf, readLimits, startFloodWorld } from '../support/floods.ts';

// Issue 12, 6: what nobody's requests may cost. Two seconds each; ten, and a stricter bound, in test/world/floods.test.ts.

const rows = readLimits();

it('every limit of docs/operations.md is flooded, and nothing else', () => {
  expect(rows.map(({ limit }) => limit)).toEqual(Object.keys(floods));
});

describe('another user is served while somebody runs into a limit', () => {
  let world: FloodWorld;
  beforeAll(async () => {
    world = await startFloodWorld();
  });
  afterAll(() => world.stop());

  for (const row of rows) it(nameOf(row), () => world.withstand(row, 2, 1000));
});
