import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hang, rawBytes } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// T76, T90, T91, T122 on bare sockets: a message that two parties could read in two ways goes no further.

let world: ProxyWorld;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.limits.headersTimeout = '1s';
    data.limits.requestTimeout = '2s';
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

const smuggled = 'GET /api/orders/smuggled HTTP/1.1\r\nHost: x\r\n\r\n';

/** Header lines and body of a POST whose end is disputed. */
const ambiguous: Record<string, [lines: string[], body: string]> = {
  'content-length before transfer-encoding': [
    ['Content-Length: 6', 'Transfer-Encoding: chunked'],
    `0\r\n\r\n${smuggled}`,
  ],
  'transfer-encoding before content-length': [
    ['Transfer-Encoding: chunked', 'Content-Length: 4'],
    `1\r\nx\r\n0\r\n\r\n`,
  ],
  'an unknown transfer coding': [['Transfer-Encoding: xchunked'], `0\r\n\r\n${smuggled}`],
  'chunked before identity': [['Transfer-Encoding: chunked, identity'], `0\r\n\r\n${smuggled}`],
  'two transfer-encoding lines': [['Transfer-Encoding: chunked', 'Transfer-Encoding: x'], `0\r\n\r\n${smuggled}`],
  'a tab before the coding and another length': [['Transfer-Encoding:\tchunked', 'Content-Length: 5'], '0\r\n\r\n'],
  'two different lengths': [['Content-Length: 1', 'Content-Length: 2'], 'xy'],
  'two equal lengths': [['Content-Length: 1', 'Content-Length: 1'], 'x'],
  'a list of lengths': [['Content-Length: 1, 2'], 'xy'],
  'a length with a sign': [['Content-Length: +4'], 'abcd'],
  'a negative length': [['Content-Length: -4'], 'abcd'],
  'a hexadecimal length': [['Content-Length: 0x4'], 'abcd'],
  'a length beyond any integer': [['Content-Length: 99999999999999999999999'], 'abcd'],
  'an empty length': [['Content-Length: '], 'abcd'],
  'a folded line': [['Transfer-Encoding:', ' chunked'], `0\r\n\r\n${smuggled}`],
  'a folded value': [['X-A: b', ' Content-Length: 4'], 'abcd'],
  'a space before the colon': [['Content-Length : 4'], 'abcd'],
  'a tab before the colon': [['Transfer-Encoding\t: chunked'], '0\r\n\r\n'],
  'a bare line feed between lines': [['X-A: b\nTransfer-Encoding: chunked'], '0\r\n\r\n'],
  'a bare carriage return in a value': [['X-A: b\rTransfer-Encoding: chunked'], '0\r\n\r\n'],
  'a NUL in a value': [['X-A: b\0c'], ''],
  'a line without a colon': [['nonsense'], ''],
  'a name with a space': [['X A: b'], ''],
  'an empty name': [[': b'], ''],
};

