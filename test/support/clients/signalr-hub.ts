import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { type WebSocket, WebSocketServer } from 'ws';
import { type ApiServer, startApiServer } from './api-server.ts';

// A SignalR hub of our own, at /hub: there is no server for Node. It follows the protocols of ASP.NET Core
// (TransportProtocols.md and HubProtocol.md in its repository: negotiation 1, text, JSON), as far as the real client
// gets to see them, and answers 404 for a connection that another server has.

interface Message {
  type?: number;
  protocol?: string;
  target?: string;
  arguments?: unknown[];
  invocationId?: string;
}

interface Connection {
  id: string;
  /** Until a transport takes them. */
  waiting: string[];
  transport?: { name: Transport; deliver(): void; close(): void };
  streams: Set<string>;
  isEnded: boolean;
}

type Transport = 'WebSockets' | 'ServerSentEvents' | 'LongPolling';

export interface Hub extends ApiServer {
  connections: Map<string, Connection>;
  /** Calls a method of all clients. */
  broadcast(target: string, ...args: unknown[]): void;
  /** A hub's own goodbye. */
  close(error?: string, allowReconnect?: boolean): void;
}

/** `pollMs`: how long a poll waits for something to say; 90 s in ASP.NET Core. */
export async function startHub({ pollMs = 90_000 } = {}): Promise<Hub> {
  const connections = new Map<string, Connection>();

  const send = (connection: Connection, message: object) => {
    connection.waiting.push(`${JSON.stringify(message)}\x1e`);
    connection.transport?.deliver();
  };
  const end = (connection: Connection) => {
    connection.isEnded = true;
    connection.transport?.close();
    if (connection.transport?.name !== 'LongPolling') connections.delete(connection.id);
  };
  const receive = (connection: Connection, data: string) => {
    for (const record of data.split('\x1e').filter((one) => one !== '')) answer(connection, JSON.parse(record));
  };
  const answer = (connection: Connection, { type, protocol, target, arguments: args = [], invocationId }: Message) => {
    if (protocol !== undefined) return send(connection, {}); // the handshake; `{}` has no type
    if (type === 5) return void connection.streams.delete(invocationId ?? '');
    if (type === 7) return end(connection);
    if (type === 4 && target === 'count') return void count(connection, Number(args[0]), invocationId ?? '');
    if (type !== 1) return;
    if (target === 'say') hub.broadcast('said', ...args);
    if (invocationId === undefined) return;
    if (target === 'echo' || target === 'say') send(connection, { type: 3, invocationId, result: args[0] ?? null });
    else send(connection, { type: 3, invocationId, error: `An unexpected error occurred invoking '${target}'.` });
  };
  const count = async (connection: Connection, upTo: number, invocationId: string) => {
    connection.streams.add(invocationId);
    for (let item = 1; item <= upTo && connection.streams.has(invocationId); item++) {
      send(connection, { type: 2, invocationId, item });
      await new Promise(setImmediate);
    }
    if (connection.streams.delete(invocationId)) send(connection, { type: 3, invocationId });
  };

  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', 'http://hub');
    if (url.pathname === '/hub/negotiate' && request.method === 'POST') return negotiate(response);
    const connection = connections.get(url.searchParams.get('id') ?? '');
    if (connection === undefined) return response.writeHead(404).end('No Connection with that ID');
    if (request.method === 'POST') {
      receive(connection, await text(request));
      return response.end();
    }
    if (request.method === 'DELETE') {
      end(connection);
      return response.writeHead(202).end();
    }
    return request.headers.accept === 'text/event-stream' ? stream(connection, response) : poll(connection, response);
  };
  const negotiate = (response: ServerResponse) => {
    const [connectionId, id] = [randomUUID(), randomUUID()];
    connections.set(id, { id, waiting: [], streams: new Set(), isEnded: false });
    const availableTransports = ['WebSockets', 'ServerSentEvents', 'LongPolling'].map((transport) => ({
      transport,
      transferFormats: ['Text'],
    }));
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ negotiateVersion: 1, connectionId, connectionToken: id, availableTransports }));
  };
  const stream = (connection: Connection, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(':\r\n');
    connection.transport = {
      name: 'ServerSentEvents',
      deliver: () => void response.write(`data: ${connection.waiting.splice(0).join('')}\r\n\r\n`),
      close: () => void response.end(),
    };
    response.on('close', () => connections.delete(connection.id));
  };
  const poll = (connection: Connection, response: ServerResponse) => {
    const isFirst = connection.transport === undefined;
    const finish = () => {
      clearTimeout(timer);
      const isOver = connection.isEnded && connection.waiting.length === 0;
      if (isOver) connections.delete(connection.id);
      if (!response.writableEnded) response.writeHead(isOver ? 204 : 200).end(connection.waiting.splice(0).join(''));
      if (connection.transport !== undefined) connection.transport.deliver = () => undefined;
    };
    const timer = setTimeout(finish, pollMs);
    response.on('close', () => clearTimeout(timer));
    connection.transport = { name: 'LongPolling', deliver: finish, close: finish };
    if (isFirst || connection.waiting.length > 0 || connection.isEnded) finish();
  };
  const accept = (connection: Connection, socket: WebSocket) => {
    connection.transport = {
      name: 'WebSockets',
      deliver: () => socket.send(connection.waiting.splice(0).join('')),
      close: () => socket.close(1000),
    };
    socket.on('message', (data) => receive(connection, String(data)));
    socket.on('error', () => undefined);
    socket.on('close', () => connections.delete(connection.id));
  };

  const hub: Hub = {
    ...(await startApiServer((request, response) => void listener(request, response).catch(() => response.destroy()))),
    connections,
    broadcast(target, ...args) {
      for (const connection of connections.values()) send(connection, { type: 1, target, arguments: args });
    },
    close(error, allowReconnect = false) {
      for (const connection of connections.values()) {
        send(connection, { type: 7, ...(error === undefined ? {} : { error }), allowReconnect });
        end(connection);
      }
    },
  };
  const sockets = new WebSocketServer({ noServer: true });
  hub.server.on('upgrade', (request, socket, head) => {
    const connection = connections.get(new URL(request.url ?? '', 'http://hub').searchParams.get('id') ?? '');
    if (connection === undefined) return socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
    sockets.handleUpgrade(request, socket, head, (webSocket) => accept(connection, webSocket));
  });
  return hub;
}
