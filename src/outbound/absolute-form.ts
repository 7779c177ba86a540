import type { Dispatcher } from 'undici';
import { noteFailure } from './connect-failure.ts';
import { type ForwardProxies, ForwardProxyError, proxyFor } from './forward-proxy.ts';

/**
 * Lets a dispatcher make of a request for plain http what a forward proxy wants (RFC 9112 §3.2.2): many of them give
 * tunnels to port 443 alone. Its connector must have the same proxies; without them it stays as it is, and as fast.
 */
export function withAbsoluteForm<D extends Dispatcher>(
  dispatcher: D,
  proxies: ForwardProxies | undefined,
): D | Dispatcher.ComposedDispatcher {
  if (proxies?.http === undefined) return dispatcher;
  return dispatcher.compose((dispatch) => (options, handler) => {
    const { origin, protocol, hostname, port } = new URL(String(options.origin));
    const to = { protocol, hostname: hostname.replace(/^\[(.*)\]$/, '$1'), port };
    const proxy = protocol === 'http:' ? proxyFor(proxies, to) : undefined;
    if (proxy === undefined) return dispatch(options, handler);
    const { authorization } = proxy;
    const own = authorization === undefined ? [] : ['proxy-authorization', authorization.reveal()];
    const headers = [...flat(options.headers), ...own];
    return dispatch({ ...options, path: `${origin}${options.path}`, headers }, refusing(handler));
  });
}

function flat(headers: Dispatcher.DispatchOptions['headers']): string[] {
  if (Array.isArray(headers)) return headers;
  return Object.entries(headers ?? {}).flatMap(([name, value]) => [value].flat().flatMap((one) => [name, String(one)]));
}

/** What the proxy says of our credentials is no answer of the far end. */
function refusing(
  handler: Dispatcher.DispatchHandler & { connection?: unknown },
): Dispatcher.DispatchHandler & { connection?: unknown } {
  return {
    set connection(connection: unknown) {
      handler.connection = connection; // what carries it (`upstream/connection.ts`)
    },
    onResponseStarted: () => handler.onResponseStarted?.(),
    onRequestStart: (...args) => handler.onRequestStart?.(...args),
    onRequestUpgrade: (...args) => handler.onRequestUpgrade?.(...args),
    onResponseStart(controller, status, ...rest) {
      if (status === 407) throw noteFailure(new ForwardProxyError(status));
      handler.onResponseStart?.(controller, status, ...rest);
    },
    onResponseData: (...args) => handler.onResponseData?.(...args),
    onResponseEnd: (...args) => handler.onResponseEnd?.(...args),
    onResponseError: (...args) => handler.onResponseError?.(...args),
  };
}
