import { randomBytes } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createGate } from '../support/api-calls.ts';
import { hang, rawBytes, reply, serverSentEvents } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// T97, T95, T91: answers flow as they come, mean what they meant, and end when the browser leaves.

let world: ProxyWorld;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.apis.orders.limits = { connections: 4 };
    data.apis.impatient = { path: '/api/impatient', upstream: data.apis.orders.upstream, timeouts: { body: '300ms' } };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

/** A source of events that a test feeds. */
function feed() {
  const waiting: (() => void)[] = [];
  const events: string[] = [];
  return {
    push(event: string) {
      events.push(event);
      waiting.shift()?.();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        if (events.length === 0) await new Promise<void>((resolve) => waiting.push(resolve));
        yield events.shift() as string;
      }
    },
  };
}

describe('server-sent events', () => {
  it('T97 show their head at once, and each event when it comes', async () => {
    const events = feed();
    world.upstream.respond = serverSentEvents(events);
    const stream = await world.alice.open('/api/orders/events', { headers: { accept: 'text/event-stream' } });
    expect(stream.header('content-type')).toBe('text/event-stream');
    expect(stream.receivedBytes()).toBe(0);
    for (const event of ['one', 'two', 'three']) {
      events.push(event);
      await stream.readUntil((text) => text.endsWith(`data: ${event}\n\n`), 1000);
    }
    stream.abort();
    await until(() => world.upstream.active === 0, { timeoutMs: 1000, message: 'the upstream to be told' });
  });

  it('T95 are cancelled upstream within a second when the browser leaves between two of them', async () => {
    const events = feed();
    world.upstream.respond = serverSentEvents(events);
    const stream = await world.alice.open('/api/orders/events');
    events.push('one');
    await stream.readUntil((text) => text.includes('one'));
    stream.abort();
    await until(() => world.upstream.requests[0]?.aborted, { timeoutMs: 1000 });
  });

  it('T95 are cancelled upstream within a second when the browser leaves before the head', async () => {
    world.upstream.respond = hang();
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/orders/events'));
    await until(() => world.upstream.active === 1);
    connection.close();
    await until(() => world.upstream.requests[0]?.aborted, { timeoutMs: 1000 });
  });

  it('T95 that were left free their connections for the next callers', async () => {
    world.upstream.respond = serverSentEvents(feed());
    for (let count = 0; count < 12; count++) (await world.alice.open(`/api/orders/${count}`)).abort();
    world.fresh();
    expect((await world.alice.fetch('/api/orders/next')).status).toBe(200);
  });
});

describe('what an answer means', () => {
  const raw = (target: string, lines: string[] = [], method = 'GET') =>
    rawRequest(world.port, world.head(target, lines, method), { keepOpen: true });

  it('T97 HEAD keeps the length and has no body', async () => {
    world.upstream.respond = reply({ headers: [['ETag', '"a"']], body: 'x'.repeat(1234) });
    const { responses, connection } = await raw('/api/orders/1', [], 'HEAD');
    expect([responses[0]?.status, responses[0]?.header('content-length')]).toEqual([200, '1234']);
    expect(world.upstream.requests[0]?.method).toBe('HEAD');
    world.fresh();
    await connection?.write(world.head('/api/orders/2'));
    expect((await connection?.response(2))?.body).toBe('{"ok":true}');
    connection?.close();
  });

  for (const status of [204, 304]) {
    it(`T97 ${status} has no body, and the connection goes on`, async () => {
      world.upstream.respond = rawBytes(`HTTP/1.1 ${status} X\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n`, {
        end: 'keep',
      });
      const { responses, connection } = await raw('/api/orders/1', ['If-None-Match: "a"']);
      expect([responses[0]?.status, responses[0]?.header('etag'), responses[0]?.body]).toEqual([status, '"a"', '']);
      expect(responses[0]?.header('transfer-encoding')).toBeUndefined();
      if (status === 204) expect(responses[0]?.header('content-length')).toBeUndefined();
      expect(world.upstream.requests[0]?.header('if-none-match')).toBe('"a"');
      world.fresh();
      await connection?.write(world.head('/api/orders/2'));
      expect((await connection?.response(2))?.body).toBe('{"ok":true}');
      connection?.close();
    });
  }

  it('T97 Range gets its 206', async () => {
    world.upstream.respond = reply({
      status: 206,
      headers: [
        ['Content-Range', 'bytes 0-1/9'],
        ['Accept-Ranges', 'bytes'],
      ],
      body: 'ab',
    });
    const answer = await world.alice.fetch('/api/orders/1', { headers: { range: 'bytes=0-1', 'if-range': '"a"' } });
    expect([answer.status, answer.header('content-range'), answer.text]).toEqual([206, 'bytes 0-1/9', 'ab']);
    expect(world.upstream.requests[0]?.header('range')).toBe('bytes=0-1');
    expect(world.upstream.requests[0]?.header('if-range')).toBe('"a"');
  });

  it('T97 gzip stays gzip', async () => {
    const body = gzipSync('hello '.repeat(1000));
    world.upstream.respond = reply({
      headers: [
        ['Content-Encoding', 'gzip'],
        ['Vary', 'Accept-Encoding'],
      ],
      body,
    });
    const answer = await world.alice.fetch('/api/orders/1', { headers: { 'accept-encoding': 'gzip' } });
    expect(answer.bytes.equals(body)).toBe(true);
    expect(answer.header('content-encoding')).toBe('gzip');
    expect(gunzipSync(answer.bytes).toString()).toMatch(/^hello /);
    expect(world.upstream.requests[0]?.header('accept-encoding')).toBe('gzip');
  });

  it('T97 trailers follow a chunked body', async () => {
    world.upstream.respond = rawBytes(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nServer-Timing: db;dur=5\r\n\r\n',
    );
    const { responses } = await rawRequest(world.port, world.head('/api/orders/1'));
    expect(responses[0]?.body).toBe('hi');
    expect(responses[0]?.trailers).toEqual([['server-timing', 'db;dur=5']]);
  });

  it('T97 a body that ends with its connection ends cleanly, for HTTP/1.0 callers too', async () => {
    world.upstream.respond = rawBytes('HTTP/1.0 200 OK\r\n\r\nuntil the end');
    expect((await world.alice.fetch('/api/orders/1')).text).toBe('until the end');
    const old = await rawRequest(world.port, world.head('/api/orders/1').replace('HTTP/1.1', 'HTTP/1.0'), {
      untilClose: true,
    });
    expect([old.status, old.body]).toEqual([200, 'until the end']);
  });

  it('T97 early hints stay between us and the upstream', async () => {
    world.upstream.respond = rawBytes(
      'HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi',
    );
    const result = await rawRequest(world.port, world.head('/api/orders/1'));
    expect(result.responses.map(({ status }) => status)).toEqual([200]);
  });
});

