import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type AnswerClientError, hangUp } from '../problems/client-error.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Handshakes of WebSockets are let through to this route; everywhere else the request guard refuses them. */
    websocket?: boolean;
  }
}

// An import of node:http touches each of its exports, and one of them loads all of Node's own undici.
const http = process.getBuiltinModule('node:http');

const sockets = new WeakMap<IncomingMessage, Socket>();

/** The connection of a WebSocket handshake; `undefined` for every other request. */
export function handshakeSocket(request: IncomingMessage): Socket | undefined {
  return sockets.get(request);
}

/**
 * Is this a request that Node should take out of HTTP? All others stay ordinary ones, whatever their `Upgrade` header
 * says: it is an offer, and not taking it up is an answer (RFC 9110 §7.8, T99).
 */
export function isHandshake({ method, httpVersion, headers }: IncomingMessage): boolean {
  return (
    method === 'GET' &&
    httpVersion === '1.1' &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['transfer-encoding'] === undefined &&
    Number(headers['content-length'] ?? 0) === 0
  );
}

/**
 * Sends handshakes through Fastify like every other request, so that every guard and hook sees them before anything is
 * said on the socket. Whatever the answer is, the connection ends after it: a socket that was taken out of HTTP is
 * never left open (T99).
 */
export function routeHandshakes(
  server: Server,
  route: (request: IncomingMessage, response: ServerResponse) => void,
  answerClientError: AnswerClientError,
): void {
  server.on('upgrade', (request: IncomingMessage, stream, head: Buffer) => {
    const socket = stream as Socket & { _httpMessage?: ServerResponse | null };
    socket.on('error', () => socket.destroy());
    // Sent behind a request that is not answered yet: its answer still has the socket, and Node would throw.
    if (socket._httpMessage) return void socket.destroy();
    // Before Node 24.9 (22.21) everything with an Upgrade header comes here, and its body is lost. Nor may anything
    // follow a handshake before it was answered (RFC 6455 §4.1).
    if (!isHandshake(request) || head.length > 0) return answerClientError(new Error('not a handshake'), socket);
    const response = new http.ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.once('finish', () => hangUp(socket));
    sockets.set(request, socket);
    route(request, response);
  });
}
