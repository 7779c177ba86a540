import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { HeaderLine } from '../raw-response.ts';
import type { EchoRequest } from './request-reader.ts';

/** Writes the answer to one request. The request counts as active until the returned promise settles. */
export type Respond = (request: EchoRequest, socket: Socket) => void | Promise<void>;

export interface Reply {
  /** 200. */
  status?: number;
  headers?: HeaderLine[];
  /** An iterable is sent chunked, with back-pressure. Objects are sent as JSON. */
  body?: string | Buffer | Record<string, unknown> | AsyncIterable<Buffer | string> | Iterable<Buffer>;
}

/** A well-framed answer: adds `Content-Length` (or chunked) unless the headers bring their own framing. */
export function reply({ status = 200, headers = [], body = '' }: Reply = {}): Respond {
  return async (request, socket) => {
    const streamed = isIterable(body);
    const bytes = streamed ? undefined : toBytes(body);
    const lines = headers.map(([name, value]) => `${name}: ${value}`);
    const framedByTest = headers.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
    const bodiless = status < 200 || status === 204 || status === 304;
    if (!framedByTest && !bodiless)
      lines.push(bytes ? `Content-Length: ${bytes.length}` : 'Transfer-Encoding: chunked');
    if (isPlainObject(body)) lines.push('Content-Type: application/json');
    const reason = status === 200 ? 'OK' : 'Status';
    socket.write(`HTTP/1.1 ${status} ${reason}\r\n${[...lines, '', ''].join('\r\n')}`, 'latin1');
    if (request.method === 'HEAD' || bodiless) return;
    if (bytes) await send(socket, bytes);
    else if (streamed) await sendChunks(request, socket, body, framedByTest);
  };
}

/** Exactly these bytes, then (unless `keepOpen`) the end of the connection. Strings are latin1. */
export function rawBytes(
  parts: string | Buffer | (string | Buffer)[],
  { end = 'fin' }: { end?: 'fin' | 'reset' | 'keep' } = {},
): Respond {
  return async (_request, socket) => {
    for (const part of Array.isArray(parts) ? parts : [parts]) {
      await send(socket, typeof part === 'string' ? Buffer.from(part, 'latin1') : part);
    }
    if (end === 'fin') socket.end();
    if (end === 'reset') socket.resetAndDestroy();
  };
}

/** Never answers; the request stays active until the peer gives up. */
export function hang(): Respond {
  return () => new Promise(() => {});
}

/** Drops the connection with a TCP reset. */
export function reset(): Respond {
  return (_request, socket) => void socket.resetAndDestroy();
}

/** Server-sent events: writes the head, then each event of the iterable; ends when it does. */
export function serverSentEvents(
  events: AsyncIterable<string> | Iterable<string>,
  headers: HeaderLine[] = [],
): Respond {
  const lines = async function* () {
    for await (const event of events) yield `data: ${event}\n\n`;
  };
  return reply({
    headers: [['Content-Type', 'text/event-stream'], ['Cache-Control', 'no-store'], ...headers],
    body: lines(),
  });
}

/** The default: says what arrived. */
export const echo: Respond = (request, socket) => {
  const { method, target, headers, bodyLength, bodySha256 } = request;
  return reply({ body: { method, target, headers, bodyLength, bodySha256 } })(request, socket);
};

async function sendChunks(
  request: EchoRequest,
  socket: Socket,
  body: AsyncIterable<Buffer | string> | Iterable<Buffer>,
  bare: boolean,
) {
  for await (const part of body) {
    const bytes = Buffer.from(part);
    if (bytes.length === 0) continue;
    await send(
      socket,
      bare ? bytes : Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]),
    );
    request.sentBodyBytes += bytes.length;
    if (socket.destroyed) return;
  }
  if (!bare) await send(socket, Buffer.from('0\r\n\r\n'));
}

async function send(socket: Socket, bytes: Buffer): Promise<void> {
  if (socket.destroyed || socket.write(bytes)) return;
  await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {});
}

function toBytes(body: string | Buffer | Record<string, unknown>): Buffer {
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function isPlainObject(body: Reply['body']): boolean {
  return typeof body === 'object' && !Buffer.isBuffer(body) && !isIterable(body);
}

function isIterable(body: NonNullable<Reply['body']>): body is AsyncIterable<Buffer | string> | Iterable<Buffer> {
  return (
    typeof body === 'object' && !Buffer.isBuffer(body) && (Symbol.asyncIterator in body || Symbol.iterator in body)
  );
}
