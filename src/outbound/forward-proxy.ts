import { isIP, isIPv6 } from 'node:net';
import { addressRange, buildRangeCheck } from '../config/schema/address-range.ts';
import { isLoopbackHost } from '../config/schema/values.ts';
import { Secret } from '../crypto/secret.ts';

/** A proxy that reaches others for us, because nothing else leads out of the network. */
export interface ForwardProxy {
  isTls: boolean;
  /** IPv6 without brackets. */
  hostname: string;
  port: number;
  /** The value of `Proxy-Authorization`. */
  authorization?: Secret;
}

/** What the environment says about ways out. */
export interface ForwardProxies {
  /** For plain http. */
  http?: ForwardProxy;
  https?: ForwardProxy;
  /** Targets that are reached directly. */
  exceptions: Exception[];
}

interface Exception {
  /** Lower case, IPv6 without brackets. */
  matches(hostname: string): boolean;
  /** Any when absent. */
  port?: number;
}

/** Where a connection shall lead; as undici's connectors say it. */
export interface Destination {
  protocol: string;
  /** IPv6 without brackets. */
  hostname: string;
  /** Empty: the protocol's own. */
  port: string;
}

/**
 * Reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; in lower case they win, as with curl. Faults name the variable and
 * show no value, because that may have a password in it.
 */
export function readForwardProxies(env: NodeJS.ProcessEnv): { proxies: ForwardProxies; faults: string[] } {
  const faults: string[] = [];
  const read = (...names: string[]): ForwardProxy | undefined => {
    const name = names.find((one) => env[one] !== undefined);
    const text = name === undefined ? '' : (env[name] ?? '').trim();
    if (text === '') return undefined;
    const proxy = readProxy(text);
    if (proxy === undefined)
      faults.push(
        `the environment variable ${name} is not the URL of a forward proxy: write it like http://proxy.example.com:3128, with special characters of a password percent-encoded (its value is not shown, as it may have one)`,
      );
    return proxy;
  };
  const http = read('http_proxy', 'HTTP_PROXY');
  const https = read('https_proxy', 'HTTPS_PROXY');
  const exceptions = (env.no_proxy ?? env.NO_PROXY ?? '').split(/[,\s]+/).flatMap(readException);
  return {
    proxies: { ...(http === undefined ? {} : { http }), ...(https === undefined ? {} : { https }), exceptions },
    faults,
  };
}

/** The forward proxy did not let us through. Its code is `FORWARD_PROXY_` and a status, or the code of what went wrong. */
export class ForwardProxyError extends Error {
  override readonly name = 'ForwardProxyError';
  readonly code: string;
  constructor(what: string | number = 'FAILED', cause?: unknown) {
    super(`the forward proxy: ${what}`, { cause });
    this.code = `FORWARD_PROXY_${what}`;
  }
}

/** The proxy that leads there; undefined: the direct way. */
export function proxyFor(proxies: ForwardProxies, { protocol, hostname, port }: Destination): ForwardProxy | undefined {
  const proxy = protocol === 'https:' ? proxies.https : proxies.http;
  if (proxy === undefined) return undefined;
  // Loopback is this machine, and another one for a proxy elsewhere; http, secrets and all, may be spoken there alone.
  if (isLoopback(hostname) && !isLoopback(proxy.hostname)) return undefined;
  const name = hostname.toLowerCase().replace(/\.$/, '');
  const number = portOf({ protocol, port });
  const isExempt = proxies.exceptions.some((one) => (one.port ?? number) === number && one.matches(name));
  return isExempt ? undefined : proxy;
}

export function portOf({ protocol, port }: Pick<Destination, 'protocol' | 'port'>): number {
  return Number(port) || (protocol === 'https:' ? 443 : 80);
}

/** As in URLs. */
export function bracketed(hostname: string): string {
  return isIPv6(hostname) ? `[${hostname}]` : hostname;
}

function isLoopback(hostname: string): boolean {
  return isLoopbackHost(bracketed(hostname));
}

function readProxy(text: string): ForwardProxy | undefined {
  // `proxy:3128` is how many write it, and curl takes it.
  const withScheme = text.includes('://') ? text : `http://${text}`;
  if (!/^https?:\/\//i.test(withScheme) || !URL.canParse(withScheme)) return undefined;
  const { protocol, hostname, port, username, password } = new URL(withScheme);
  const isTls = protocol === 'https:';
  const where = { isTls, hostname: hostname.replace(/^\[(.*)\]$/, '$1'), port: portOf({ protocol, port }) };
  if (username === '' && password === '') return where;
  try {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return { ...where, authorization: new Secret(`Basic ${Buffer.from(credentials).toString('base64')}`) };
  } catch {
    return undefined; // a bare percent sign, or no UTF-8
  }
}

/** `*`, a name with all below it, `.name` (the same), `*.name` (only what is below), an address or a range; with a port. */
function readException(text: string): Exception[] {
  const [, v6, port = v6 === undefined ? undefined : ''] = /^\[(.+)\](?::(\d+))?$/.exec(text) ?? [];
  if (v6 !== undefined) return isIPv6(v6) ? [exception(buildRangeCheck([v6]), port, true)] : [];
  if (addressRange.safeParse(text).success) return [exception(buildRangeCheck([text]), undefined, true)];
  const [, name = '', ownPort] = /^(.+?)(?::(\d+))?$/.exec(text.toLowerCase()) ?? [];
  if (isIP(name) !== 0) return [exception(buildRangeCheck([name]), ownPort, true)];
  if (name === '*') return [exception(() => true, ownPort)];
  const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '');
  if (suffix === '') return [];
  const isBelowOnly = name.startsWith('*');
  return [exception((host) => host.endsWith(`.${suffix}`) || (host === suffix && !isBelowOnly), ownPort)];
}

function exception(
  matches: (hostname: string) => boolean,
  port: string | undefined,
  isForAddresses = false,
): Exception {
  return {
    matches: (hostname) => (!isForAddresses || isIP(hostname) !== 0) && matches(hostname),
    ...(port === undefined || port === '' ? {} : { port: Number(port) }),
  };
}
