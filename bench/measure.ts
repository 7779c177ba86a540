import { truncateSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { readCore, readUsage } from './accounting.ts';
import { runLoad } from './load/load.ts';
import type { Stage } from './stage.ts';
import type { Subject } from './subject.ts';

/** One load on one proxy. Times of the processor are microseconds for each answered request. */
export interface Measurement {
  cpuUs: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  rssMiB: number;
  /** Redis's own. */
  redisCpuUs: number;
  redisCommands: number;
  redisReads: number;
  /** Share of one core that the proxy had. Well below 1: load or upstream were the bottleneck. */
  busy: number;
  /** Share of the proxy's core that somebody else had meanwhile, another machine included; 0 when nothing is pinned. */
  others: number;
  /** Why the numbers count for nothing. */
  fault?: string;
}

/** Connections of the load; below the limits of every proxy. */
export const connections = 50;

export interface MeasureOptions {
  seconds: number;
  /** Requests a second; as many as it can answer when absent. */
  rate?: number;
}

/** Loads the proxy for so long and reads from the kernel and from Redis what that cost. */
export async function measure(stage: Stage, subject: Subject, options: MeasureOptions): Promise<Measurement> {
  if (!stage.isPatient) return measureOnce(stage, subject, options);
  for (;;) {
    await untilQuiet();
    const measurement = await measureOnce(stage, subject, options);
    if (measurement.others < 0.1) return measurement;
  }
}

/** Until next to nothing was done on any core for half a second. */
async function untilQuiet(): Promise<void> {
  for (let last = readCore(''); ; ) {
    await pause(500);
    const now = readCore('');
    if (now.busyMs - last.busyMs < 50) return;
    last = now;
  }
}

async function measureOnce(stage: Stage, subject: Subject, options: MeasureOptions): Promise<Measurement> {
  const { processes, folder, redis } = stage;
  if (subject.logFile !== undefined) truncateSync(subject.logFile);
  const before = await readCosts(stage, subject);
  const { port, requests } = subject;
  const load = await runLoad({ processes, folder, port, requests, connections, ...options });
  const after = await readCosts(stage, subject);
  const perRequest = (cost: number) => cost / load.requests;
  const cpuMs = after.proxy.cpuMs - before.proxy.cpuMs;
  // The answer that counts stands for two questions: its own is among those that it counts.
  const arrived = after.arrived - before.arrived - 1;
  const redisCommands = perRequest(after.redis.commands - before.redis.commands);
  const fault = faultOf(subject, { ...load, arrived, redisCommands });
  return {
    cpuUs: perRequest(cpuMs * 1000),
    perSecond: load.requests / load.seconds,
    p50Ms: load.p50Ms,
    p99Ms: load.p99Ms,
    rssMiB: after.proxy.rssBytes / 2 ** 20,
    redisCpuUs: redis === undefined ? 0 : perRequest((after.redisCpuMs - before.redisCpuMs) * 1000),
    redisCommands,
    redisReads: perRequest(after.redis.reads - before.redis.reads),
    busy: cpuMs / 1000 / load.seconds,
    others: Math.max(0, after.coreMs - before.coreMs - cpuMs) / 1000 / load.seconds,
    ...(fault === undefined ? {} : { fault }),
  };
}

async function readCosts({ cores, redis, upstream }: Stage, { running, isPinned = true }: Subject) {
  const { busyMs, stolenMs } = cores === undefined || !isPinned ? { busyMs: 0, stolenMs: 0 } : readCore(cores.proxy);
  return {
    proxy: readUsage(running.pid),
    coreMs: busyMs + stolenMs,
    redisCpuMs: redis === undefined ? 0 : readUsage(redis.running.pid).cpuMs,
    redis: (await redis?.counters()) ?? { commands: 0, reads: 0 },
    arrived: await upstream.count(),
  };
}

interface Evidence {
  requests: number;
  failed: number;
  broken: number;
  arrived: number;
  redisCommands: number;
}

function faultOf(subject: Subject, { requests, failed, broken, arrived, redisCommands }: Evidence): string | undefined {
  const { running, leastRedisCommands = 0, mostRedisCommands = Number.POSITIVE_INFINITY } = subject;
  if (!running.isRunning()) return 'the proxy ended under the load';
  if (requests === 0) return 'no answer arrived';
  if (failed > 0) return `${failed} of ${requests} answers were not 200`;
  if (broken > 0) return `${broken} connections failed or gave no answer`;
  // Requests that were on their way when the load ended arrived and were not counted: one for each connection.
  if (subject.answersItself !== true && arrived < requests)
    return `${requests - arrived} of ${requests} answers did not come from the upstream`;
  if (redisCommands < leastRedisCommands || redisCommands > mostRedisCommands)
    return `${redisCommands.toFixed(2)} Redis commands a request: not the mode that this row is about`;
  return undefined;
}
