import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { buildConnector } from 'undici';
import { isOwnShortage, noteFailures } from './connect-failure.ts';
import {
  bracketed,
  type Destination,
  type ForwardProxies,
  type ForwardProxy,
  portOf,
  proxyFor,
} from './forward-proxy.ts';

export interface ConnectorOptions {
  /** Milliseconds for a connection; as long again for each of TLS and a tunnel. */
  timeout: number;
  /** PEM; the system's CAs when absent. */
  ca?: string | undefined;
  /** Instead of `ca`, for many connections. */
  secureContext?: SecureContext | undefined;
  /** A unix socket, wherever the request is for. */
  socketPath?: string | undefined;
  /** Without them the way is direct. */
  proxies?: ForwardProxies | undefined;
}

/** Opens connections for undici: HTTP/1.1, TLS verified with the far end itself, through a forward proxy where one leads there. */
export function createConnector({ timeout, proxies, ...rest }: ConnectorOptions): buildConnector.connector {
  const options = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  // Verified, whatever NODE_TLS_REJECT_UNAUTHORIZED says (S0).
  const direct = buildConnector({ ...options, allowH2: false, timeout, rejectUnauthorized: true });
  if (proxies === undefined || rest.socketPath !== undefined) return noteFailures(direct);
  return noteFailures((to, done) => {
    const proxy = proxyFor(proxies, to);
    if (proxy === undefined) return direct(to, done);
    openTunnel(proxy, to, timeout, (...result) => {
      if (result[0] !== null || to.protocol !== 'https:') return done(...result);
      direct({ ...to, httpSocket: result[1] }, done);
    });
  });
}

/** The forward proxy did not let us through. Its code is `FORWARD_PROXY_` and a status, or the code of what went wrong. */
class ForwardProxyError extends Error {
  override readonly name = 'ForwardProxyError';
  readonly code: string;
  constructor(what: string | number | undefined, cause?: unknown) {
    super(`the forward proxy: ${what ?? 'failed'}`, { cause });
    this.code = `FORWARD_PROXY_${what ?? 'FAILED'}`;
  }
}

/** Asks for a tunnel (CONNECT); for plain http as well, so that one way does for calls, health checks and WebSockets. */
function openTunnel(proxy: ForwardProxy, to: Destination, timeout: number, done: buildConnector.Callback): void {
  const authority = `${bracketed(to.hostname)}:${portOf(to)}`;
  const { isTls, hostname, port, authorization } = proxy;
  const request = (isTls ? requestTls : requestPlain)({
    agent: false,
    host: hostname,
    port,
    method: 'CONNECT',
    path: authority,
    headers: {
      host: authority,
      ...(authorization === undefined ? {} : { 'proxy-authorization': authorization.reveal() }),
    },
    ...(isTls ? { rejectUnauthorized: true } : {}),
  });
  const timer = setTimeout(() => request.destroy(new ForwardProxyError('UND_ERR_CONNECT_TIMEOUT')), timeout);
  request.once('error', (error: NodeJS.ErrnoException) => {
    clearTimeout(timer);
    const isNamed = error instanceof ForwardProxyError || isOwnShortage(error.code ?? '');
    done(isNamed ? error : new ForwardProxyError(error.code, error), null);
  });
  request.once('connect', ({ statusCode = 0 }, socket: Socket, head: Buffer) => {
    clearTimeout(timer);
    if (statusCode < 200 || statusCode > 299) {
      socket.on('error', () => undefined).destroy();
      done(new ForwardProxyError(statusCode), null);
      return;
    }
    if (head.length > 0) socket.unshift(head);
    done(null, socket.setNoDelay(true).setKeepAlive(true, 60_000));
  });
  request.end();
}
