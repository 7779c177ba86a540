import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { type HeaderLine, headerValues, splitHeader } from '../raw-response.ts';

/** A request exactly as it came over the wire. */
export interface EchoRequest {
  /** `GET /a?b HTTP/1.1`. */
  requestLine: string;
  method: string;
  target: string;
  version: string;
  /** Raw header lines in order, with their case. */
  headerLines: string[];
  headers: HeaderLine[];
  /** First value, whatever the case of the name. */
  header(name: string): string | undefined;
  all(name: string): string[];
  /** Bytes received so far; final once `complete`. */
  bodyLength: number;
  /** Of the whole body; empty until `complete`. */
  bodySha256: string;
  /** The first 64 KiB of the body. */
  body: Buffer;
  trailers: HeaderLine[];
  /** The whole body arrived. */
  complete: boolean;
  /** The peer closed the connection before the answer was finished. */
  aborted: boolean;
  /** The answer was written. */
  answered: boolean;
  /** Bytes of an iterable body that `reply` could hand to the socket so far: shows back-pressure. */
  sentBodyBytes: number;
  /** Counts connections from 1: requests with the same number shared one. */
  connection: number;
  at: number;
  /** Stops parsing this connection (after an upgrade) and returns the bytes already read. Add your own `data` listener. */
  detach(): Buffer;
}

/** What the reader reports. Each method runs in the order of the bytes. */
export interface RequestEvents {
  head(request: EchoRequest): void;
  complete(request: EchoRequest): void;
  /** Not HTTP/1.x: the reader stops. */
  malformed(reason: string, bytes: Buffer): void;
}

const KEPT_BODY_BYTES = 65_536;

/** Parses the requests of one connection as they flow, hashing bodies instead of keeping them. */
export function readRequests(socket: Socket, connection: number, events: RequestEvents): void {
  let pending: Buffer = Buffer.alloc(0);
  let state: 'head' | 'length' | 'chunk-size' | 'chunk-data' | 'chunk-end' | 'trailers' | 'stopped' = 'head';
  let remaining = 0;
  let request: EchoRequest | undefined;
  let hash = createHash('sha256');

  const onData = (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    while (state !== 'stopped' && step());
  };
  socket.on('data', onData);

  function step(): boolean {
    switch (state) {
      case 'head':
        return readHead();
      case 'length':
        if (remaining > 0 && !readBody()) return false;
        if (remaining === 0) finish();
        return true;
      case 'chunk-size':
        return readChunkSize();
      case 'chunk-data':
        if (!readBody()) return false;
        if (remaining === 0) state = 'chunk-end';
        return true;
      case 'chunk-end': {
        const line = takeLine();
        if (line === undefined) return false;
        if (line !== '') return refuse('no line end after a chunk');
        state = 'chunk-size';
        return true;
      }
      case 'trailers': {
        const line = takeLine();
        if (line === undefined) return false;
        if (line === '') finish();
        else request?.trailers.push(splitHeader(line));
        return true;
      }
      default:
        return false;
    }
  }

  function readHead(): boolean {
    // A few servers tolerate empty lines before a request line; this one reports them as malformed.
    const end = pending.indexOf('\r\n\r\n');
    if (end < 0) return false;
    const [requestLine = '', ...headerLines] = pending.toString('latin1', 0, end).split('\r\n');
    const match = /^(\S+) (\S+) (HTTP\/1\.[01])$/.exec(requestLine);
    if (match === null) return refuse('bad request line');
    pending = pending.subarray(end + 4);
    const [, method = '', target = '', version = ''] = match;
    request = buildRequest({ requestLine, method, target, version, headerLines, connection }, detach);
    hash = createHash('sha256');
    const length = request.header('content-length');
    if (/chunked/i.test(request.header('transfer-encoding') ?? '')) state = 'chunk-size';
    else {
      if (length !== undefined && !/^\d+$/.test(length)) return refuse('bad content-length');
      state = 'length';
      remaining = Number(length ?? 0);
    }
    events.head(request);
    return true;
  }

  function readChunkSize(): boolean {
    const line = takeLine();
    if (line === undefined) return false;
    const size = /^([0-9a-f]+)(\s*;.*)?$/i.exec(line)?.[1];
    if (size === undefined) return refuse('bad chunk size');
    remaining = Number.parseInt(size, 16);
    state = remaining === 0 ? 'trailers' : 'chunk-data';
    return true;
  }

  function readBody(): boolean {
    if (pending.length === 0 || request === undefined) return false;
    const part = pending.subarray(0, remaining);
    pending = pending.subarray(part.length);
    remaining -= part.length;
    hash.update(part);
    if (request.body.length < KEPT_BODY_BYTES) {
      request.body = Buffer.concat([request.body, part.subarray(0, KEPT_BODY_BYTES - request.body.length)]);
    }
    request.bodyLength += part.length;
    return true;
  }

  function takeLine(): string | undefined {
    const end = pending.indexOf('\r\n');
    if (end < 0) return undefined;
    const line = pending.toString('latin1', 0, end);
    pending = pending.subarray(end + 2);
    return line;
  }

  function finish(): void {
    state = 'head';
    if (request === undefined) return;
    request.complete = true;
    request.bodySha256 = hash.digest('hex');
    events.complete(request);
  }

  function refuse(reason: string): boolean {
    state = 'stopped';
    events.malformed(reason, pending);
    return false;
  }

  function detach(): Buffer {
    state = 'stopped';
    socket.off('data', onData);
    const rest = pending;
    pending = Buffer.alloc(0);
    return rest;
  }
}

type Head = Pick<EchoRequest, 'requestLine' | 'method' | 'target' | 'version' | 'headerLines' | 'connection'>;

function buildRequest(head: Head, detach: () => Buffer): EchoRequest {
  const headers = head.headerLines.map(splitHeader);
  return {
    ...head,
    headers,
    header: (name) => headerValues(headers, name)[0],
    all: (name) => headerValues(headers, name),
    bodyLength: 0,
    bodySha256: '',
    body: Buffer.alloc(0),
    trailers: [],
    complete: false,
    aborted: false,
    answered: false,
    sentBodyBytes: 0,
    at: Date.now(),
    detach,
  };
}
