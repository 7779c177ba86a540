import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { startApi } from './api.ts';
import { DEMO_KEY_FILE } from './provider/key-file.ts';
import { startProvider } from './provider.ts';

// `npm run demo`: the provider and the two APIs in this process, Cloakroom as a child, one Ctrl-C for all of them.

const ROOT = resolve(import.meta.dirname, '..');
const HOST = '127.0.0.1';
const PORTS = { provider: 9000, orders: 9001, catalog: 9002, browser: 8080, 'health checks': 9090 };
const CLOAKROOM_URL = `http://localhost:${PORTS.browser}`;

/** A cold start on a small machine takes a few seconds; after this long something is wrong. */
const READY_WITHIN_MS = 30_000;
/** Longer than Cloakroom's own time to drain: it is only killed when it hangs. */
const STOP_WITHIN_MS = 15_000;

const WELCOME = `
  Cloakroom is open.   ${CLOAKROOM_URL}

  Log in as            alice   admin, clerk
                       bob     clerk
                       carol   viewer
                       dave    no role
  The password is the name. Or register somebody new.

  Or look around       as a guest: the catalog is open, with the application’s token

  Roles                http://${HOST}:${PORTS.provider}/admin   (as alice)
  A token for curl     npm run -s demo:token -- --sub anonymous --role reader --aud orders
  Stop everything      Ctrl-C
`;

process.exitCode = await runDemo();

async function runDemo(): Promise<number> {
  const taken = await findTakenPort();
  if (taken) {
    console.error(taken);
    return 1;
  }
  const stopRequested = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopRequested.abort());

  const issuer = `http://${HOST}:${PORTS.provider}`;
  const log = (line: string) => console.error(line);
  const running = await Promise.all([
    startProvider({ host: HOST, port: PORTS.provider, issuer, publicUrl: CLOAKROOM_URL, keyFile: DEMO_KEY_FILE, log }),
    startApi({ name: 'orders', host: HOST, port: PORTS.orders, issuer }),
    startApi({ name: 'catalog', host: HOST, port: PORTS.catalog, issuer }),
  ]);
  try {
    return await runCloakroom(stopRequested.signal);
  } finally {
    await Promise.all(running.map((server) => server.close()));
  }
}

/** Runs Cloakroom until it exits or somebody stops the demo; returns the exit code of the demo. */
async function runCloakroom(stopRequested: AbortSignal): Promise<number> {
  const config = process.env.REDIS_URL ? 'config/demo-redis.yaml' : 'config/demo.yaml';
  const child = spawn(process.execPath, ['scripts/cloakroom.cjs', 'start', '--config', config], {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, DEMO_KEY: randomBytes(32).toString('base64url'), DEMO_LISTEN_HOST: HOST },
    // In a process group of its own, or Ctrl-C in the terminal would reach it twice: from the terminal and from here.
    detached: true,
  });
  const exited = waitForExit(child);
  const stopped = once(stopRequested, 'abort').then(() => 'stop' as const);

  try {
    const first = await Promise.race([exited, stopped, waitUntilReady(exited)]);
    if (first === 'ready') console.log(WELCOME);
    if (first === 'late') console.error('Cloakroom does not become ready. Its own lines above say why.');

    const outcome = first === 'ready' ? await Promise.race([exited, stopped]) : first;
    if (typeof outcome !== 'number') return outcome === 'stop' ? 0 : 1;
    console.error(`Cloakroom exited with code ${outcome}; the demo stops with it.`);
    return outcome;
  } finally {
    // Whatever happened here, no Cloakroom stays behind: it would hold the port against the next start.
    await stop(child, exited);
  }
}

async function waitForExit(child: ChildProcess): Promise<number> {
  try {
    const [code] = await once(child, 'exit');
    // Killed by a signal: there is no code, and it was no success.
    return typeof code === 'number' ? code : 1;
  } catch (error) {
    console.error(`Cloakroom cannot be started: ${error instanceof Error ? error.message : error}`);
    return 1;
  }
}

async function waitUntilReady(exited: Promise<unknown>): Promise<'ready' | 'late'> {
  const deadline = Date.now() + READY_WITHIN_MS;
  let alive = true;
  void exited.then(() => {
    alive = false;
  });
  // Ready as well as listening: with a Redis that is down nobody could log in.
  const urls = [`http://${HOST}:${PORTS['health checks']}/readyz`, `${CLOAKROOM_URL}/bff/session`];
  while (alive && Date.now() < deadline) {
    if ((await Promise.all(urls.map(answers))).every(Boolean)) return 'ready';
    await wait(150);
  }
  return 'late';
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    // Not listening yet.
    return false;
  }
}

async function stop(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  // Does nothing to a child that has already exited.
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await exited;
  clearTimeout(kill);
}

/** Says which port is in use and what to do, before anything has been started. */
async function findTakenPort(): Promise<string | undefined> {
  for (const [purpose, port] of Object.entries(PORTS)) {
    // A program on [::1] alone would not stop the demo, but `localhost` would lead the browser to it first.
    for (const host of [HOST, '::1']) {
      if (!(await isTaken(port, host))) continue;
      return (
        `Port ${port}, which the demo needs for the ${purpose}, is in use.\n` +
        `Find the program with \`ss -ltnp 'sport = :${port}'\` (or \`lsof -i :${port}\`), stop it, and start the demo again.`
      );
    }
  }
  return undefined;
}

async function isTaken(port: number, host: string): Promise<boolean> {
  const probe = createServer().listen(port, host);
  try {
    await once(probe, 'listening');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EADDRINUSE') return true;
    // A machine without IPv6 has no ::1.
    if (host !== HOST) return false;
    throw error;
  }
  probe.close();
  await once(probe, 'close');
  return false;
}
