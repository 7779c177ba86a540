import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { request } from 'undici';
import { freePort } from '../../test/support/redis.ts';
import { rssGrowth } from '../accounting.ts';
import { logIn } from '../logins.ts';
import { type Running, untilListens } from '../processes.ts';
import { anyCookie, apiPath, browserFields } from '../requests.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import { round } from '../statistics.ts';
import { loginUrl, startCloakroom } from '../subjects/cloakroom.ts';
import { startNodeProxy } from '../subjects/node-proxies.ts';

const mebibyte = 1024 ** 2;

/** A body of 1 GiB each way: how fast, how much memory, and how far ahead of a reader that stopped. */
export async function measureLargeBody({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  const upstreamPort = await freePort();
  const args = [join(import.meta.dirname, '../peers/large-upstream.ts'), String(upstreamPort)];
  const upstream = stage.processes.start({ command: process.execPath, args, cores: 'rest' });
  await untilListens(upstreamPort, upstream, 'the upstream of large bodies');
  const url = `http://127.0.0.1:${upstreamPort}`;
  const bytes = (options.quick ? 128 : 1024) * mebibyte;
  progress(`${bytes / mebibyte} MiB down and up`);

  const bare = await startNodeProxy(stage, options, { program: 'bare-proxy.ts', upstream: url });
  const ofBare = await transfer({ ...bare, cookie: anyCookie, upstream: url, bytes });
  const api = { limits: { requestBody: '2GiB' } };
  const started = await startCloakroom(stage, { name: 'large', mode: { store: 'memory', upstream: url, api } });
  const cookie = await logIn(loginUrl(started.port));
  const ofCloakroom = await transfer({ ...started, cookie, upstream: url, bytes });
  await Promise.all([upstream.stop(), bare.running.stop(), started.running.stop()]);
  return {
    status: 'measured',
    note: `${bytes / mebibyte} MiB each way; “ahead” is what was taken from one side while the other had stopped`,
    details: {
      ...ofCloakroom,
      ...Object.fromEntries(Object.entries(ofBare).map(([key, value]) => [`bare_${key}`, value])),
    },
  };
}

interface Transfer {
  port: number;
  running: Running;
  cookie: string;
  /** Where the upstream can be asked, past the proxy. */
  upstream: string;
  bytes: number;
}

async function transfer(options: Transfer) {
  let [down, up] = [
    { mibPerSecond: 0, aheadMiB: 0 },
    { mibPerSecond: 0, aheadMiB: 0 },
  ];
  const downGrowth = await rssGrowth(options.running.pid, async () => {
    down = await download(options);
  });
  const upGrowth = await rssGrowth(options.running.pid, async () => {
    up = await upload(options);
  });
  return {
    downRssGrowthMiB: round(downGrowth / mebibyte),
    upRssGrowthMiB: round(upGrowth / mebibyte),
    downAheadMiB: down.aheadMiB,
    upAheadMiB: up.aheadMiB,
    downMiBPerSecond: down.mibPerSecond,
    upMiBPerSecond: up.mibPerSecond,
  };
}

/** Reads a little, stops until the upstream can hand over nothing more, and reads the rest. */
async function download({ port, cookie, upstream, bytes }: Transfer) {
  const outgoing = httpRequest({
    port,
    host: '127.0.0.1',
    path: `${apiPath}/down?bytes=${bytes}`,
    headers: browserFields(port, cookie),
  });
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  if (response.statusCode !== 200) throw new Error(`the download got ${response.statusCode}`);
  let read = 0;
  const ended = once(response, 'end');
  response.on('data', ({ length }: Buffer) => {
    const isStop = read < 8 * mebibyte && read + length >= 8 * mebibyte;
    read += length;
    if (isStop) response.pause();
  });
  const sent = await whenSettled(async () => (await countersOf(upstream)).sent);
  const aheadMiB = round((sent - read) / mebibyte);
  const [startedAt, before] = [performance.now(), read];
  response.resume();
  await ended;
  if (read !== bytes) throw new Error(`${read} of ${bytes} bytes arrived`);
  return { aheadMiB, mibPerSecond: speed(bytes - before, startedAt) };
}

/** Writes until the upstream, which stops in the middle, has filled everything before it; then the rest. */
async function upload({ port, cookie, upstream, bytes }: Transfer) {
  const headers = {
    ...browserFields(port, cookie),
    'content-type': 'application/octet-stream',
    'content-length': bytes,
  };
  const outgoing = httpRequest({ port, host: '127.0.0.1', path: `${apiPath}/up`, method: 'POST', headers });
  const answered = once(outgoing, 'response');
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let written = 0;
  const writing = (async () => {
    while (written < bytes) {
      written += chunk.length;
      if (!outgoing.write(chunk)) await once(outgoing, 'drain');
    }
    outgoing.end();
  })();
  const taken = await whenSettled(async () => written);
  const { received } = await countersOf(upstream);
  const startedAt = performance.now();
  await (await request(`${upstream}/go-on`)).body.dump();
  await writing;
  const [response] = await answered;
  if (response.statusCode !== 200) throw new Error(`the upload got ${response.statusCode}`);
  response.resume();
  return { aheadMiB: round((taken - received) / mebibyte), mibPerSecond: speed(bytes - received, startedAt) };
}

/** The value, once it has not changed for a while. */
async function whenSettled(read: () => Promise<number>): Promise<number> {
  for (let last = -1; ; ) {
    await pause(300);
    const value = await read();
    if (value === last) return value;
    last = value;
  }
}

async function countersOf(upstream: string): Promise<{ sent: number; received: number }> {
  const { body } = await request(`${upstream}/counters`);
  return (await body.json()) as { sent: number; received: number };
}

function speed(bytes: number, startedAt: number): number {
  return Math.round(bytes / mebibyte / ((performance.now() - startedAt) / 1000));
}
