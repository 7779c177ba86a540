import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type HeaderLine, headerValues, parseResponses, type RawResponse } from './raw-response.ts';

export interface OpenOptions {
  /** Address to connect to; 127.0.0.1. */
  host?: string;
  /** Address to come from: another one of loopback is another peer to Cloakroom. */
  localAddress?: string;
  /** Trust this authority and speak TLS. */
  tls?: { ca: string; servername?: string };
}

export interface RawRequestOptions extends OpenOptions {
  /** How long to wait for the answer; 5000. What arrived until then is the result. */
  timeoutMs?: number;
  /** Leave the connection open after the answer; it is in `connection`, for the next request. */
  keepOpen?: boolean;
  /** Do not stop at the first answer, wait until the peer closes (or for `timeoutMs`). */
  untilClose?: boolean;
}

/** A plain socket for tests that must choose every byte and every pause. Bytes are latin1 unless given as a Buffer. */
export interface RawConnection {
  socket: Socket;
  /** Resolves when the bytes are handed to the system. */
  write(data: string | Buffer): Promise<void>;
  /** Everything received so far, latin1. */
  text(): string;
  bytes(): Buffer;
  /** The responses received so far, interim ones included. */
  responses(): RawResponse[];
  /** Waits until the predicate holds for the received text. Throws after the timeout, or when the peer closed. */
  readUntil(predicate: (text: string) => boolean, timeoutMs?: number): Promise<string>;
  /** Waits for the n-th final response of this connection (counted from 1). */
  response(count?: number, timeoutMs?: number): Promise<RawResponse>;
  /** Waits until the peer closed (FIN or reset); false after the timeout. */
  peerClosed(timeoutMs?: number): Promise<boolean>;
  /** True once the peer sent FIN or a reset. */
  closed(): boolean;
  /** Sends FIN and keeps reading. */
  end(): void;
  /** Drops the connection. */
  close(): void;
}

export interface RawResult {
  /** Everything received, latin1. */
  text: string;
  /** Of the first final response; 0 when there was none. */
  status: number;
  headers: HeaderLine[];
  /** Body of the first final response, without chunked framing, as UTF-8. */
  body: string;
  /** True when the peer closed the connection by itself. */
  closed: boolean;
  /** Every response that arrived: more than requests sent means smuggling. */
  responses: RawResponse[];
  /** With `keepOpen`. */
  connection?: RawConnection;
}

/** Sends exactly these bytes (an array in separate writes) and returns what came back. */
export async function rawRequest(
  port: number,
  data: string | Buffer | (string | Buffer)[],
  { timeoutMs = 5000, keepOpen = false, untilClose = false, ...target }: RawRequestOptions = {},
): Promise<RawResult> {
  const connection = await openRaw(port, target);
  try {
    for (const part of Array.isArray(data) ? data : [data]) await connection.write(part).catch(() => {});
    const first = untilClose ? undefined : await connection.response(1, timeoutMs).catch(() => undefined);
    const announced = first !== undefined && /close/i.test(headerValues(first.headers, 'connection').join());
    let closed = connection.closed();
    if (untilClose || announced) closed = await connection.peerClosed(timeoutMs);
    else if (first !== undefined && !keepOpen && !closed) {
      // Our FIN makes the peer finish: answers to smuggled requests would still come.
      connection.end();
      await connection.peerClosed(timeoutMs);
    }
    const responses = connection.responses();
    const final = responses.find(isFinal);
    return {
      text: connection.text(),
      status: final?.status ?? 0,
      headers: final?.headers ?? [],
      body: final?.body ?? '',
      closed,
      responses,
      ...(keepOpen ? { connection } : {}),
    };
  } finally {
    if (!keepOpen) connection.close();
  }
}

/** Opens a connection and sends nothing. */
export async function openRaw(
  port: number,
  { host = '127.0.0.1', localAddress, tls }: OpenOptions = {},
): Promise<RawConnection> {
  const socket = tls
    ? connectTls({ port, host, ca: tls.ca, servername: tls.servername ?? 'localhost', ALPNProtocols: ['http/1.1'] })
    : connectTcp({ port, host, allowHalfOpen: true, ...(localAddress === undefined ? {} : { localAddress }) });
  await new Promise<void>((resolve, reject) => {
    socket.once(tls ? 'secureConnect' : 'connect', resolve);
    socket.once('error', reject);
  });
  socket.setNoDelay(true);
  return wrap(socket);
}

function wrap(socket: Socket): RawConnection {
  const received: Buffer[] = [];
  const methods: string[] = [];
  const waiters = new Set<() => void>();
  let ended = false;
  const notify = () => {
    for (const waiter of [...waiters]) waiter();
  };
  const markEnded = () => {
    ended = true;
    notify();
  };
  socket.on('data', (chunk: Buffer) => {
    received.push(chunk);
    notify();
  });
  for (const event of ['end', 'close', 'error']) socket.on(event, markEnded);

  /** Resolves with the first defined value; undefined after the timeout or once nothing more can come. */
  function wait<T>(look: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => finish(undefined), timeoutMs);
      const finish = (value: T | undefined) => {
        clearTimeout(timer);
        waiters.delete(check);
        resolve(value);
      };
      const check = () => {
        const value = look();
        if (value !== undefined || ended) finish(value);
      };
      waiters.add(check);
      check();
    });
  }

  const bytes = () => {
    const all = Buffer.concat(received);
    received.splice(0, received.length, all);
    return all;
  };
  const text = () => bytes().toString('latin1');
  const responses = () => parseResponses(bytes(), { closed: ended, methods });
  const describe = () => `${ended ? 'the peer closed' : 'timeout'}; received: ${JSON.stringify(text().slice(0, 500))}`;
  return {
    socket,
    write(data) {
      const method = /^([A-Z]+) /.exec(data.toString('latin1', 0, 20))?.[1];
      if (method !== undefined) methods.push(method);
      return new Promise((resolve, reject) => {
        socket.write(typeof data === 'string' ? Buffer.from(data, 'latin1') : data, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    },
    text,
    bytes,
    responses,
    async readUntil(predicate, timeoutMs = 5000) {
      const found = await wait(() => (predicate(text()) ? text() : undefined), timeoutMs);
      if (found === undefined) throw new Error(describe());
      return found;
    },
    async response(count = 1, timeoutMs = 5000) {
      const nth = () => responses().filter(isFinal)[count - 1];
      const found = await wait(() => (nth()?.complete ? nth() : undefined), timeoutMs);
      if (found === undefined) throw new Error(`no response ${count}: ${describe()}`);
      return found;
    },
    peerClosed: async (timeoutMs = 5000) => (await wait(() => (ended ? true : undefined), timeoutMs)) === true,
    closed: () => ended,
    end: () => void socket.end(),
    close: () => void socket.destroy(),
  };
}

function isFinal(response: RawResponse): boolean {
  return response.status >= 200 || response.status === 101;
}
