import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CloakroomProcess, startCloakroomProcess } from '../support/cloakroom-process.ts';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { openRaw, type RawConnection } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// T92: what is bigger than memory goes through a process of its own, whose memory can be measured.

const MiB = 1024 * 1024;

describe('a gigabyte', () => {
  const total = 1024 * MiB;
  let upstream: EchoUpstream;
  let cloakroom: CloakroomProcess;

  beforeAll(async () => {
    upstream = await startEchoUpstream();
    cloakroom = await startCloakroomProcess({
      files: { path: '/files', upstream: upstream.url, token: 'none', limits: { requestBody: '2GiB' } },
    });
  });
  afterAll(async () => {
    await cloakroom.stop();
    await upstream.stop();
  });

  const head = (method: string, lines: string[]) =>
    [`${method} /files/big HTTP/1.1`, `Host: localhost:${cloakroom.port}`, ...lines, '', ''].join('\r\n');

  /** Waits until a number of bytes stands still: whoever sends is held back. */
  async function standstill(bytes: () => number): Promise<number> {
    let last = -1;
    let since = performance.now();
    await until(() => {
      if (bytes() !== last) [last, since] = [bytes(), performance.now()];
      return last > 0 && performance.now() - since > 300;
    });
    return last;
  }

  async function upload(connection: RawConnection, frame: (block: Buffer) => Buffer): Promise<void> {
    const block = frame(Buffer.alloc(MiB, 'x'));
    for (let sent = 0; sent < total; sent += MiB) {
      if (!connection.socket.write(block)) await once(connection.socket, 'drain');
    }
  }

  const framings: Record<string, [line: string, frame: (block: Buffer) => Buffer, end: string]> = {
    'with a length': [`Content-Length: ${total}`, (block) => block, ''],
    'in chunks': [
      'Transfer-Encoding: chunked',
      (block) => Buffer.concat([Buffer.from('100000\r\n'), block, Buffer.from('\r\n')]),
      '0\r\n\r\n',
    ],
  };
  for (const [name, [line, frame, end]] of Object.entries(framings)) {
    it(`T92 goes up ${name} in bounded memory, held back while the upstream does not read`, async () => {
      upstream.reset();
      const idle = await cloakroom.memory();
      const connection = await openRaw(cloakroom.port);
      let release = () => {};
      upstream.respondOn = 'head';
      upstream.respond = (request, socket) => {
        socket.pause();
        release = () => void socket.resume();
        return until(() => request.complete, { timeoutMs: 30_000 }).then(() =>
          reply({ body: 'done' })(request, socket),
        );
      };
      const most = await cloakroom.mostMemory(async () => {
        connection.socket.write(head('POST', [line]));
        const sending = upload(connection, frame);
        const held = await standstill(() => connection.socket.bytesWritten - connection.socket.writableLength);
        expect(held).toBeLessThan(64 * MiB);
        release();
        await sending;
        connection.socket.write(end);
        expect((await connection.response(1, 30_000)).body).toBe('done');
      });
      expect(upstream.requests[0]?.bodyLength).toBe(total);
      expect(most - idle).toBeLessThan(100 * MiB);
      connection.close();
    });
  }

  it('T92 comes down in bounded memory, held back while the browser does not read', async () => {
    upstream.reset();
    const idle = await cloakroom.memory();
    const block = Buffer.alloc(MiB, 'y');
    upstream.respond = reply({
      body: (function* () {
        for (let sent = 0; sent < total; sent += MiB) yield block;
      })(),
    });
    const connection = await openRaw(cloakroom.port);
    connection.socket.removeAllListeners('data'); // count the bytes, do not keep them
    let received = 0;
    connection.socket.on('data', (chunk: Buffer) => (received += chunk.length));
    connection.socket.pause();
    const most = await cloakroom.mostMemory(async () => {
      connection.socket.write(head('GET', []));
      const held = await standstill(() => upstream.requests[0]?.sentBodyBytes ?? 0);
      expect(held).toBeLessThan(64 * MiB);
      connection.socket.resume();
      await until(() => received > total, { timeoutMs: 30_000 });
    });
    expect(upstream.requests[0]?.sentBodyBytes).toBe(total);
    expect(most - idle).toBeLessThan(100 * MiB);
    connection.close();
  });

  it('T92 a browser that leaves in the middle ends it at both ends', async () => {
    upstream.reset();
    upstream.respond = hang();
    const connection = await openRaw(cloakroom.port);
    await connection.write(head('POST', [`Content-Length: ${total}`]));
    await connection.write(Buffer.alloc(16 * MiB));
    await until(() => (upstream.requests[0]?.bodyLength ?? 0) > 8 * MiB);
    connection.close();
    await until(() => upstream.active === 0, { timeoutMs: 1000, message: 'the upstream to be told' });
    expect(upstream.requests[0]?.complete).toBe(false);
  });
});
