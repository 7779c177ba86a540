import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'vitest';
import { hang } from './echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { type Fleet, startFleet } from './fleet.ts';
import type { Person } from './fleet-client.ts';
import type { Flood } from './flood-client.ts';
import { startIntrospectionServer } from './introspection-server.ts';
import { startProcess } from './process.ts';

const root = resolve(import.meta.dirname, '../..');
const MiB = 1024 * 1024;
/** For a flood to reach its limit. */
const mostSeconds = 15;

/** A row of the table of limits in docs/operations.md. */
export interface LimitRow {
  limit: string;
  /** The metric that counts it, with its labels. */
  metric: string;
}

/** The table of limits in docs/operations.md. */
export function readLimits(): LimitRow[] {
  const page = readFileSync(join(root, 'docs/operations.md'), 'utf8');
  const [, section = ''] = page.split('\n## Limits\n');
  const rows = (section.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('| '));
  return rows.slice(2).map((row) => {
    const [, limit = '', , , counted = ''] = row.split('|').map((cell) => cell.trim());
    return { limit, metric: counted.replaceAll('`', '') };
  });
}

/** The name of its test, with the ids of the cases that it is about. */
export function nameOf({ limit }: LimitRow): string {
  const [, id = ''] = idsOf.find(([what]) => what.test(limit)) ?? [];
  return `${id} ${limit}`.trim();
}

const idsOf: [RegExp, string][] = [
  [/^unanswered/, 'W13'],
  [/^bodies/, 'W14'],
  [/introspections|tokens/, 'W9'],
];

const head = (line: string, ...more: string[]) => [`${line} HTTP/1.1`, 'Host: HOST', ...more, '', ''].join('\r\n');
const form = 'Content-Type: application/x-www-form-urlencoded';
const body = head('POST /bff/backchannel-logout', form, 'Content-Length: 100');
const handshake = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Origin: http://HOST',
];

const program = head('GET /api/programs/1', 'Authorization: Bearer made-up-UNIQUE');

/** What runs into each limit, by its row. */
export const floods: Record<string, Flood> = {
  'connections in all': { slots: 3000, send: '', addresses: 8 },
  'connections from one address': { slots: 3000, send: '' },
  'unanswered requests on one connection': { slots: 2, send: head('GET /api/orders/1'), times: 44_400 },
  'time for a head, or for a body at our own endpoints': { slots: 500, send: 'GET / HTTP/1.1\r\nX: LONG(20000)' },
  'bytes of a URL': { slots: 32, send: head('GET /LONG(17000)') },
  'bytes of cookies': { slots: 32, send: head('GET /api/orders/1', 'Cookie: a=LONG(17000)') },
  'bytes of other headers': { slots: 32, send: head('GET /api/orders/1', 'X-Long: LONG(17000)') },
  'bytes of a head as a whole': { slots: 32, send: head('GET /api/orders/1', 'X-Long: LONG(200000)') },
  'bytes of a body at our own endpoints': { slots: 32, send: head('POST /bff/logout', form, 'Content-Length: 100000') },
  'bodies arriving at our own endpoints from one address': { slots: 3000, send: body },
  'bodies arriving at our own endpoints in all': { slots: 3000, send: body, addresses: 30 },
  'bytes of a body for an API': { slots: 32, send: head('POST /api/slow', 'Content-Length: 100000') },
  'calls that wait for an API': { slots: 500, send: head('GET /api/slow/1', 'Sec-Fetch-Site: same-origin') },
  'login starts and callbacks': { slots: 32, send: head('GET /bff/login', 'Accept: text/html') },
  WebSockets: { slots: 500, send: head('GET /api/slow/1', ...handshake) },
  introspections: { slots: 500, send: program, addresses: 200 },
  'bad access tokens from one address': { slots: 32, send: program },
};

export interface FloodWorld {
  /** Floods for so long, while another user calls; fails when that user, or the process, suffers. */
  withstand(row: LimitRow, seconds: number, worstMs: number): Promise<void>;
  stop(): Promise<void>;
}

