import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An API by the libraries that its kind of API is made with, on Node's own HTTP server. */
export interface ApiServer {
  url: string;
  server: Server;
  /** The heads of all requests and handshakes, in order. */
  requests: Pick<IncomingMessage, 'method' | 'url' | 'headers'>[];
  /** Drops all connections, WebSockets too. */
  cut(): void;
  stop(): Promise<void>;
}

export async function startApiServer(
  listener: RequestListener = (_request, response) => response.writeHead(404).end(),
) {
  const server = createServer(listener);
  const requests: ApiServer['requests'] = [];
  const note = ({ method, url, headers }: IncomingMessage) => requests.push({ method, url, headers });
  server.prependListener('request', note).prependListener('upgrade', note);
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const api: ApiServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    requests,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    async stop() {
      const closed = once(server, 'close');
      server.close();
      api.cut();
      await closed;
    },
  };
  return api;
}
