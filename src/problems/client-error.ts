import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { HeadersTooMany, type ProblemType, problem, RequestMalformed, RequestTimeout } from './errors.ts';

/** Milliseconds for the peer to read the answer and close; then we do, whatever it does. */
const lingerTime = 500;

export type AnswerClientError = (error: Error & { code?: string }, socket: Socket) => void;

/**
 * Answers what Node's parser refused, before there is a request: bad framing, oversized headers, slowness (T45, T90,
 * T91). Then the connection is closed: nobody knows where the next request would begin. It clears no cookies: any site
 * can send a browser here with a URL of any length (W5).
 *
 * @param count counts an answer by its error code.
 */
export function buildClientErrorAnswer(newRequestId: () => string, count: (code: string) => void): AnswerClientError {
  return (error, socket) => answerClientError(error, socket, newRequestId, count);
}

function answerClientError(
  error: Error & { code?: string },
  socket: Socket,
  newRequestId: () => string,
  count: (code: string) => void,
): void {
  // Opened ahead of time and never used: nobody has asked anything.
  if (socket.bytesRead === 0) {
    socket.destroy();
    return;
  }
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  // Node's own name for the answer in flight, and its own rule: once that has begun, our bytes would become part of it.
  const { _httpMessage: inFlight } = socket as Socket & { _httpMessage?: ServerResponse | null };
  if (!socket.writable || inFlight?.headersSent === true) {
    socket.destroy();
    return;
  }
  const { statusCode = 400, code, message } = problem(typeOf(error.code));
  count(code);
  const body = JSON.stringify({
    type: 'about:blank',
    code,
    title: message,
    status: statusCode,
    requestId: newRequestId(),
  });
  hangUp(
    socket,
    `HTTP/1.1 ${statusCode} ${reasons[statusCode] ?? 'Bad Request'}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  );
}

/**
 * Ends a connection after a last word. Node lets go of one only when both ends did: a peer that never closes would
 * keep ours, and what its request holds upstream, for ever.
 */
export function hangUp(socket: Socket, lastWord = ''): void {
  socket.end(lastWord);
  const linger = setTimeout(() => socket.destroy(), lingerTime);
  socket.once('close', () => clearTimeout(linger));
}

const reasons: Record<number, string> = { 408: 'Request Timeout', 431: 'Request Header Fields Too Large' };

function typeOf(code: string | undefined): ProblemType {
  if (code === 'HPE_HEADER_OVERFLOW') return HeadersTooMany;
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? RequestTimeout : RequestMalformed;
}
