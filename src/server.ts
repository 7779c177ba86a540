import cluster from 'node:cluster';
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { createApp } from './app.ts';
import { graceFault } from './config/config.ts';
import { formatProblem, loadConfig } from './config/load.ts';
import { shownPath } from './crypto/shown.ts';
import { loggerOptions, openLogStream } from './ops/logging.ts';
import { reportReady, superviseWorkers } from './workers.ts';

/** How V8 collects garbage; it reads these whenever it decides. Why: ADR 14. */
const collectorFlags = [
  '--no-allocation-site-pretenuring',
  '--heap-growing-percent=100',
  '--no-memory-reducer-favors-memory',
];

/** The process, or the supervisor of several: configuration → app → listen → drain. The only file that exits. */
export async function startServer(configFile: string): Promise<void> {
  for (const flag of collectorFlags) setFlagsFromString(flag);
  const loaded = loadConfig(configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) console.error(formatProblem(problem));
    process.exit(1);
  }
  const { config, warnings } = loaded;
  const count = config.workers === 'auto' ? availableParallelism() : config.workers;
  if (count > 1 && cluster.isPrimary) {
    const { delay, grace } = config.shutdown;
    const log = pino(loggerOptions(config.log.level), openLogStream());
    process.exit(await superviseWorkers(count, delay + grace, log));
  }
  const app = await createApp(config, { withProcessMetrics: true, logStream: openLogStream() }).catch(
    (error: unknown) => giveUp(configFile, error),
  );
  const tooShort = graceFault(config);
  if (tooShort !== undefined) warnings.push(`shutdown.grace ${tooShort.message}`);
  for (const warning of warnings) app.server.log.warn({ setting: warning }, 'configuration warning');
  await app.ops.listen(config.ops).catch((error: unknown) => giveUp(`${configFile} ops`, error));
  await app.listen().catch((error: unknown) => giveUp(`${configFile} listen`, error));

  if (cluster.isWorker) reportReady();

  const { delay, grace } = config.shutdown;
  // Ctrl-C reaches the whole group: the supervisor alone passes it on, as SIGTERM, so that no worker hears it twice.
  const skip = cluster.isWorker ? (['SIGINT'] as const) : [];
  closeWithGrace({ delay: delay + grace, logger: false, skip: [...skip] }, async ({ err, signal }) => {
    if (err !== undefined) app.server.log.error({ fault: err.name }, 'stopping after an unexpected error');
    else app.server.log.info({ signal }, 'draining');
    app.startDraining();
    await pause(delay); // load balancers see /readyz fail before connections are refused
    await app.close();
  });
}

/** What the system says has the file or host name in it, and that may be a secret in the wrong place of the file (W15). */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  const { code, syscall, path, port } = error as NodeJS.ErrnoException & { port?: number };
  if (syscall === undefined) return error.message;
  const what = path === undefined ? (port === undefined ? '' : ` port ${port}`) : ` ${shownPath(path)}`;
  return `${syscall}${what}: ${code ?? 'failed'}`;
}

/** One line for the operator instead of a stack: a port that is taken, a CA file or SPA folder that is not there. */
function giveUp(key: string, error: unknown): never {
  console.error(`${key}: can't start: ${reasonOf(error)}`);
  process.exit(1);
}
