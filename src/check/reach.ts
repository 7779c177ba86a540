import { lookup } from 'node:dns/promises';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { type SecureContext, TLSSocket } from 'node:tls';
import { createConnector } from '../outbound/connector.ts';
import { bracketed, type ForwardProxies, portOf, proxyFor } from '../outbound/forward-proxy.ts';
import { causeOf } from './causes.ts';
import type { Report } from './finding.ts';

export interface ReachOptions {
  key: string;
  /** `unix:/path`, or a URL of which only the origin counts. */
  target: string;
  /** PEM. */
  ca?: string | undefined;
  secureContext?: SecureContext | undefined;
  proxies?: ForwardProxies | undefined;
  /** Milliseconds; as long for each of name, connection and TLS. */
  timeout: number;
  report: Report;
}

/** A certificate that ends sooner than this is warned of. Milliseconds. */
const soonMs = 14 * 86_400_000;
/** How long a server may take to say that it wants a certificate: with TLS 1.3 it does so after the handshake. */
const refusalMs = 150;

/** Opens a connection and says how that went; sends no request. True: it was there. */
export async function checkReach(options: ReachOptions): Promise<boolean> {
  const { key, target, proxies, timeout, report } = options;
  const socketPath = target.startsWith('unix:') ? target.slice('unix:'.length) : undefined;
  const { protocol, hostname: written, port } = new URL(socketPath === undefined ? target : 'http://localhost');
  const hostname = written.replace(/^\[(.*)\]$/, '$1');
  const to = { protocol, hostname, port };
  const proxy = proxies === undefined || socketPath !== undefined ? undefined : proxyFor(proxies, to);
  const place = socketPath === undefined ? `${bracketed(hostname)}:${portOf(to)}` : target;
  const through = proxy === undefined ? '' : ` through the forward proxy ${bracketed(proxy.hostname)}:${proxy.port}`;
  const fail = (code: string) => {
    const { says, cure } = causeOf(code);
    report({ status: 'FAIL', key, says: `${place} is not reached${through}: ${says}`, cure });
    return false;
  };
  if (proxy === undefined && socketPath === undefined) {
    // By itself, because a resolver may take longer than any connection.
    const code = await within(timeout, lookup(hostname)).then(() => undefined, codeOf);
    if (code !== undefined) return fail(code === 'timeout' ? 'EAI_TIMEOUT' : code);
  }
  let socket: Socket;
  try {
    socket = await connect(options, to, socketPath);
  } catch (error) {
    return fail(codeOf(error));
  }
  try {
    if (!(socket instanceof TLSSocket)) {
      // A proxy is asked for plain http itself, and nothing is asked here.
      const what =
        proxy === undefined ? place : `the forward proxy ${bracketed(proxy.hostname)}:${proxy.port} for ${place}`;
      report({ status: 'ok', key, says: `${what} is reached` });
      return true;
    }
    const refusal = await refusalOf(socket);
    if (refusal !== undefined) return fail(refusal);
    const { valid_to: until } = socket.getPeerCertificate();
    const endsSoon = Date.parse(until) - Date.now() < soonMs;
    const says = `${place} is reached${through}, with TLS, its certificate is good until ${new Date(until).toISOString().slice(0, 10)}`;
    if (endsSoon) report({ status: 'warn', key, says, cure: 'have it renewed' });
    else report({ status: 'ok', key, says });
    return true;
  } finally {
    socket.on('error', () => undefined).destroy();
  }
}

function connect(
  { ca, secureContext, proxies, timeout }: ReachOptions,
  to: { protocol: string; hostname: string; port: string },
  socketPath: string | undefined,
): Promise<Socket> {
  const connector = createConnector({ timeout, ca, secureContext, socketPath, proxies });
  return new Promise((resolve, reject) => {
    connector({ ...to, host: bracketed(to.hostname) }, (...[error, socket]) => {
      if (error === null) resolve(socket);
      else reject(error);
    });
  });
}

/** The code of what comes instead of silence after the handshake. */
async function refusalOf(socket: Socket): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  socket.once('error', (error) => resolve(codeOf(error)));
  socket.once('close', () => resolve('connection closed'));
  socket.resume();
  return Promise.race([promise, pause(refusalMs, undefined)]);
}

/** Rejects with the code `timeout` when it takes longer. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(Object.assign(new Error('timeout'), { code: 'timeout' })), ms);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