describe('disputed framing', () => {
  for (const [name, [lines, body]] of Object.entries(ambiguous)) {
    it(`T90 refuses ${name} and closes`, async () => {
      const result = await rawRequest(world.port, world.head('/api/orders/1', lines, 'POST') + body);
      expect(result.status, result.text).toBe(400);
      expect(result.closed).toBe(true);
      expect(result.responses).toHaveLength(1);
      expect(world.upstream.requests).toEqual([]);
      expect(world.upstream.malformed).toEqual([]);
    });
  }

  it.each(['gzip, chunked', 'GZIP,chunked', 'deflate, chunked', 'x, chunked', 'chunked, chunked'])(
    'T90 refuses the transfer coding %s, which nobody would undo',
    async (coding) => {
      const head = world.head('/api/orders/1', [`Transfer-Encoding: ${coding}`], 'POST');
      const result = await rawRequest(world.port, `${head}1\r\nx\r\n0\r\n\r\n`);
      expect(result.status, result.text).toBe(coding === 'chunked, chunked' ? 400 : 501);
      expect(result.responses).toHaveLength(1);
      expect(world.upstream.requests).toEqual([]);
    },
  );

  const brokenChunks = {
    'no hexadecimal size': 'zz\r\nabc\r\n0\r\n\r\n',
    'a negative size': '-1\r\n\r\n0\r\n\r\n',
    'a size beyond any integer': 'fffffffffffffffffffff\r\nabc',
    'a size with 0x': '0x3\r\nabc\r\n0\r\n\r\n',
    'data longer than its size': '1\r\nabc\r\n0\r\n\r\n',
    'a bare line feed after the size': '3\nabc\r\n0\r\n\r\n',
    'a bare line feed after the data': '3\r\nabc\n0\r\n\r\n',
    'an extension of a megabyte': `3;${'x'.repeat(1024 * 1024)}\r\nabc\r\n0\r\n\r\n`,
    'a bare line feed in an extension': `3;a\nb\r\nabc\r\n0\r\n\r\n${smuggled}`,
  };
  for (const [name, body] of Object.entries(brokenChunks)) {
    it(`T90 gives up a chunked body with ${name}: the upstream never takes it for whole`, async () => {
      const head = world.head('/api/orders/1', ['Transfer-Encoding: chunked'], 'POST');
      const result = await rawRequest(world.port, [head, body], { untilClose: true });
      expect(result.closed).toBe(true);
      expect(result.responses.map(({ status }) => status)).toEqual([400]);
      await until(() => world.upstream.active === 0);
      expect(world.upstream.requests.filter(({ complete }) => complete)).toEqual([]);
    });
  }

  it('T90 passes exactly one request on for a GET whose body looks like another', async () => {
    const head = world.head('/api/orders/1', [`Content-Length: ${smuggled.length}`]);
    const result = await rawRequest(world.port, head + smuggled);
    expect(result.responses).toHaveLength(1);
    expect(world.upstream.requests.map(({ target }) => target)).toEqual(['/1']);
    expect(world.upstream.malformed).toEqual([]);
  });

  it('T90 refuses transfer-encoding from HTTP/1.0, or reads it and closes: never a second request', async () => {
    const head = world.head('/api/orders/1', ['Transfer-Encoding: chunked'], 'POST').replace('HTTP/1.1', 'HTTP/1.0');
    const result = await rawRequest(world.port, `${head}0\r\n\r\n${smuggled}`, { untilClose: true });
    expect(result.closed).toBe(true);
    expect(result.responses).toHaveLength(1);
    expect(world.upstream.requests.filter(({ target }) => target !== '/1')).toEqual([]);
  });

  it('T90 writes no error of its own into an answer that is already on its way', async () => {
    world.upstream.respond = rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning', { end: 'keep' });
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/orders/1'));
    await connection.readUntil((text) => text.endsWith('beginning'));
    await connection.write('NOT HTTP AT ALL\r\n\r\n');
    expect(await connection.peerClosed()).toBe(true);
    expect(connection.text().match(/HTTP\/1\.1/g)).toHaveLength(1);
  });

  it('T90 closes the connection although its peer keeps it open', async () => {
    const accepted = once(world.app.server.server, 'connection') as Promise<[Socket]>;
    const connection = await openRaw(world.port); // allows a half-open connection, as an attacker would
    const [theirs] = await accepted;
    await connection.write('NOT HTTP AT ALL\r\n\r\n');
    expect((await connection.response(1)).status).toBe(400);
    await until(() => theirs.destroyed, { timeoutMs: 3000, message: 'the server to let go' });
    connection.close();
  });

  it('T90 gives the upstream request up when the rest of the connection is garbage', async () => {
    world.upstream.respond = hang();
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/orders/1'));
    await until(() => world.upstream.active === 1);
    await connection.write('NOT HTTP AT ALL\r\n\r\n');
    await until(() => world.upstream.active === 0, { timeoutMs: 3000, message: 'the upstream request to end' });
    connection.close();
  });
});