/** Cloakroom in a process of its own on one core, with limits that a flood of seconds reaches. */
export async function startFloodWorld(): Promise<FloodWorld> {
  const slow: EchoUpstream = await startEchoUpstream();
  slow.respond = hang();
  const issuer = await startIntrospectionServer();
  const fleet: Fleet = await startFleet({
    replicas: 1,
    config(data) {
      data.limits = { connections: 1500, connectionsPerAddress: 1000, headersTimeout: '3s' };
      data.apis.slow = {
        path: '/api/slow',
        upstream: slow.url,
        token: 'none',
        limits: { connections: 20, queue: 20, requestBody: '50KiB' },
        websocket: { connections: 1000 },
        breaker: { failures: 1000 },
      };
      const { clientId, clientSecret } = issuer;
      data.bearerIssuers = {
        partner: {
          issuer: issuer.issuer,
          audiences: ['api'],
          introspection: { clientId, clientSecret },
          timeout: '2s',
        },
      };
      data.apis.programs = { path: '/api/programs', upstream: slow.url, accept: ['bearer'] };
    },
  });
  const { process: cloakroom, opsPort, port } = fleet.replica(0);
  const hasOther = availableParallelism() > 1;
  if (hasOther) execFileSync('taskset', ['-acp', '0', String(cloakroom.child.pid)]);
  const person: Person = await fleet.login({ sub: 'bob' });
  // What any load makes grow once has grown: V8's young generation takes some 50 MiB before a process is at work.
  for (let round = 0; round < 150; round++) await Promise.all(Array.from({ length: 64 }, () => fleet.call(person)));

  const memory = () => Number(readFileSync(`/proc/${cloakroom.child.pid}/statm`, 'utf8').split(' ')[1]) * 4096;
  const scrape = async () => (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text();
  const sum = (text: string, series: string) => {
    const [name = '', labels = ''] = series.replace('}', '').split('{');
    const wanted = labels === '' ? [] : labels.split(',');
    return text
      .split('\n')
      .filter((line) => line.startsWith(`cloakroom_${name}`) && wanted.every((label) => line.includes(label)))
      .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
  };
  const within = 'request_seconds_bucket{api="orders",status="2xx",le="0.25"}';
  const all = 'request_seconds_count{api="orders",status="2xx"}';

  return {
    async withstand({ limit, metric }, seconds, worstMs) {
      const flood = floods[limit];
      if (flood === undefined) throw new Error(`nothing floods "${limit}"`);
      issuer.respond = limit === 'introspections' ? () => undefined : undefined; // no answer, or "inactive"
      const before = await scrape(); // also begins the measurement of the event loop anew
      const program = join(root, 'test/support/flood-client.ts');
      const command = [process.execPath, program, String(port), JSON.stringify(flood)];
      const [first = '', ...rest] = hasOther ? ['taskset', '-c', '1', ...command] : command;
      const attacker = startProcess(first, rest);
      const startedAt = performance.now();
      const statuses = new Set<number>();
      const idle = memory();
      let most = idle;
      let lag = 0;
      let after = before;
      const grown = (series: string) => sum(after, series) - sum(before, series);
      // So long, and until the limit is reached: who shares the machine may slow the attacker down.
      for (let untilMs = seconds * 1000; untilMs < mostSeconds * 1000; untilMs += 500) {
        while (performance.now() - startedAt < untilMs) {
          statuses.add((await fleet.call(person)).status);
          most = Math.max(most, memory());
        }
        after = await scrape();
        lag = Math.max(lag, Number(/^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(after)?.[1]) * 1000);
        if (grown(metric) > 0) break;
      }
      await attacker.kill();
      expect(attacker.stderr()).toBe('');
      expect([...statuses], 'what the other user got').toEqual([200]);
      expect(grown(metric), metric).toBeGreaterThan(0);
      expect(grown(within) / grown(all), 'calls of the other user within 250 ms').toBeGreaterThanOrEqual(0.99);
      expect(lag, 'p99 of what the event loop was late, in ms').toBeLessThan(worstMs);
      expect((most - idle) / MiB, 'MiB more than before').toBeLessThan(64);
    },
    async stop() {
      await fleet.stop();
      await slow.stop();
      await issuer.stop();
    },
  };
}
