import cluster, { type Worker } from 'node:cluster';
import { answerWorkerMetrics } from './ops/worker-metrics.ts';

/** What a worker says once it serves. */
const ready = 'cloakroom:ready';

/** Tells the supervisor, if there is one, that this worker serves. */
export function reportReady(): void {
  process.send?.(ready);
}

/** Milliseconds: a worker that dies again and again is started again more and more slowly. */
const firstPauseMs = 100;
const longestPauseMs = 10_000;
/** Who lived this long did start. Milliseconds. */
const settledMs = 5000;
/** A worker ends by itself after its grace; this much later it hangs. Milliseconds. */
const killAfterMs = 5000;

export interface SupervisorLog {
  info(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/**
 * Keeps so many worker processes running that share the listeners. This process serves nothing itself. A worker that
 * dies is replaced; the first ones must start, or nothing does. Resolves with the exit code when all have ended after a
 * signal, each drained as a single process would.
 *
 * @param graceMs how long a worker may take to drain.
 */
export function superviseWorkers(count: number, graceMs: number, log: SupervisorLog): Promise<number> {
  return new Promise((resolve) => {
    let isStopping = false;
    let hasStarted = false;
    let exitCode = 0;
    let failures = 0;
    const startedAt = new Map<number, number>();
    const restarts = new Set<NodeJS.Timeout>();

    const start = () => {
      const worker = cluster.fork();
      startedAt.set(worker.id, performance.now());
    };
    const stop = () => {
      if (isStopping) return;
      isStopping = true;
      for (const timer of restarts) clearTimeout(timer);
      const workers = Object.values(cluster.workers ?? {}).filter((worker): worker is Worker => worker !== undefined);
      if (workers.length === 0) return resolve(exitCode);
      for (const worker of workers) worker.process.kill('SIGTERM');
      setTimeout(() => {
        for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill('SIGKILL');
      }, graceMs + killAfterMs).unref();
    };

    answerWorkerMetrics();
    cluster.on('message', (_worker, message: unknown) => {
      if (message === ready) hasStarted = true;
    });
    cluster.on('exit', (worker, code, signal) => {
      const livedMs = performance.now() - (startedAt.get(worker.id) ?? 0);
      startedAt.delete(worker.id);
      if (isStopping) {
        if (signal === 'SIGKILL') exitCode = 1; // it hung
        exitCode ||= code ?? 0; // one that was only starting ends by the signal
        if (startedAt.size === 0) resolve(exitCode);
        return;
      }
      log.error({ worker: worker.id, code, signal }, 'a worker ended and is started again');
      // The first ones say why they can't start; trying again would not change that.
      if (!hasStarted) {
        exitCode = code || 1;
        return stop();
      }
      failures = livedMs >= settledMs ? 0 : failures + 1;
      const pauseMs = failures === 0 ? 0 : Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs);
      const timer = setTimeout(() => {
        restarts.delete(timer);
        start();
      }, pauseMs);
      restarts.add(timer);
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
    for (let index = 0; index < count; index++) start();
    log.info({ workers: count }, 'workers are starting');
  });
}
