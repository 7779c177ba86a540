import { connect as connectTcp } from 'node:net';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { isLoopback } from './sites.ts';

/**
 * Where hosts really are: origin (`https://app.example.com`), host with port or host name to an address such as
 * `127.0.0.1:8080` (same protocol) or `http://127.0.0.1:8080` (plain TCP behind an https origin: the TLS terminator
 * in front is left out).
 */
export type Resolve = Record<string, string>;

export interface Network {
  dispatcher: Dispatcher;
  /** Loopback names and mapped hosts; nothing else is ever connected to. */
  canReach(url: string): boolean;
  close(): Promise<void>;
}

export function createNetwork(resolve: Resolve, ca: string | undefined): Network {
  const lookUp = (url: URL) => resolve[url.origin] ?? resolve[url.host] ?? resolve[url.hostname];
  const connectSecurely = buildConnector({ ...(ca === undefined ? {} : { ca }), allowH2: false });
  const dispatcher = new Agent({
    connect(options, callback) {
      const url = new URL(`${options.protocol}//${options.host ?? options.hostname}`);
      const defaultPort = url.protocol === 'https:' ? '443' : '80';
      const target = new URL(withProtocol(lookUp(url) ?? `127.0.0.1:${url.port || defaultPort}`, url.protocol));
      if (target.protocol === 'https:') {
        connectSecurely({ ...options, hostname: target.hostname, port: target.port || defaultPort }, callback);
        return;
      }
      const socket = connectTcp(Number(target.port || 80), target.hostname);
      socket.setNoDelay(true);
      const fail = (error: Error) => callback(error, null);
      socket.once('error', fail);
      socket.once('connect', () => {
        socket.off('error', fail);
        callback(null, socket);
      });
    },
  });
  return {
    dispatcher,
    canReach: (url) => isLoopback(new URL(url).hostname) || lookUp(new URL(url)) !== undefined,
    close: () => dispatcher.destroy(),
  };
}

function withProtocol(address: string, protocol: string): string {
  return address.includes('://') ? address : `${protocol}//${address}`;
}
