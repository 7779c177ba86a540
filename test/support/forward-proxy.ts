import { createServer, type IncomingMessage, request as send } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { KeyAndCertificate } from './certificates.ts';

export interface ForwardProxyOptions {
  /** `user:password`, as they are before they stand in a URL; anybody may connect when absent. */
  credentials?: string;
  /** Speaks TLS to its clients. */
  tls?: KeyAndCertificate;
}

/** A forward proxy over sockets that alone knows where names of `*.behind.example` are: tunnels, and plain http in the absolute form. */
export interface ForwardProxy {
  port: number;
  /** `http://127.0.0.1:port`, or `https://localhost:port`; without credentials. */
  url: string;
  /** What was asked for, `host:port`, in order, by CONNECT or not; refused or not. */
  asked: string[];
  /** Everything that clients sent once a tunnel was there. */
  sent(): string;
  /** Refuses with this status; `hang` takes the request and never answers. */
  refuse: number | 'hang' | undefined;
  stop(): Promise<void>;
}

export async function startForwardProxy({ credentials, tls }: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const open = new Set<Socket>();
  const sent: Buffer[] = [];
  const server = tls ? createTlsServer({ ...tls }) : createServer();
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => undefined).on('close', () => open.delete(socket));
  });
  /** Undefined: it may pass. */
  const refusalOf = (request: IncomingMessage, place: string): number | 'hang' | undefined => {
    proxy.asked.push(place);
    const wanted = credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`;
    return proxy.refuse ?? (request.headers['proxy-authorization'] === wanted ? undefined : 407);
  };
  // Plain http in the absolute form, which the far end gets as any other request.
  server.on('request', (request, response) => {
    if (!/^http:/.test(request.url ?? '')) return response.writeHead(400).end();
    const { host, port, pathname, search } = new URL(request.url ?? '');
    const refusal = refusalOf(request, host);
    if (refusal === 'hang') return;
    if (refusal !== undefined) return response.writeHead(refusal).end();
    const { 'proxy-authorization': _own, ...headers } = request.headers;
    const path = `${pathname}${search}`;
    const forwarded = send({ host: '127.0.0.1', port, path, method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    request.pipe(forwarded);
  });
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    client.on('error', () => undefined);
    const refusal = refusalOf(request, request.url ?? '');
    if (refusal === 'hang') return;
    if (refusal !== undefined) {
      client.end(`HTTP/1.1 ${refusal} No\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const peer = connect(Number(new URL(`http://${request.url}`).port), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      client.on('data', (chunk: Buffer) => sent.push(chunk));
      client.pipe(peer).pipe(client);
    });
    open.add(peer);
    peer.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.on('close', () => peer.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const proxy: ForwardProxy = {
    port: address.port,
    url: `${tls ? 'https://localhost' : 'http://127.0.0.1'}:${address.port}`,
    asked: [],
    sent: () => Buffer.concat(sent).toString('latin1'),
    refuse: undefined,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
  return proxy;
}
