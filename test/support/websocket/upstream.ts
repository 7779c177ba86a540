import type { IncomingMessage } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Respond } from '../echo-upstream/answers.ts';
import type { EchoRequest } from '../echo-upstream/request-reader.ts';

/** What an API does with a WebSocket that it accepted. */
export type Serve = (socket: WebSocket, request: EchoRequest) => void;

export interface WebSocketApi {
  /** For `world.upstream.respond`. */
  respond: Respond;
  /** Those that are open. */
  sockets: Set<WebSocket>;
  /** The codes and reasons with which they were closed. */
  closed: { code: number; reason: string }[];
}

/** A real WebSocket API (by ws) over the sockets of the echo upstream, which notes the handshakes. */
export function createWebSocketApi(
  serve: Serve,
  options: { protocol?: string; maxPayload?: number } = {},
): WebSocketApi {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: options.maxPayload ?? 1024 ** 3,
    ...(options.protocol === undefined ? {} : { handleProtocols: () => options.protocol as string }),
  });
  const api: WebSocketApi = {
    sockets: new Set(),
    closed: [],
    respond(request, connection) {
      const headers = Object.fromEntries(request.headers.map(([name, value]) => [name.toLowerCase(), value]));
      const head = request.detach();
      server.handleUpgrade(
        { method: request.method, headers } as unknown as IncomingMessage,
        connection,
        head,
        (socket) => {
          api.sockets.add(socket);
          socket.on('error', () => undefined);
          socket.on('close', (code, reason) => {
            api.sockets.delete(socket);
            api.closed.push({ code, reason: String(reason) });
          });
          serve(socket, request);
        },
      );
    },
  };
  return api;
}

/** Sends everything back. */
export const echo: Serve = (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data as Buffer, { binary: isBinary }));
};

/** Sends what one says to everybody. */
export function createChat(): WebSocketApi {
  const api = createWebSocketApi((socket) => {
    socket.on('message', (data) => {
      for (const other of api.sockets) other.send(String(data));
    });
  });
  return api;
}
