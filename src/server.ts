import { setTimeout as pause } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import { createApp } from './app.ts';
import { formatProblem, loadConfig } from './config/load.ts';

/** The process: configuration → app → listen → drain. The only file that exits. */
export async function startServer(configFile: string): Promise<void> {
  const loaded = loadConfig(configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) console.error(formatProblem(problem));
    process.exit(1);
  }
  const { config, warnings } = loaded;
  const app = await createApp(config, { withProcessMetrics: true });
  for (const warning of warnings) app.server.log.warn({ setting: warning }, 'configuration warning');
  await app.ops.listen(config.ops);
  await app.server.listen(config.listen);

  const { delay, grace } = config.shutdown;
  closeWithGrace({ delay: delay + grace, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) app.server.log.error({ fault: err.name }, 'stopping after an unexpected error');
    else app.server.log.info({ signal }, 'draining');
    app.startDraining();
    await pause(delay); // load balancers see /readyz fail before connections are refused
    await app.close();
  });
}
