import { createServer, type Server } from 'node:http';
import { request as send } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { type CloakroomProcess, startCloakroomProcess } from '../support/cloakroom-process.ts';
import { type DnsServer, startDnsServer } from '../support/dns-server.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { freePort } from '../support/redis.ts';
import { startVanishingPeer } from '../support/vanishing-peer.ts';
import { until } from '../support/wait.ts';

// W53: names of upstreams that lead elsewhere while the old place still answers, and names with several addresses.

/** Milliseconds. */
const life = 1000;
let dns: DnsServer;
let cloakroom: CloakroomProcess;
let old: EchoUpstream;
let young: EchoUpstream;
let many: EchoUpstream;
let vanishing: Awaited<ReturnType<typeof startVanishingPeer>>;
const peers = new Map<string, Peer>();
const ports = { moving: 0, both: 0, half: 0 };

/** HTTP, a health check and WebSockets, by a real server. */
interface Peer {
  server: Server;
  hits: string[];
}

async function startPeer(host: string, port: number): Promise<void> {
  const hits: string[] = [];
  const server = createServer((request, response) => {
    hits.push(request.url ?? '');
    response.end(`${host} ${request.headers.host}`);
  });
  new WebSocketServer({ server }).on('connection', (socket) => socket.send(host));
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  peers.set(`${host} ${port}`, { server, hits });
}

beforeAll(async () => {
  dns = await startDnsServer();
  for (const name of ['moving', 'both', 'half'] as const) ports[name] = await freePort();
  const { moving, both, half } = ports;
  old = await startEchoUpstream({ host: '127.0.0.2', port: moving });
  young = await startEchoUpstream({ host: '127.0.0.3', port: moving });
  many = await startEchoUpstream();
  for (const upstream of [old, young, many]) upstream.respond = reply({ body: 'ok' });
  vanishing = await startVanishingPeer('::1');
  await startPeer('::1', both);
  await startPeer('127.0.0.4', both);
  await startPeer('127.0.0.4', half);
  await startPeer('127.0.0.4', vanishing.port);
  dns.names.set('moving.test', ['127.0.0.2']);
  dns.names.set('both.test', ['::1', '127.0.0.4']);
  const api = (path: string, upstream: string) => ({ path, upstream, token: 'none', websocket: {} });
  const checked = { health: { path: '/healthz', interval: '100ms', timeout: '2s', unhealthyAfter: 1 } };
  cloakroom = await startCloakroomProcess(
    {
      moving: { ...api('/api/moving', `http://moving.test:${moving}`), connections: { life: `${life}ms` } },
      many: { ...api('/api/many', many.url), connections: { life: `${2 * life}ms` } },
      both: { ...api('/api/both', `http://both.test:${both}`), ...checked },
      half: { ...api('/api/half', `http://both.test:${half}`), ...checked },
      vanishing: { ...api('/api/vanishing', `http://both.test:${vanishing.port}`), ...checked },
      literal: { ...api('/api/literal', `http://[::1]:${both}`), ...checked },
      nowhere: api('/api/nowhere', `http://nowhere.test:${half}`),
    },
    [],
    dns.within,
  );
});
afterAll(async () => {
  await cloakroom.stop();
  for (const { server } of peers.values()) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  await Promise.all([old, young, many, vanishing, dns].map((one) => one.stop()));
});

const call = async (path: string, method: 'GET' | 'POST' = 'GET') => {
  const headers = { host: `localhost:${cloakroom.port}` };
  const { statusCode, body } = await send(`http://127.0.0.1:${cloakroom.port}${path}`, { method, headers });
  return { status: statusCode, text: await body.text() };
};

/** So many callers, one call after the other each, GET and POST in turn, while `meanwhile` runs. What they got, counted. */
async function underLoad(callers: number, path: string, meanwhile: () => Promise<unknown>) {
  const got: Record<number, number> = {};
  let isOver = false;
  const loops = Array.from({ length: callers }, async (_, index) => {
    for (let count = index; !isOver; count++) {
      const { status } = await call(path, count % 2 === 0 ? 'GET' : 'POST');
      got[status] = (got[status] ?? 0) + 1;
    }
  });
  await meanwhile().finally(() => {
    isOver = true;
  });
  await Promise.all(loops);
  return got;
}

