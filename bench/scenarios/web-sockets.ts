import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../../test/support/redis.ts';
import { readUsage } from '../accounting.ts';
import { knowsKey } from '../features.ts';
import { openEcho, type WebSocketClient } from '../load/web-socket.ts';
import { logInTimes } from '../logins.ts';
import { untilListens } from '../processes.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import { round } from '../statistics.ts';
import { loginUrl, startCloakroom } from '../subjects/cloakroom.ts';

/** Of one session; the default of `connectionsPerSession` is raised so that a few sessions can have all of them. */
const perSession = 100;
/** Opened at the same time, and echoing at the same time. */
const parallel = 50;

/** What many idle WebSockets hold, and what a message there and back costs. */
export async function measureWebSockets({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  if (!knowsKey('apis', '*', 'websocket'))
    return { status: 'absent', why: 'not there yet: websocket of an API', details: {} };
  const echoPort = await freePort();
  const args = [join(import.meta.dirname, '../peers/echo-socket.ts'), String(echoPort)];
  const echo = stage.processes.start({ command: process.execPath, args, cores: 'rest' });
  await untilListens(echoPort, echo, 'the echo server');
  const count = options.quick ? 500 : 5000;
  const { port, running } = await startCloakroom(stage, {
    name: 'web-sockets',
    mode: {
      store: 'memory',
      upstream: `http://127.0.0.1:${echoPort}`,
      api: { websocket: { connectionsPerSession: perSession } },
    },
  });
  const cookies = await logInTimes(Math.ceil(count / perSession), loginUrl(port));
  progress(`${count} WebSockets`);
  const before = readUsage(running.pid).rssBytes;
  const open = await openAll(port, cookies, count);
  const idleBytes = (await settled(running.pid)) - before;

  const endsAt = performance.now() + (options.quick ? 1 : 3) * 1000;
  const cpuBefore = readUsage(running.pid).cpuMs;
  const startedAt = performance.now();
  const counts = await Promise.all(open.slice(0, parallel).map((socket) => socket.echoUntil(endsAt)));
  const seconds = (performance.now() - startedAt) / 1000;
  const messages = counts.reduce((sum, one) => sum + one, 0);
  const cpuMs = readUsage(running.pid).cpuMs - cpuBefore;
  for (const socket of open) socket.close();
  await Promise.all([running.stop(), echo.stop()]);
  return {
    status: 'measured',
    note: `${count} of ${cookies.length} sessions; a message goes there and back`,
    details: {
      idleRssGrowthMiB: round(idleBytes / 1024 ** 2),
      idleKiBEach: round(idleBytes / 1024 / count),
      echoesPerSecond: Math.round(messages / seconds),
      cpuUsPerEcho: round((cpuMs * 1000) / messages),
    },
  };
}

async function openAll(port: number, cookies: string[], count: number): Promise<WebSocketClient[]> {
  const open: WebSocketClient[] = [];
  let next = 0;
  const one = async () => {
    while (next < count) open.push(await openEcho(port, cookies[next++ % cookies.length] as string));
  };
  await Promise.all(Array.from({ length: parallel }, one));
  return open;
}

/** Memory once it grows no more: what opening left behind is given back after a while. */
async function settled(group: number): Promise<number> {
  let last = readUsage(group).rssBytes;
  for (let count = 0; count < 10; count++) {
    await pause(300);
    const now = readUsage(group).rssBytes;
    if (Math.abs(now - last) < 1024 ** 2) return now;
    last = now;
  }
  return last;
}
