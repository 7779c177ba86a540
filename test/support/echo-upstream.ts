import { createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { echo, type Reply, type Respond, reply } from './echo-upstream/answers.ts';
import { type EchoRequest, readRequests } from './echo-upstream/request-reader.ts';

export interface EchoUpstreamOptions {
  /** Speak TLS with this key and certificate (and `minVersion`, `requestCert`, ...). */
  tls?: TlsOptions;
  /** A fixed port, to come back where a stopped upstream was. */
  port?: number;
  /** 127.0.0.1 */
  host?: string;
  /** A unix socket instead of a port. */
  socketPath?: string;
}

/** An HTTP/1.1 upstream over bare sockets: it hides nothing of what arrived and can answer any bytes. */
export interface EchoUpstream {
  port: number;
  /** `http://127.0.0.1:port`, `https://localhost:port` with TLS, or `unix:` and a path. */
  url: string;
  /** Every request whose head arrived, in order. */
  requests: EchoRequest[];
  /** Connections that sent something that is not HTTP: a framing bug in front of us. */
  malformed: { reason: string; bytes: Buffer; connection: number }[];
  /** Writes each answer; assign your own or use `respondWith`. Default: `echo`. */
  respond: Respond;
  respondWith(answer: Reply): void;
  /** When `respond` runs: once the whole body arrived (`body`), or as soon as the head did. */
  respondOn: 'head' | 'body';
  /** Open connections now. */
  readonly connections: number;
  /** Connections accepted since the start (or `reset`). */
  readonly accepted: number;
  /** Requests that arrived and are not yet answered or given up. */
  readonly active: number;
  /** TLS handshakes that failed. */
  readonly failedHandshakes: number;
  /** Forgets requests and goes back to the default answer. */
  reset(): void;
  /** Drops all open connections. */
  cut(): void;
  stop(): Promise<void>;
}

export async function startEchoUpstream({
  tls,
  port = 0,
  host = '127.0.0.1',
  socketPath,
}: EchoUpstreamOptions = {}): Promise<EchoUpstream> {
  const sockets = new Set<Socket>();
  const active = new Set<EchoRequest>();
  let accepted = 0;
  let failedHandshakes = 0;

  function accept(socket: Socket): void {
    const connection = ++accepted;
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    const queue: EchoRequest[] = [];
    const answer = answerInTurn(socket, queue);
    socket.on('close', () => {
      sockets.delete(socket);
      for (const request of queue) {
        request.aborted = !request.answered;
        active.delete(request);
      }
    });
    readRequests(socket, connection, {
      head(request) {
        upstream.requests.push(request);
        active.add(request);
        queue.push(request);
        if (/100-continue/i.test(request.header('expect') ?? '')) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
        if (upstream.respondOn === 'head') answer(request);
      },
      complete(request) {
        if (upstream.respondOn === 'body') answer(request);
      },
      malformed(reason, bytes) {
        upstream.malformed.push({ reason, bytes, connection });
        socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      },
    });
  }

  /** Pipelined requests are answered one after the other. */
  function answerInTurn(socket: Socket, queue: EchoRequest[]): (request: EchoRequest) => void {
    let turn = Promise.resolve();
    return (request) => {
      turn = turn.then(async () => {
        if (socket.destroyed) return;
        await upstream.respond(request, socket);
        request.answered = !request.aborted;
        active.delete(request);
        queue.splice(queue.indexOf(request), 1);
        if (/close/i.test(request.header('connection') ?? '')) socket.end();
      });
      turn.catch((error: unknown) => {
        socket.destroy();
        queueMicrotask(() => {
          throw error;
        });
      });
    };
  }

  const server: Server = tls
    ? createTlsServer({ ...tls, ALPNProtocols: ['http/1.1'] }, accept).on('tlsClientError', () => failedHandshakes++)
    : createTcpServer({ noDelay: true }, accept);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if (socketPath === undefined) server.listen(port, host, resolve);
    else server.listen(socketPath, resolve);
  });
  const address = server.address();
  const listensOn = typeof address === 'object' && address !== null ? address.port : 0;

  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const upstream: EchoUpstream = {
    port: listensOn,
    url:
      socketPath === undefined ? `${tls ? 'https://localhost' : `http://${host}`}:${listensOn}` : `unix:${socketPath}`,
    requests: [],
    malformed: [],
    respond: echo,
    respondWith(answer) {
      upstream.respond = reply(answer);
    },
    respondOn: 'body',
    get connections() {
      return sockets.size;
    },
    get accepted() {
      return accepted;
    },
    get active() {
      return active.size;
    },
    get failedHandshakes() {
      return failedHandshakes;
    },
    reset() {
      upstream.requests.length = 0;
      upstream.malformed.length = 0;
      upstream.respond = echo;
      upstream.respondOn = 'body';
    },
    cut,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      cut();
      await closed;
    },
  };
  return upstream;
}