describe('W53 a name that leads elsewhere', () => {
  it('is followed under steady load within the life of a connection; nothing is cut or lost', async () => {
    let finish = () => {};
    const released = new Promise<void>((resolve) => (finish = resolve));
    old.respond = (request, socket) => {
      if (request.target !== '/long') return reply({ body: 'ok' })(request, socket);
      const body = async function* () {
        yield 'begun ';
        await released;
        yield 'and ended';
      };
      return reply({ body: body() })(request, socket);
    };
    let long: Promise<{ status: number; text: string }> | undefined;
    const got = await underLoad(8, '/api/moving/x', async () => {
      long = call('/api/moving/long');
      await until(() => old.requests.length > 200);
      expect(young.requests).toHaveLength(0);
      dns.names.set('moving.test', ['127.0.0.3']);
      const movedAt = performance.now();
      // One is left, which is busy: it was never cut.
      await until(() => young.requests.length > 0 && old.connections === 1 && old.active === 1, {
        timeoutMs: 15_000,
        message: 'all other connections to have ended',
      });
      expect(performance.now() - movedAt).toBeLessThan(3 * life); // twice would do; the machine is busy
      const [before, after] = [old.requests.length, young.requests.length];
      await until(() => young.requests.length > after + 200);
      expect(old.requests).toHaveLength(before);
    });
    expect(Object.keys(got)).toEqual(['200']);
    finish();
    expect(await long).toEqual({ status: 200, text: 'begun and ended' });
    await until(() => old.connections === 0, { message: 'the long one to end, now that its answer has' });
  });

  it('is answered for with 502 as long as it leads nowhere, and reached as soon as it leads somewhere', async () => {
    expect((await call('/api/nowhere/1')).status).toBe(502);
    dns.names.set('nowhere.test', ['127.0.0.4']);
    await until(async () => (await call('/api/nowhere/1')).status === 200);
  });
});

describe('W53 connections', () => {
  it('live no two equally long, so that those which were opened together are not renewed together', async () => {
    const callers = 40;
    const seen = new Map<number, { first: number; last: number }>();
    await underLoad(callers, '/api/many/x', () =>
      until(
        () => {
          for (const { connection, at } of many.requests.splice(0))
            seen.set(connection, { first: seen.get(connection)?.first ?? at, last: at });
          return seen.size >= 2 * callers;
        },
        { timeoutMs: 15_000 },
      ),
    );
    const lives = [...seen.values()].slice(0, callers).map(({ first, last }) => last - first);
    lives.sort((a, b) => a - b);
    const [short = 0, long = 0] = [lives[callers / 10], lives[callers - callers / 10]];
    expect(long - short).toBeGreaterThan(life / 4); // of a quarter of `2 * life`, which chance has
    expect(short).toBeGreaterThan(life);
  });
});

describe('W53 a name with IPv6 and IPv4', () => {
  const [six, four] = ['::1', '127.0.0.4'];
  const places: [string, string, string[]][] = [
    ['both of which answer', 'both', [six, four]],
    ['of which IPv6 refuses', 'half', [four]],
    ['of which IPv6 never answers', 'vanishing', [four]],
    ['written as an address', 'literal', [six]],
  ];
  it.each(places)('%s, is reached by calls', async (_name, api, hosts) => {
    for (const method of ['GET', 'POST'] as const) {
      const { status, text } = await call(`/api/${api}/1`, method);
      expect(status).toBe(200);
      const [host = '', named] = text.split(' ');
      expect(hosts).toContain(host);
      expect(named).toMatch(api === 'literal' ? /^\[::1\]:\d+$/ : /^both\.test:\d+$/);
    }
  });

  it.each(places)('%s, is reached by WebSockets', async (_name, api, hosts) => {
    const origin = `http://localhost:${cloakroom.port}`;
    const headers = { host: `localhost:${cloakroom.port}`, origin };
    const socket = new WebSocket(`ws://127.0.0.1:${cloakroom.port}/api/${api}/1`, { headers });
    const message = await new Promise((resolve, reject) => {
      socket.once('message', (data) => resolve(String(data))).once('error', reject);
    });
    socket.terminate();
    expect(hosts).toContain(message);
  });

  it('passes its health check, whichever of them answers', async () => {
    const checks = (host: string, port: number) =>
      peers.get(`${host} ${port}`)?.hits.filter((url) => url === '/healthz').length ?? 0;
    await until(
      () =>
        checks(six, ports.both) + checks(four, ports.both) > 5 && // `both` and `literal`
        checks(four, ports.half) > 2 &&
        checks(four, vanishing.port) > 2,
      { message: 'three checks of each' },
    );
    expect(cloakroom.output()).not.toContain('fails its health check');
  });
});
