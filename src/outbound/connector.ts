import { request as requestTunnel } from 'node:http';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { buildConnector } from 'undici';
import { isOwnShortage, noteFailures } from './connect-failure.ts';
import {
  bracketed,
  type Destination,
  type ForwardProxies,
  type ForwardProxy,
  ForwardProxyError,
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
  /** A tunnel for plain http too: what a WebSocket needs. Else the proxy itself is spoken to (`absolute-form.ts`). */
  isTunnel?: boolean;
}

/** Opens connections for undici: HTTP/1.1, TLS verified with the far end itself, through a forward proxy where one leads there. */
export function createConnector({ timeout, proxies, isTunnel, ...rest }: ConnectorOptions): buildConnector.connector {
  const options = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  // Verified, whatever NODE_TLS_REJECT_UNAUTHORIZED says (S0).
  const always = { allowH2: false, timeout, rejectUnauthorized: true };
  const direct = buildConnector({ ...options, ...always });
  if (proxies === undefined || rest.socketPath !== undefined) return noteFailures(direct);
  const toProxy = buildConnector(always); // by the system's CAs
  return noteFailures((to, done) => {
    const proxy = proxyFor(proxies, to);
    if (proxy === undefined) return direct(to, done);
    toProxy(addressOf(proxy), (...[error, socket]) => {
      if (error !== null) return done(nameProxy(error), null);
      if (to.protocol === 'http:' && isTunnel !== true) return done(null, socket);
      openTunnel(proxy, socket, to, timeout, (...result) => {
        if (result[0] !== null || to.protocol !== 'https:') return done(...result);
        direct({ ...to, httpSocket: result[1] }, done);
      });
    });
  });
}

function addressOf({ isTls, hostname, port }: ForwardProxy): buildConnector.Options {
  return { protocol: isTls ? 'https:' : 'http:', hostname, host: `${bracketed(hostname)}:${port}`, port: String(port) };
}

/** Says that it was not the far end; what this process is short of is its own affair. */
function nameProxy(error: NodeJS.ErrnoException): Error {
  return isOwnShortage(error.code ?? '') ? error : new ForwardProxyError(error.code, error);
}

/** Asks for a connection to somebody else (CONNECT, RFC 9110 §9.3.6). */
function openTunnel(
  { authorization }: ForwardProxy,
  connection: Socket,
  to: Destination,
  timeout: number,
  done: buildConnector.Callback,
): void {
  const authority = `${bracketed(to.hostname)}:${portOf(to)}`;
  const request = requestTunnel({
    createConnection: () => connection,
    method: 'CONNECT',
    path: authority,
    headers: {
      host: authority,
      ...(authorization === undefined ? {} : { 'proxy-authorization': authorization.reveal() }),
    },
  });
  const timer = setTimeout(() => request.destroy(new ForwardProxyError('UND_ERR_CONNECT_TIMEOUT')), timeout);
  request.once('error', (error) => {
    clearTimeout(timer);
    done(error instanceof ForwardProxyError ? error : nameProxy(error), null);
  });
  request.once('connect', ({ statusCode = 0 }, socket: Socket, head: Buffer) => {
    clearTimeout(timer);
    if (statusCode < 200 || statusCode > 299) {
      socket.on('error', () => undefined).destroy();
      done(new ForwardProxyError(statusCode), null);
      return;
    }
    if (head.length > 0) socket.unshift(head);
    done(null, socket);
  });
  request.end();
}
