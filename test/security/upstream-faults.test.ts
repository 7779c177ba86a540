import { once } from 'node:events';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hang, rawBytes, reply, reset } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// T94 to T98: what an API may do wrong, what it costs its callers, and that others do not notice.

let world: ProxyWorld;
let slow: EchoUpstream;

beforeAll(async () => {
  slow = await startEchoUpstream();
  const dead = await freePort();
  world = await startProxyWorld((data) => {
    data.apis.orders.timeouts = { headers: '400ms', body: '400ms', connect: '1s' };
    data.apis.dead = { path: '/api/dead', upstream: `http://127.0.0.1:${dead}`, limits: { requestBody: '1KiB' } };
    data.apis.slow = {
      path: '/api/slow',
      upstream: slow.url,
      limits: { connections: 2 },
      timeouts: { headers: '1s' },
    };
  });
});
beforeEach(() => {
  world.fresh();
  slow.reset();
});
afterAll(async () => {
  await world.stop();
  await slow.stop();
});

const post = (target: string) => world.alice.fetch(target, { method: 'POST', body: 'x', headers: { 'x-csrf': '1' } });

describe('an upstream that hangs', () => {
  it('T94 is answered for with 504 when it sends no headers', async () => {
    world.upstream.respond = hang();
    const answer = await world.alice.fetch('/api/orders/1');
    expect(answer.status).toBe(504);
    expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_TIMEOUT' });
    await until(() => world.upstream.active === 0, { message: 'the upstream request to be given up' });
  });

  it('T94 is answered for with 504 when it sends 103 for ever', async () => {
    world.upstream.respond = async (_request, socket) => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n'), 50);
      await once(socket, 'close');
      clearInterval(timer);
    };
    const startedAt = performance.now();
    const answer = await world.alice.fetch('/api/orders/1');
    expect(answer.status).toBe(504);
    expect(performance.now() - startedAt).toBeLessThan(3000);
  });

  it('T94 is cut off for the browser when it stops in the middle of a body', async () => {
    world.upstream.respond = rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', { end: 'keep' });
    const streamed = await world.alice.open('/api/orders/1');
    await streamed.readUntil((text) => text === 'half');
    expect(await streamed.ended).toBe('aborted');
  });
});

