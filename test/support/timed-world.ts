import type { Clock } from './clock.ts';
import { type ConfigData, startWorld, type World, type WorldOptions } from './world.ts';

/**
 * Access tokens live 300 s in a timed world and are refreshed 60 s ahead: when one is due, and when it is over.
 * Milliseconds.
 */
export const ageing = 250_000;
export const expired = 300_000;

/** A configuration for providers that do not answer: 500 ms are waited for them. */
export function impatient(data: ConfigData): void {
  Object.assign(data.authorizationServer, { timeout: '500ms', refreshTimeout: '500ms' });
}

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
