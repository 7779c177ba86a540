import { setTimeout as pause } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import { createApp } from './app.ts';
import { formatProblem, loadConfig } from './config/load.ts';
import { openLogStream } from './ops/logging.ts';

/** The process: configuration → app → listen → drain. The only file that exits. */
export async function startServer(configFile: string): Promise<void> {
  const loaded = loadConfig(configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) console.error(formatProblem(problem));
    process.exit(1);
  }
  const { config, warnings } = loaded;
  const app = await createApp(config, { withProcessMetrics: true, logStream: openLogStream() }).catch(
    (error: unknown) => giveUp(configFile, error),
  );
  for (const warning of warnings) app.server.log.warn({ setting: warning }, 'configuration warning');
  await app.ops.listen(config.ops).catch((error: unknown) => giveUp(`${configFile} ops`, error));
  await app.server.listen(config.listen).catch((error: unknown) => giveUp(`${configFile} listen`, error));

  const { delay, grace } = config.shutdown;
  closeWithGrace({ delay: delay + grace, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) app.server.log.error({ fault: err.name }, 'stopping after an unexpected error');
    else app.server.log.info({ signal }, 'draining');
    app.startDraining();
    await pause(delay); // load balancers see /readyz fail before connections are refused
    await app.close();
  });
}

/** One line for the operator instead of a stack: a port that is taken, a CA file or SPA folder that is not there. */
function giveUp(key: string, error: unknown): never {
  console.error(`${key}: can't start: ${error instanceof Error ? error.message : 'unknown error'}`);
  process.exit(1);
}