describe('an answer that breaks off', () => {
  const broken = {
    'a reset in a body with a length': rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', { end: 'reset' }),
    'an early end of a body with a length': rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'),
    'an early end of a chunked body': rawBytes('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'),
    'a broken chunk': rawBytes('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n'),
  };
  for (const [name, respond] of Object.entries(broken)) {
    it(`T94 shows the browser ${name}, never a clean end`, async () => {
      world.upstream.respond = respond;
      const result = await rawRequest(world.port, world.head('/api/orders/1'), { untilClose: true });
      expect(result.status).toBe(200);
      expect(result.responses[0]?.complete).toBe(false);
      expect(result.closed).toBe(true);
    });
  }

  it('T94 sends nothing of what follows an answer to the next caller', async () => {
    const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';
    world.upstream.respond = rawBytes(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood${poison}`, { end: 'keep' });
    expect((await world.alice.fetch('/api/orders/1')).text).toBe('good');
    world.fresh();
    for (let count = 0; count < 5; count++) {
      const next = await world.alice.fetch('/api/orders/2');
      expect(next.text).toBe('{"ok":true}');
    }
  });
});

describe('an upstream that fails', () => {
  it('T96 sees a GET and a POST that it answers with 503 exactly once', async () => {
    for (const headers of [[], [['Retry-After', '1']]] as [string, string][][]) {
      world.fresh();
      world.upstream.respond = reply({ status: 503, headers, body: 'down' });
      expect((await world.alice.fetch('/api/orders/1')).status).toBe(503);
      expect((await post('/api/orders/1')).text).toBe('down');
      expect(world.upstream.requests).toHaveLength(2);
    }
  });

  it('T96 sees a GET and a POST that it resets exactly once', async () => {
    // On new connections: what a kept one is allowed stands in test/flows/kept-connections.test.ts (W54).
    world.upstream.cut();
    await until(() => world.upstream.connections === 0);
    world.upstream.respond = reset();
    const answers = [await world.alice.fetch('/api/orders/1'), await post('/api/orders/1')];
    expect(answers.map(({ status }) => status)).toEqual([502, 502]);
    expect(world.upstream.requests).toHaveLength(2);
  });

  it('T96 answers 502 for an upstream that refuses connections, without its address', async () => {
    for (const answer of [await world.alice.fetch('/api/dead/1'), await post('/api/dead/1')]) {
      expect(answer.status).toBe(502);
      expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_UNREACHABLE' });
      expect(answer.text + JSON.stringify(answer.headers)).not.toMatch(/127\.0\.0\.1|ECONN/);
    }
  });

  it('T96 survives an upload that goes on, past the limit, after its upstream was found dead', async () => {
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/dead/1', ['Transfer-Encoding: chunked'], 'POST'));
    const answer = await connection.response(1);
    expect(answer.status).toBe(502);
    await connection.write(`800\r\n${'x'.repeat(0x800)}\r\n`).catch(() => undefined);
    expect(await connection.peerClosed()).toBe(true); // more than this API would have taken
    expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
  });

  it('T94 a request goes through while the kept-alive connection is being closed', async () => {
    for (let count = 0; count < 20; count++) {
      world.fresh();
      expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
      world.upstream.cut();
      expect((await post('/api/orders/2')).status).toBe(200);
    }
  });
});

describe('browsers that leave', () => {
  it('T95 200 clients that abort leave no upstream request and no socket behind', async () => {
    world.upstream.respond = hang();
    const connections = await Promise.all(Array.from({ length: 200 }, () => openRaw(world.port)));
    await Promise.all(connections.map((one, index) => one.write(world.head(`/api/orders/${index}`))));
    // Arrived, not still there: on a busy machine the first have their 504 before the last come.
    await until(() => world.upstream.requests.length > 150, { message: 'the requests at the upstream' });
    for (const connection of connections) connection.close();
    const leftAt = performance.now();
    await until(() => world.upstream.active === 0, { timeoutMs: 1000, message: 'all to be aborted' });
    await until(() => world.upstream.connections === 0, { timeoutMs: 1000, message: 'their sockets to be closed' });
    expect(performance.now() - leftAt).toBeLessThan(1000);
    const sockets = () => new Promise<number>((done) => world.app.server.server.getConnections((_, n) => done(n)));
    await until(async () => (await sockets()) < 20, { message: 'the browser sockets to be gone' });
  });

  it('T95 a caller that left the line never reaches the upstream', async () => {
    slow.respond = hang();
    const stuck = await Promise.all([openRaw(world.port), openRaw(world.port)]);
    for (const one of stuck) await one.write(world.head('/api/slow/stuck'));
    await until(() => slow.active === 2);
    const waiting = await openRaw(world.port);
    await waiting.write(world.head('/api/slow/left'));
    expect((await world.alice.fetch('/api/orders/1')).status).toBe(200); // by now it stands in the line
    waiting.close();
    slow.respond = reply({ body: 'ok' });
    for (const one of stuck) one.close();
    expect((await world.alice.fetch('/api/slow/next')).status).toBe(200);
    expect(slow.requests.map(({ target }) => target)).not.toContain('/left');
  });
});

describe('one API in trouble', () => {
  it('T98 whose pool is exhausted makes its own callers wait no longer than its timeout', async () => {
    slow.respond = hang();
    const answers = await Promise.all(Array.from({ length: 6 }, (_, index) => world.alice.fetch(`/api/slow/${index}`)));
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(504));
    expect(slow.requests.length).toBeLessThanOrEqual(4); // two at a time; the others gave up in the line
  });

  it('T98 does not slow down another', async () => {
    const latency = async () => {
      const times: number[] = [];
      for (let count = 0; count < 40; count++) {
        const startedAt = performance.now();
        expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
        times.push(performance.now() - startedAt);
      }
      return times.sort((a, b) => a - b)[20] as number;
    };
    await latency();
    const before = await latency();
    slow.respond = hang();
    const hanging = Array.from({ length: 60 }, () => world.alice.fetch('/api/slow/1'));
    await until(() => slow.active === 2);
    const during = await latency();
    expect(during).toBeLessThan(Math.max(before * 3, 25));
    await Promise.all(hanging);
  });
});