describe('Host', () => {
  const hosts: Record<string, string[]> = {
    'two Host lines': ['Host: localhost:PORT', 'Host: evil.example'],
    'two equal Host lines': ['Host: localhost:PORT', 'Host: localhost:PORT'],
    'no Host': [],
    'an empty Host': ['Host: '],
    'a list of hosts': ['Host: localhost:PORT, evil.example'],
    'a host with a path': ['Host: localhost:PORT/api'],
    'a host with userinfo': ['Host: evil@localhost:PORT'],
    'a host with a space': ['Host: localhost:PORT evil.example'],
    'a host with a backslash': ['Host: localhost:PORT\\evil'],
  };
  for (const [name, lines] of Object.entries(hosts)) {
    it(`T76 refuses ${name}`, async () => {
      const own = lines.map((line) => line.replace('PORT', String(world.port)));
      const head = ['GET /api/orders/1 HTTP/1.1', ...own, world.cookieLine, 'X-CSRF: 1', '', ''].join('\r\n');
      expect((await rawRequest(world.port, head)).status).toBe(400);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  for (const host of ['evil.example', 'localhost', 'localhost.:PORT', 'localhost:1', '127.0.0.1:PORT']) {
    it(`T76 serves nothing to the unknown host ${host}`, async () => {
      const line = `Host: ${host.replace('PORT', String(world.port))}`;
      const head = ['GET /api/orders/1 HTTP/1.1', line, world.cookieLine, 'X-CSRF: 1', '', ''].join('\r\n');
      expect((await rawRequest(world.port, head)).status).toBe(421);
      expect(world.upstream.requests).toEqual([]);
    });
  }
});

describe('slowness', () => {
  it('T91 ends a connection whose headers drip in', async () => {
    const connection = await openRaw(world.port);
    await connection.write('GET / HTTP/1.1\r\nHost: ');
    expect((await connection.response(1, 8000)).status).toBe(408);
    expect(await connection.peerClosed()).toBe(true);
  });

  it('T91 ends a request whose body drips in, and aborts it upstream', async () => {
    const connection = await openRaw(world.port);
    await connection.write(world.head('/api/orders/1', ['Content-Length: 1000'], 'POST'));
    const drip = setInterval(() => void connection.write('x').catch(() => undefined), 200);
    try {
      expect(await connection.peerClosed(8000)).toBe(true);
      expect(connection.responses().at(-1)?.status).toBe(408);
      await until(() => world.upstream.active === 0);
      expect(world.upstream.requests[0]?.complete).toBe(false);
    } finally {
      clearInterval(drip);
      connection.close();
    }
  });

  it('T91 answers 32 pipelined requests in order, one upstream request each, again and again', async () => {
    const count = 32;
    const connection = await openRaw(world.port);
    const burst = (round: number) =>
      Array.from({ length: count }, (_, index) => world.head(`/api/public/${round}-${index}`)).join('');
    for (const round of [1, 2, 3]) {
      await connection.write(burst(round));
      await until(() => connection.text().split('HTTP/1.1 200').length === round * count + 1, { timeoutMs: 10_000 });
      expect(world.upstream.requests).toHaveLength(round * count);
    }
    connection.close();
  });

  it('T91 serves others while 500 idle connections are open', async () => {
    const idle = await Promise.all(Array.from({ length: 500 }, () => openRaw(world.port)));
    expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
    for (const connection of idle) connection.close();
  });
});

describe('too many headers', () => {
  const filler = (count: number) => Array.from({ length: count }, (_, index) => `a${index}: 1`);

  for (const count of [100, 1000, 2100]) {
    it(`T122 refuses ${count} more header lines, wherever the deciding one stands`, async () => {
      const result = await rawRequest(
        world.port,
        world.head('/api/orders/1', [...filler(count), 'Authorization: Bearer x']),
      );
      expect(result.status).toBe(431);
      expect(world.upstream.requests).toEqual([]);
    });
  }

  it('T75 refuses one header of 60 kB', async () => {
    const result = await rawRequest(world.port, world.head('/api/orders/1', [`X-Big: ${'x'.repeat(60_000)}`]));
    expect(result.status).toBe(431);
    expect(world.upstream.requests).toEqual([]);
  });
});