describe('the beginning of an answer', () => {
  const chunk = (bytes: Buffer) =>
    Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
  const head = Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');

  // What comes together is kept for a moment, to go out in one write: it must neither stay, nor change, nor change places.
  for (const sizes of [[1], [300, 1], [1, 300, 8192], [200, 20_000], [8192, 8193, 1]]) {
    it(`T97 T93 of pieces of ${sizes.join(' and ')} bytes is there before the rest, as it was sent`, async () => {
      const pieces = sizes.map((size) => randomBytes(size).fill(0xff, 0, 1)); // not ASCII, and no UTF-8
      const rest = randomBytes(100);
      const gate = createGate();
      world.upstream.respond = async (request, socket) => {
        await rawBytes(Buffer.concat([head, ...pieces.map(chunk)]), { end: 'keep' })(request, socket);
        await gate.opened;
        await rawBytes([chunk(rest), '0\r\n\r\n'], { end: 'keep' })(request, socket);
      };
      const connection = await openRaw(world.port);
      await connection.write(world.head('/api/orders/1'));
      const first = Buffer.concat(pieces);
      await until(() => connection.responses()[0]?.bytes.equals(first), { message: 'the first pieces' });
      gate.open();
      expect((await connection.response()).bytes.equals(Buffer.concat([first, rest]))).toBe(true);
      connection.close();
    });
  }

  it('T97 T93 that is all of it arrives in order, several pieces and a trailer', async () => {
    const pieces = [randomBytes(10), randomBytes(1), randomBytes(9000)];
    world.upstream.respond = rawBytes(
      Buffer.concat([head, ...pieces.map(chunk), Buffer.from('0\r\nServer-Timing: a\r\nServer-Timing: b\r\n\r\n')]),
      { end: 'keep' },
    );
    const { responses } = await rawRequest(world.port, world.head('/api/orders/1'));
    expect(responses[0]?.bytes.equals(Buffer.concat(pieces))).toBe(true);
    expect(responses[0]?.trailers.map(([, value]) => value)).toEqual(['a', 'b']);
  });
});

describe('browsers that read nothing', () => {
  it('T91 lose their answer and free the upstream after the time for a piece of body', async () => {
    const block = Buffer.alloc(1024 * 1024);
    world.upstream.respond = reply({ body: Array.from({ length: 64 }, () => block) });
    const connection = await openRaw(world.port);
    connection.socket.pause();
    await connection.write(world.head('/api/impatient/1'));
    await until(() => world.upstream.active === 1);
    await until(() => world.upstream.active === 0, { timeoutMs: 3000, message: 'the upstream to be let go' });
    expect(world.upstream.requests[0]?.sentBodyBytes).toBeLessThan(64 * block.length);
    connection.close();
  });

  it('T91 do not lose it while they read slowly', async () => {
    const body = Buffer.alloc(8 * 1024 * 1024, 'x');
    world.upstream.respond = reply({ body });
    const connection = await openRaw(world.port);
    connection.socket.pause();
    await connection.write(world.head('/api/impatient/1'));
    // 20 short rests, together far longer than the 300 ms that one may take
    let received = 0;
    connection.socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    const rests = setInterval(() => {
      connection.socket.resume();
      setImmediate(() => received < body.length && connection.socket.pause());
    }, 20);
    await until(() => received > body.length, { timeoutMs: 10_000, message: 'the whole body' }).finally(() =>
      clearInterval(rests),
    );
    expect(world.upstream.requests[0]?.aborted).toBe(false);
    connection.close();
  });
});

describe('the log', () => {
  it('T95 has a line for every request that its browser or its upstream cut short', async () => {
    world.log.clear();
    const events = feed();
    world.upstream.respond = serverSentEvents(events);
    const stream = await world.alice.open('/api/orders/left');
    stream.abort();
    world.upstream.respond = rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf');
    await rawRequest(world.port, world.head('/api/orders/cut'), { untilClose: true });
    const lines = () => world.log.lines.filter(({ msg }) => msg === 'request cut short');
    await until(() => lines().length === 2, { message: 'both lines' });
    expect(lines().map(({ level, path, outcome }) => [level, path, outcome])).toEqual([
      ['info', '/api/orders/left', 'left-by-browser'],
      ['warn', '/api/orders/cut', 'cut-by-upstream'],
    ]);
  });
});
