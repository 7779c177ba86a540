import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { NotSentError, sortFault } from '../exchange/fault.ts';
import {
  Internal,
  type Problem,
  problem,
  RequestMalformed,
  UpstreamTimeout,
  UpstreamUnavailable,
  WebSocketNotAccepted,
} from '../problems/errors.ts';
import type { Target } from '../upstream/target.ts';
import type { Upstream } from '../upstream/upstreams.ts';

export interface DialOptions {
  upstream: Upstream;
  /** Whose connections go to the same target (`Upstream.pick`). */
  affinity: string | undefined;
  /** Path and query, as matched. */
  path: string;
  /** Flat list of names and values. */
  headers: string[];
  /** What the browser offers, to choose one of. */
  protocols: string[];
  /** The browser's connection: while it waits, it may only wait or leave. */
  browser: Socket;
  /** Until the upstream's answer. Milliseconds. */
  timeoutMs: number;
  limits: FrameLimits;
}

/** What either side may make us keep in memory. The names are ws's. */
export interface FrameLimits {
  maxPayload: number;
  maxFragments: number;
  maxBufferedChunks: number;
  /** For the other side to answer a close frame; then its connection is cut. Milliseconds. */
  closeTimeout: number;
  /** Never: a small message could become a big one (T104). */
  perMessageDeflate: false;
}

export type Dialled =
  | { kind: 'open'; socket: WebSocket }
  /** An answer, but not 101, with its `WWW-Authenticate` lines. */
  | { kind: 'refused'; status: number; challenges: string[] | undefined }
  | { kind: 'left-by-browser' };

/**
 * Opens a WebSocket to an API: 101 goes to the browser only after the API said so itself. A target whose connection
 * fails has seen nothing of the handshake: another one gets it, once. Problems are thrown. The socket comes paused.
 */
export async function dial(options: DialOptions): Promise<Dialled> {
  const { upstream, affinity, browser } = options;
  const deadline = performance.now() + options.timeoutMs;
  const first = upstream.pick(affinity);
  if (first === undefined) throw problem(UpstreamUnavailable, { retryAfterSeconds: upstream.untilTrial() / 1000 });
  const attempt = async (target: Target): Promise<Dialled> => {
    const sinceMs = performance.now();
    const connection = await connect(target, sinceMs);
    return handshake(options, target, connection, sinceMs, deadline - performance.now());
  };
  try {
    return await attempt(first);
  } catch (error) {
    const { answer, isOfTarget } = sortFault(error);
    const isRepeatable = isOfTarget && error instanceof NotSentError && !browser.destroyed;
    const other = isRepeatable ? upstream.pick(affinity, first) : undefined;
    if (other === undefined) throw answer;
    return await attempt(other).catch((again: unknown) => {
      throw sortFault(again).answer;
    });
  }
}

async function connect(target: Target, sinceMs: number): Promise<Socket> {
  try {
    return await target.connect();
  } catch (cause) {
    const error = new NotSentError('not sent', { cause });
    if (sortFault(error).isOfTarget) target.failed(sinceMs, false);
    else target.abandoned(sinceMs);
    target.count('failed');
    throw error;
  }
}

/** The handshake with one target, and what the target is thought of after it. */
async function handshake(
  options: DialOptions,
  target: Target,
  connection: Socket,
  sinceMs: number,
  leftMs: number,
): Promise<Dialled> {
  try {
    const dialled = await new Promise<Dialled>((resolve, reject) => {
      converse(options, target.origin, connection, leftMs, resolve, reject);
    });
    if (dialled.kind === 'left-by-browser') target.abandoned(sinceMs);
    else target.answered(dialled.kind === 'open' ? 101 : dialled.status);
    target.count(dialled.kind === 'left-by-browser' ? 'left-by-browser' : 'complete');
    return dialled;
  } catch (error) {
    const { answer, isOfTarget } = sortFault(error);
    if (isOfTarget) target.failed(sinceMs, true);
    else target.abandoned(sinceMs);
    target.count('failed');
    connection.destroy();
    throw answer;
  }
}

function converse(
  options: DialOptions,
  origin: string,
  connection: Socket,
  leftMs: number,
  resolve: (dialled: Dialled) => void,
  reject: (error: unknown) => void,
): void {
  const { browser } = options;
  const socket = begin(options, origin, connection);
  const settle = (finish: () => void) => {
    clearTimeout(timer);
    browser.off('close', leave).off('end', leave).off('data', refuse);
    finish();
  };
  const giveUp = (finish: () => void) => {
    settle(finish);
    socket.terminate();
  };
  const fail = (error: Error | Problem) => giveUp(() => reject(error));
  const leave = () => giveUp(() => resolve({ kind: 'left-by-browser' }));
  // Nothing may follow a handshake before it was answered (RFC 6455 §4.1).
  const refuse = () => fail(problem(RequestMalformed));
  const timer = setTimeout(() => fail(problem(UpstreamTimeout)), Math.max(1, leftMs));
  browser.on('close', leave).on('end', leave).on('data', refuse);
  // A code is Node's and about the connection; without one it is ws, about an answer that is no handshake's. Also comes
  // after `giveUp`, where it changes nothing.
  socket.on('error', (error) =>
    settle(() => reject('code' in error ? error : problem(WebSocketNotAccepted, { cause: error }))),
  );
  socket.once('unexpected-response', (_request: ClientRequest, response: IncomingMessage) => {
    const { statusCode: status = 502, headersDistinct } = response;
    response.on('error', () => undefined);
    giveUp(() => resolve({ kind: 'refused', status, challenges: headersDistinct['www-authenticate'] }));
  });
  socket.once('open', () => {
    socket.pause(); // a message that comes at once must find somebody listening
    socket.removeAllListeners(); // what they hold on to, the token among it, is not kept for as long as the socket is open
    settle(() => resolve({ kind: 'open', socket }));
  });
  if (browser.destroyed) leave();
}

/** Sends the handshake. What can't be sent is our fault, whatever code Node has for it. */
function begin({ path, headers, protocols, limits }: DialOptions, origin: string, connection: Socket): WebSocket {
  try {
    return new WebSocket(origin.replace(/^http/, 'ws'), protocols, {
      ...limits,
      headers: byName(headers) as Record<string, string>, // several lines of a name are fine with Node
      createConnection: () => connection,
      maxHeaderSize: 32 * 1024,
      finishRequest(request: ClientRequest) {
        // As matched: ws would make a URL of it, and rewrite what is in it.
        request.path = path;
        request.end();
      },
    } as WebSocket.ClientOptions);
  } catch (cause) {
    throw problem(Internal, { cause });
  }
}

/** What http.request takes, out of a flat list. */
function byName(flat: string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (let index = 0; index < flat.length; index += 2) {
    const [name, value] = [flat[index] as string, flat[index + 1] as string];
    const earlier = headers[name];
    headers[name] = earlier === undefined ? value : [earlier, value].flat();
  }
  return headers;
}
