import { BlockList, isIP, isIPv6 } from 'node:net';
import type { CrossProblem } from './document.ts';
import { buildRangeCheck } from './schema/address-range.ts';
import { type ApiConfig, api } from './schema/api.ts';
import type { ConfigInput, ForwardAuthConfig, FrontendInput } from './schema/schema.ts';
import { isLoopbackHost } from './schema/values.ts';

/** Loopback, private and link-local networks: nobody on the Internet has such an address (RFC 6890). */
const inside = new BlockList();
for (const [network, bits] of [
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const)
  inside.addSubnet(network, bits, 'ipv4');
inside.addAddress('::1', 'ipv6');
inside.addSubnet('fc00::', 7, 'ipv6');
inside.addSubnet('fe80::', 10, 'ipv6');

/** Nobody has so many proxies: an IPv6 prefix shorter than this takes in a good part of the Internet. */
const shortestPrefix = 16;

/** One of each /8 of IPv4. */
const sample = Array.from({ length: 256 }, (_, first) => `${first}.1.1.1`);

/** What may be meant, but lets strangers in where it is not. */
export function exposureWarnings({ trustedProxies, ops }: Pick<ConfigInput, 'trustedProxies' | 'ops'>): string[] {
  const warnings = trustedProxies.flatMap((range, index) =>
    isTooWide(range)
      ? [
          `trustedProxies.${index} has a great part of the Internet in it: whoever connects may write any address into X-Forwarded-For, for the logs and the limits. List the addresses of your proxies`,
        ]
      : [],
  );
  if (isReachable(ops.host))
    warnings.push(
      'ops.host is an address that others may reach: /metrics and /readyz answer whoever asks, and only /admin wants a key. Listen on 127.0.0.1 or on the address of a private network (in a pod: its IP)',
    );
  return warnings;
}

/**
 * Asks the check that the server itself makes: a range has many spellings, and IPv4 lies inside of IPv6 more than once, as
 * mapped addresses and behind NAT64 (RFC 6052 §2.1).
 */
function isTooWide(range: string): boolean {
  const isInRange = buildRangeCheck([range]);
  const hasMany = (addresses: string[]) => addresses.filter(isInRange).length > 1;
  if (hasMany(sample) || hasMany(sample.map((address) => `64:ff9b::${address}`))) return true;
  const [address = '', bits] = range.split('/');
  if (bits === undefined || !isIPv6(address) || isInside(address, Number(bits))) return false;
  return Number(bits) < shortestPrefix;
}

/** fc00::/7 is private as a whole. */
function isInside(address: string, bits: number): boolean {
  return bits >= 7 && inside.check(address, 'ipv6');
}

/** Names other than localhost are left to who gave them. */
function isReachable(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(address);
  return family !== 0 && !inside.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** What listens by https is found by https. */
export function checkListenerTls(
  frontends: { path: PropertyKey[]; isSecure: boolean }[],
  { tls }: ConfigInput['listen'],
  problems: CrossProblem[],
): void {
  for (const { path, isSecure } of frontends)
    if (tls !== undefined && !isSecure)
      problems.push({
        path: [...path, 'publicUrl'],
        message: 'is http, and listen.tls speaks https: write https://, or remove listen.tls',
      });
}

/**
 * A development server reads any file of its project for whoever asks, and runs none of our checks: it must not be found
 * from outside of the machine. It is forwarded to as to a public API that takes all paths which nothing else has.
 */
export function buildDevServer(
  { devServer, files }: FrontendInput,
  { path: at, publicUrl, basePath }: { path: PropertyKey[]; publicUrl: URL; basePath: string },
  problems: CrossProblem[],
): { devServer?: ApiConfig & { name: string } } {
  if (devServer === undefined) return {};
  const report = (message: string) => problems.push({ path: [...at, 'devServer'], message });
  if (files !== undefined) report('stands beside files: remove one of them');
  if (!isLoopbackHost(publicUrl.hostname))
    report(
      'is for development on this machine: write a publicUrl such as http://localhost:8080, or build the page and set files',
    );
  if (devServer === publicUrl.origin) report('is publicUrl itself: give the development server a port of its own');
  const settings = api.parse({
    path: '/dev-server',
    upstream: devServer,
    rewritePath: basePath === '' ? '/' : basePath, // bundlers know it as their base
    token: 'none',
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    cache: true, // as the development server says
    timeouts: { headers: '5m' }, // it may be bundling
    breaker: { failures: 1_000_000 }, // whoever restarts it waits for it
    websocket: { idle: '24d', maxMessage: '256MiB' }, // its page loads itself anew when one is closed
  });
  return { devServer: { ...settings, name: 'dev-server', path: '' } };
}

/** Who may ask, and under which Host, must be clear: an answer has a token in it. */
export function checkForwardAuth(
  frontends: { path: PropertyKey[]; host: string; forwardAuth?: ForwardAuthConfig }[],
  trustedProxies: string[],
  problems: CrossProblem[],
): void {
  frontends.forEach(({ path: at, forwardAuth }, index) => {
    if (forwardAuth === undefined) return;
    const path = [...at, 'forwardAuth'];
    if (trustedProxies.length === 0)
      problems.push({ path, message: 'is for trusted proxies only: list their addresses in trustedProxies' });
    const others = frontends.filter((_, at) => at !== index);
    forwardAuth.hosts.forEach((host) => {
      if (others.some((other) => other.host === host || other.forwardAuth?.hosts.includes(host)))
        problems.push({
          path: [...path, 'hosts'],
          message: 'leads to another frontend too: give each a host name of its own',
        });
    });
  });
}
