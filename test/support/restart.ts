import { stringify } from 'yaml';
import { createApp } from '../../src/app.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import type { ConfigData, World } from './world.ts';

/** Stops a replica and starts it again on the same port with this configuration, as a deployment does. */
export async function restart(world: World, data: ConfigData, replica = 0): Promise<void> {
  const parsed = parseConfig('world.yaml', stringify(data), {});
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
  await world.apps[replica]?.close();
  const app = await createApp(parsed.config, {
    logStream: world.log.stream,
    ...(world.redisUrl === undefined ? { nowMs: world.clock.now } : {}),
  });
  await app.ops.listen({ host: '127.0.0.1', port: 0 });
  await app.server.listen({ host: '127.0.0.1', port: world.ports[replica] as number });
  world.apps[replica] = app;
  if (replica === 0) world.app = app;
}
