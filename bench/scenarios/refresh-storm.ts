import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { readUsage } from '../accounting.ts';
import { openProvider } from '../provider.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import { round } from '../statistics.ts';
import { noRedis, startLoggedIn } from '../subjects/cloakroom.ts';

const callsPerSession = 4;
const tokenSeconds = 3;

/** All sessions come back after a break in which their access tokens expired, each with several calls at once. */
export async function measureRefreshStorm({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  if (stage.redis === undefined) return { status: 'absent', why: noRedis.absent, details: {} };
  const provider = await openProvider(stage.client, stage.ports, tokenSeconds);
  try {
    const mode = { store: 'redis', issuer: provider.issuer } as const;
    const { port, running, requests } = await startLoggedIn(stage, options, { name: 'refresh-storm', mode });
    progress('waiting for access tokens to expire, then all at once');
    await pause(tokenSeconds * 1000 + 500);
    const calls = Array.from({ length: callsPerSession }, () => requests).flat();
    const before = { cpuMs: readUsage(running.pid).cpuMs, refreshes: provider.refreshes() };
    const startedAt = performance.now();
    const statuses = await Promise.all(calls.map((request) => call(port, request)));
    const tookMs = performance.now() - startedAt;
    const cpuMs = readUsage(running.pid).cpuMs - before.cpuMs;
    const refreshes = provider.refreshes() - before.refreshes;
    await running.stop();
    const failed = statuses.filter((status) => status !== 200).length;
    const details = {
      sessions: requests.length,
      calls: calls.length,
      refreshes,
      failed,
      allAnsweredMs: round(tookMs),
      cpuMsPerRefresh: round(cpuMs / Math.max(1, refreshes)),
    };
    if (failed > 0 || refreshes !== requests.length) {
      const why = `${failed} calls failed, ${refreshes} refreshes for ${requests.length} sessions`;
      return { status: 'invalid', why, details };
    }
    return { status: 'measured', note: 'one refresh for each session; the provider sets the pace', details };
  } finally {
    await provider.close();
  }
}

/** Sends one request on a connection of its own; the status, or 0. */
function call(port: number, request: string): Promise<number> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    const finish = (status: number) => {
      socket.destroy();
      resolve(status);
    };
    socket.setTimeout(30_000, () => finish(0));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const [, status = '0'] = /^HTTP\/1\.1 (\d+)/.exec(text) ?? [];
      if (text.includes('\r\n\r\n')) finish(Number(status));
    });
    socket.on('error', () => finish(0));
    socket.on('close', () => finish(0));
  });
}
