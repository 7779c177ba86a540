import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// T92 and T93: bodies are streams of bytes. They arrive as they were sent, cost no memory, and end at their limit.

const MiB = 1024 * 1024;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

let world: ProxyWorld;

beforeAll(async () => {
  const dead = await freePort();
  world = await startProxyWorld((data) => {
    data.apis.orders.limits = { requestBody: '1MiB' };
    data.apis.fresh = { path: '/api/fresh', upstream: data.apis.orders.upstream, limits: { requestBody: '1KiB' } };
    data.apis.dead = { path: '/api/dead', upstream: `http://127.0.0.1:${dead}` };
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

describe('bytes', () => {
  const types = [
    'text/plain', 'text/plain;charset=utf-16', 'application/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x',
    'application/octet-stream', 'image/png', 'a/b;;;', undefined,
  ]; // biome-ignore format: a list reads better in rows
  for (const type of types) {
    it(`T93 passes random bytes on unchanged as ${type ?? 'no type at all'}`, async () => {
      for (const size of [1, 5000, 300_000]) {
        world.fresh();
        const body = randomBytes(size);
        const headers = { 'x-csrf': '1', 'content-type': type };
        const answer = await world.alice.fetch('/api/orders/1', { method: 'POST', body, headers });
        expect(answer.status, answer.text).toBe(200);
        const [request] = world.upstream.requests;
        expect([request?.bodyLength, request?.bodySha256]).toEqual([size, sha256(body)]);
        expect(request?.header('content-type')).toBe(type);
        expect(request?.header('content-length')).toBe(String(size));
      }
    });
  }

  it('T93 refuses a content type that is none', async () => {
    const headers = { 'x-csrf': '1', 'content-type': 'nonsense' };
    expect((await world.alice.fetch('/api/orders/1', { method: 'POST', body: 'x', headers })).status).toBe(415);
    expect(world.upstream.requests).toEqual([]);
  });

  const bare: [method: string, target: string, type: string, status: number][] = [
    ['DELETE', '/bff/sessions/none', 'application/json', 404],
    ['POST', '/bff/refresh', 'application/x-www-form-urlencoded', 200],
    ['POST', '/bff/backchannel-logout', 'application/x-www-form-urlencoded', 400],
    ['POST', '/bff/login', 'application/json', 405],
    ['PUT', '/nowhere', 'application/json', 404],
    ['DELETE', '/api/orders/1', 'application/json', 200],
  ];
  for (const [method, target, type, status] of bare) {
    // A page's fetch() sends no length with a DELETE. Nobody may wait for the end of what never begins.
    it(`T91 answers ${method} ${target} that has a type, ${type}, and no body`, async () => {
      const result = await rawRequest(world.port, world.head(target, [`Content-Type: ${type}`], method));
      expect(result.status, result.text).toBe(status);
    });
  }

  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'GET']) {
    it(`T93 passes a chunked body on unchanged with ${method}`, async () => {
      const body = randomBytes(70_000);
      const chunks = [body.subarray(0, 1), body.subarray(1, 60_000), body.subarray(60_000)].flatMap((chunk) => [
        Buffer.from(`${chunk.length.toString(16)};ext=1\r\n`),
        chunk,
        Buffer.from('\r\n'),
      ]);
      const head = world.head('/api/orders/1', ['Transfer-Encoding: chunked', 'Trailer: x-t'], method);
      const result = await rawRequest(world.port, [head, ...chunks, '0\r\nX-T: trailer\r\n\r\n']);
      expect(result.status, result.text).toBe(200);
      expect(world.upstream.requests[0]?.bodySha256).toBe(sha256(body));
      expect(world.upstream.requests[0]?.trailers).toEqual([]);
    });
  }

  it('T93 passes a download back unchanged', async () => {
    const body = randomBytes(300_000);
    world.upstream.respond = reply({ body });
    expect(sha256((await world.alice.fetch('/api/orders/1')).bytes)).toBe(sha256(body));
  });
});

describe('the limit', () => {
  it('T92 refuses a declared length over the limit before the upstream is asked, and the browser sees it', async () => {
    const answer = await world.alice.fetch('/api/orders/1', {
      method: 'POST',
      body: Buffer.alloc(MiB + 1),
      headers: { 'x-csrf': '1' },
    });
    expect(answer.status).toBe(413);
    expect(answer.json()).toMatchObject({ code: 'BFF_BODY_TOO_LARGE' });
    expect(world.upstream.requests).toEqual([]);
  });

  it('T92 takes exactly the limit', async () => {
    const body = Buffer.alloc(MiB);
    expect(
      (await world.alice.fetch('/api/orders/1', { method: 'POST', body, headers: { 'x-csrf': '1' } })).status,
    ).toBe(200);
    expect(world.upstream.requests[0]?.bodyLength).toBe(MiB);
  });

  it('T92 ends a chunked body at the limit with 413, aborts the upstream and can go on', async () => {
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/orders/1', ['Transfer-Encoding: chunked'], 'POST'));
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    for (let count = 0; count < 20; count++) await connection.write(chunk);
    expect((await connection.response(1)).status).toBe(413);
    await until(() => world.upstream.requests[0]?.aborted);
    expect(world.upstream.requests[0]?.complete).toBe(false);
    await connection.write('0\r\n\r\n');
    await connection.write(world.head('/api/orders/2'));
    expect((await connection.response(2)).status).toBe(200);
    connection.close();
  });

  it('T92 ends a body with 413 that is too long before there is a connection to its API', async () => {
    const bytes = `${world.head('/api/fresh/1', ['Transfer-Encoding: chunked'], 'POST')}800\r\n${'x'.repeat(0x800)}\r\n`;
    expect((await rawRequest(world.port, bytes)).status).toBe(413);
    expect(world.upstream.requests).toEqual([]);
  });

  it('T92 cuts a connection that does not stop sending after its 413', async () => {
    for (const line of ['Transfer-Encoding: chunked', `Content-Length: ${64 * MiB}`]) {
      const connection = await openRaw(world.port);
      const head = world.head('/api/orders/1', [line], 'POST');
      await connection.write(head);
      const chunk = line.startsWith('T') ? `10000\r\n${'x'.repeat(0x10000)}\r\n` : 'x'.repeat(0x10000);
      let sent = 0;
      while (!connection.closed() && sent < 64 * MiB) {
        await connection.write(chunk).catch(() => undefined);
        sent += chunk.length;
      }
      expect(connection.text()).toMatch(/^HTTP\/1\.1 413/);
      expect(sent).toBeLessThan(32 * MiB);
    }
  });

  it('T92 aborts the upstream when a body is shorter than it said', async () => {
    const connection = await openRaw(world.port);
    await connection.write(`${world.head('/api/orders/1', ['Content-Length: 1000'], 'POST')}short`);
    await until(() => world.upstream.requests[0]?.bodyLength === 5);
    connection.close();
    await until(() => world.upstream.requests[0]?.aborted, { timeoutMs: 1000 });
    expect(world.upstream.requests[0]?.complete).toBe(false);
  });

  it('T92 passes no byte on beyond the length that was said', async () => {
    const result = await rawRequest(
      world.port,
      `${world.head('/api/orders/1', ['Content-Length: 2'], 'POST')}hiGET /x`,
    );
    expect(result.responses.map(({ status }) => status)).toEqual([200, 400]);
    expect(world.upstream.requests.map(({ body }) => body.toString())).toEqual(['hi']);
    expect(world.upstream.malformed).toEqual([]);
  });
});

describe('an upload that nobody wants', () => {
  const early = {
    'answers and closes': rawBytes('HTTP/1.1 409 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno'),
    'answers and reads no more': rawBytes('HTTP/1.1 409 No\r\nContent-Length: 2\r\n\r\nno', { end: 'keep' }),
  };
  for (const [name, respond] of Object.entries(early)) {
    it(`T92 the browser gets the answer of an upstream that ${name} early, even if it looks only after its upload`, async () => {
      world.upstream.respondOn = 'head';
      world.upstream.respond = respond;
      const connection = await openRaw(world.port);
      connection.socket.pause();
      const head = world.head('/api/orders/1', [`Content-Length: ${MiB}`], 'POST');
      await connection.write(head);
      for (let count = 0; count < 16; count++) await connection.write(Buffer.alloc(MiB / 16));
      connection.socket.resume();
      const answer = await connection.response(1);
      expect([answer.status, answer.body]).toEqual([409, 'no']);
      world.fresh();
      await connection.write(world.head('/api/orders/2'));
      expect((await connection.response(2)).status).toBe(200);
      connection.close();
    });
  }

  it('T92 the browser gets the 502 of a dead upstream after its upload', async () => {
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/dead/1', [`Content-Length: ${4 * MiB}`], 'POST'));
    for (let count = 0; count < 16; count++) await connection.write(Buffer.alloc(MiB / 4));
    expect((await connection.response(1)).status).toBe(502);
    await connection.write(world.head('/api/orders/2'));
    expect((await connection.response(2)).status).toBe(200);
    connection.close();
  });
});
