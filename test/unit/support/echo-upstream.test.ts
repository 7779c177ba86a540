import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { createCertificates } from '../../support/certificates.ts';
import { hang, rawBytes, reply, serverSentEvents } from '../../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts';
import { openRaw, rawRequest } from '../../support/raw-client.ts';
import { until } from '../../support/wait.ts';

const started: EchoUpstream[] = [];
async function start(...options: Parameters<typeof startEchoUpstream>) {
  const upstream = await startEchoUpstream(...options);
  started.push(upstream);
  return upstream;
}
afterEach(async () => {
  for (const upstream of started.splice(0)) await upstream.stop();
});

test('echoes the request line and the header lines as they were sent', async () => {
  const upstream = await start();
  const result = await rawRequest(upstream.port, 'GET /a%2f?b HTTP/1.1\r\nHOST: x\r\nx-A:  1 \r\nX-a: 2\r\n\r\n');
  expect(result).toMatchObject({ status: 200, closed: false });
  expect(JSON.parse(result.body)).toMatchObject({
    method: 'GET',
    target: '/a%2f?b',
    headers: [
      ['HOST', 'x'],
      ['x-A', '1'],
      ['X-a', '2'],
    ],
  });
  await until(() => upstream.connections === 0);
});

test('hashes chunked and sized bodies and keeps the connection alive', async () => {
  const upstream = await start();
  const connection = await openRaw(upstream.port);
  await connection.write('POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab');
  await connection.write('c\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde');
  await connection.response(2);
  const bodySha256 = createHash('sha256').update('abcde').digest('hex');
  expect(upstream.requests).toMatchObject([
    { target: '/1', bodyLength: 5, bodySha256, trailers: [['X-T', '1']], connection: 1, answered: true },
    { target: '/2', bodyLength: 5, bodySha256, connection: 1 },
  ]);
  expect(upstream.active).toBe(0);
  connection.close();
});

test('takes a large body without keeping it', async () => {
  const upstream = await start();
  const connection = await openRaw(upstream.port);
  const part = Buffer.alloc(1 << 20);
  await connection.write(`POST / HTTP/1.1\r\nContent-Length: ${64 << 20}\r\n\r\n`);
  for (let i = 0; i < 64; i++) await connection.write(part);
  expect((await connection.response()).json()).toMatchObject({ bodyLength: 64 << 20 });
  expect(upstream.requests[0]?.body.length).toBe(65_536);
  connection.close();
});

test('writes what a test asks for: raw bytes, streams, silence', async () => {
  const upstream = await start();
  const get = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  upstream.respond = rawBytes('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nxx');
  expect((await rawRequest(upstream.port, get, { untilClose: true })).text).toContain('Length: -1');
  upstream.respond = serverSentEvents(['a', 'b']);
  expect((await rawRequest(upstream.port, get)).body).toBe('data: a\n\ndata: b\n\n');
  upstream.respond = reply({ status: 204 });
  expect((await rawRequest(upstream.port, get)).status).toBe(204);
  upstream.respond = hang();
  expect((await rawRequest(upstream.port, get, { timeoutMs: 50 })).status).toBe(0);
  await until(() => upstream.active === 0);
  expect(upstream.requests.at(-1)).toMatchObject({ aborted: true, answered: false });
});

test('answers early and reports bytes that are not HTTP', async () => {
  const upstream = await start();
  upstream.respondOn = 'head';
  const early = await rawRequest(upstream.port, 'POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n');
  expect(early.status).toBe(200);
  expect(upstream.requests[0]?.complete).toBe(false);
  expect((await rawRequest(upstream.port, 'nonsense\r\n\r\n')).status).toBe(400);
  expect(upstream.malformed).toMatchObject([{ reason: 'bad request line' }]);
});

test('speaks TLS with good and with bad certificates', async () => {
  const { ca, good, expired, wrongName, selfSigned } = await createCertificates();
  const get = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  const upstream = await start({ tls: good });
  expect((await rawRequest(upstream.port, get, { tls: { ca } })).status).toBe(200);
  for (const [tls, code] of [
    [expired, 'CERT_HAS_EXPIRED'],
    [wrongName, 'ERR_TLS_CERT_ALTNAME_INVALID'],
    [selfSigned, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ] as const) {
    const bad = await start({ tls });
    await expect(openRaw(bad.port, { tls: { ca } })).rejects.toMatchObject({ code });
  }
});
