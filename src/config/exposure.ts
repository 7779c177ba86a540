import { BlockList, isIP, isIPv6 } from 'node:net';
import type { ConfigInput } from './schema/schema.ts';

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

/** Nobody has so many proxies: a shorter prefix than this takes in a good part of the Internet. */
const shortestPrefix = { 4: 8, 6: 16 };

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

function isTooWide(range: string): boolean {
  const [address = '', bits] = range.split('/');
  const family = isIPv6(address) ? 6 : 4;
  if (bits === undefined || isInside(address, Number(bits))) return false;
  // ::ffff:0:0/96 are all addresses of IPv4.
  const mapped = /^::ffff:(?:0+:0+|0\.0\.0\.0)$/i.test(address) && Number(bits) - 96;
  if (mapped !== false) return mapped < shortestPrefix[4];
  return Number(bits) < shortestPrefix[family];
}

/** fc00::/7 is private as a whole. */
function isInside(address: string, bits: number): boolean {
  return isIPv6(address) && bits >= 7 && inside.check(address, 'ipv6');
}

/** Names other than localhost are left to who gave them. */
function isReachable(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(address);
  return family !== 0 && !inside.check(address, family === 6 ? 'ipv6' : 'ipv4');
}
