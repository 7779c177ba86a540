import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { limitedAs, peerAddress } from '../http/client-address.ts';

/**
 * Requests on one connection that have no answer yet. Browsers send one at a time, proxies too; whoever sends thousands
 * ahead has each of them cost as much as anybody's, all in one turn of the event loop (W13).
 */
const mostUnanswered = 32;

/** Why a connection was closed without an answer. */
export type ConnectionLimit = 'connections' | 'address' | 'pipelining';

export interface ConnectionOptions {
  /** In all. */
  most: number;
  /** From one address; no bound when absent. */
  mostPerAddress: number | undefined;
  /** Peers that bring many people's connections: the proxy in front. */
  isTrusted: (address: string) => boolean;
  count: (limit: ConnectionLimit) => void;
}

/** Bounds what connections cost, before anybody has read a request. */
export function boundConnections(server: Server, { most, mostPerAddress, isTrusted, count }: ConnectionOptions): void {
  server.maxConnections = most;
  server.on('drop', () => count('connections'));
  if (mostPerAddress !== undefined) boundAddresses(server, mostPerAddress, isTrusted, () => count('address'));
  boundPipelining(server, () => count('pipelining'));
}

function boundAddresses(
  server: Server,
  most: number,
  isTrusted: (address: string) => boolean,
  onRefused: () => void,
): void {
  const open = new Map<string, number>();
  server.prependListener('connection', (socket: Socket) => {
    const peer = peerAddress(socket);
    if (peer === undefined || isTrusted(peer)) return;
    const address = limitedAs(peer);
    const before = open.get(address) ?? 0;
    if (before >= most) {
      onRefused();
      socket.destroy();
      return;
    }
    open.set(address, before + 1);
    socket.once('close', () => {
      const left = (open.get(address) ?? 1) - 1;
      if (left === 0) open.delete(address);
      else open.set(address, left);
    });
  });
}

function boundPipelining(server: Server, onRefused: () => void): void {
  const [handle] = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');
  const waiting = new WeakMap<Socket, number>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    // Node gives the connection to one answer at a time: this one waits behind another. All others pass at once.
    if (response.socket === null && !mayWait(request.socket, response)) return;
    handle?.(request, response);
  });

  function mayWait(socket: Socket, response: ServerResponse): boolean {
    if (socket.destroyed) return false;
    const before = waiting.get(socket) ?? 0;
    if (before + 1 >= mostUnanswered) {
      onRefused();
      cutOff(socket);
      return false;
    }
    waiting.set(socket, before + 1);
    response.once('close', () => waiting.set(socket, (waiting.get(socket) ?? 1) - 1));
    return true;
  }
}

/**
 * Browsers open connections ahead and send nothing on them yet. Node does not count those as idle: a drain would wait.
 * Returns what closes them; with TLS, also those that are shaking hands, and those that do so afterwards.
 */
export function followUnused(server: Server): () => void {
  let isClosing = false;
  const sockets = new Set<Socket>();
  const follow = (socket: Socket) => {
    if (isClosing) return void socket.destroy();
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };
  server.on('connection', follow);
  // Its bytes are those of requests; those of the connection below are the handshake's.
  server.on('secureConnection', (socket: TLSSocket) => follow(socket));
  return () => {
    isClosing = true;
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  };
}

/** Destroys a connection in the midst of its requests. */
function cutOff(socket: Socket): void {
  // Node's parser would go on to the end of what it was given: 64 KiB are 2,400 requests, and 100 ms. Told that the
  // protocol changes here, it stops.
  const { parser } = socket as Socket & { parser?: { onIncoming?: () => number } | null };
  if (parser) parser.onIncoming = () => 2;
  socket.destroy();
}
