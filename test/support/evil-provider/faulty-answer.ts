import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { ResponseFault, TokenFault } from './faults.ts';

/** What an endpoint answers when nothing goes wrong. */
export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  /** Sent as JSON. */
  json?: Record<string, unknown>;
  /** Sent as HTML when there is no `json`. */
  html?: string;
}

const MEBIBYTE = 1 << 20;

/** Sends the answer as the fault wants it. */
export async function sendAnswer(response: ServerResponse, answer: Answer, fault: TokenFault = {}): Promise<void> {
  await fault.holdUntil;
  if (fault.delayMs !== undefined) await delay(fault.delayMs, undefined, { ref: false });
  if (fault.hang || response.destroyed) return;
  if (fault.reset || fault.commitThenCut) {
    response.socket?.destroy();
    return;
  }
  if (fault.redirectTo !== undefined) {
    response.writeHead(fault.status ?? 302, { location: fault.redirectTo, ...defined(fault.headers) }).end();
    return;
  }
  const bytes = distort(bodyOf(answer, fault), fault);
  for (const [name, value] of Object.entries(headersOf(answer, fault))) response.setHeader(name, value);
  response.statusCode = statusOf(answer, fault);
  await sendBody(response, bytes, fault);
}

function statusOf(answer: Answer, fault: ResponseFault): number {
  const { body } = fault;
  const isError = typeof body === 'object' && body !== null && 'error' in body;
  return fault.status ?? (isError ? 400 : body === undefined ? (answer.status ?? 200) : 200);
}

function headersOf(answer: Answer, fault: ResponseFault): Record<string, string> {
  const type = answer.html === undefined ? 'application/json' : 'text/html; charset=utf-8';
  const regular = { 'content-type': type, 'cache-control': 'no-store', ...answer.headers };
  const coded = fault.gzipBomb ? { 'content-encoding': 'gzip' } : {};
  return defined({ ...regular, ...coded, ...lowerCased(fault.headers) });
}

function bodyOf(answer: Answer, fault: ResponseFault): Buffer {
  if (fault.body !== undefined) {
    if (Buffer.isBuffer(fault.body)) return fault.body;
    return Buffer.from(typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body));
  }
  if (fault.status !== undefined && !fault.mutate && !fault.mutateText) return Buffer.alloc(0);
  if (answer.json === undefined) return Buffer.from(answer.html ?? '');
  const changed = fault.mutate?.(answer.json);
  return Buffer.from(JSON.stringify(changed === undefined ? answer.json : changed));
}

function distort(body: Buffer, fault: ResponseFault): Buffer {
  const bytes = fault.mutateText ? Buffer.from(fault.mutateText(body.toString())) : body;
  return fault.truncate === true ? bytes.subarray(0, Math.floor(bytes.length / 2)) : bytes;
}

async function sendBody(response: ServerResponse, bytes: Buffer, fault: ResponseFault): Promise<void> {
  if (fault.truncate === 'connection') {
    response.setHeader('content-length', bytes.length);
    response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => response.socket?.destroy());
  } else if (fault.gzipBomb) {
    const size = fault.gzipBomb === true ? 256 * MEBIBYTE : fault.gzipBomb;
    const member = gzipSync(Buffer.alloc(MEBIBYTE, ' '));
    await writeAll(response, member, Math.ceil(size / MEBIBYTE));
    response.end(gzipSync(bytes));
  } else if (fault.hugeBytes !== undefined) {
    const piece = Buffer.alloc(65_536, ' ');
    await writeAll(response, piece, Math.ceil(fault.hugeBytes / piece.length));
    response.end(bytes);
  } else if (fault.slowBytesPerSecond !== undefined) {
    response.setHeader('content-length', bytes.length);
    await drip(response, bytes, fault.slowBytesPerSecond);
  } else {
    response.setHeader('content-length', bytes.length);
    response.end(bytes);
  }
}

async function writeAll(response: ServerResponse, piece: Buffer, times: number): Promise<void> {
  const gone = once(response, 'close');
  for (let i = 0; i < times && !response.destroyed; i++) {
    if (!response.write(piece)) await Promise.race([once(response, 'drain'), gone]);
  }
}

async function drip(response: ServerResponse, bytes: Buffer, perSecond: number): Promise<void> {
  const step = Math.max(1, Math.floor(perSecond / 10));
  for (let at = 0; at < bytes.length && !response.destroyed; at += step) {
    response.write(bytes.subarray(at, at + step));
    await delay((step * 1000) / perSecond, undefined, { ref: false });
  }
  response.end();
}

function lowerCased(headers: ResponseFault['headers'] = {}): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function defined(headers: Record<string, string | undefined> = {}): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
