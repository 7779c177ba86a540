import type { Clock } from './clock.ts';
import { startWorld, type World, type WorldOptions } from './world.ts';

/**
 * A world on the memory store whose provider has the same clock as Cloakroom, at a whole second, so that edges are
 * exact. openid-client alone has the real one.
 */
export async function startTimedWorld(options: Omit<WorldOptions, 'store'> = {}): Promise<World> {
  let clock: Clock | undefined;
  const now = () => clock?.now() ?? Date.now();
  const world = await startWorld({ ...options, store: 'memory', provider: { ...options.provider, now } });
  clock = world.clock;
  clock.advance(-(clock.now() % 1000));
  return world;
}
