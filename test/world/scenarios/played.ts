import { notOffered } from '../support/not-offered.ts';
import type { ServerName } from '../support/real-server.ts';
import type { RealWorld } from '../support/real-world.ts';
import { type ScenarioName, scenarios } from './all.ts';

/** What this server plays: names and plays. */
export function playedBy(server: ServerName): [ScenarioName, (world: RealWorld) => Promise<void>][] {
  const names = Object.keys(scenarios) as ScenarioName[];
  return names.filter((name) => !notOffered[server].includes(name)).map((name) => [name, scenarios[name]]);
}
