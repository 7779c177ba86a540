import type { IncomingMessage } from 'node:http';
import { isIPv4, isIPv6, type Socket, SocketAddress } from 'node:net';
import { buildRangeCheck } from '../config/schema/address-range.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * Whose request it is: the one address for limits, logs and upstreams. `request.ip` is Node's word for the
     * connection, which may be another spelling of it, or nothing.
     */
    clientAddress: string;
  }
}

// Addresses are compared, counted and passed on in one spelling (RFC 5952): without port, brackets and zone, IPv4 never
// mapped into IPv6. Otherwise each spelling, and each port that a load balancer writes, would be a client of its own.

/** No address is longer, with a zone, port, brackets and quotes. Characters. */
const longestEntry = 100;

/** IPv4 with or without a port; IPv6 in brackets, with or without a port; IPv6 alone. Each may be quoted (RFC 7239 §4). */
const entry =
  /^[ \t]*("?)(?:([\d.]+)(?::\d{1,5})?|\[([\da-f:.]+)(?:%[\w.~-]+)?\](?::\d{1,5})?|([\da-f:.]+)(?:%[\w.~-]+)?)\1[ \t]*$/i;

/** One entry of `X-Forwarded-For`, however its proxy writes addresses. Undefined: it is none. */
export function readAddress(text: string): string | undefined {
  if (text.length > longestEntry) return undefined;
  const [, , v4, bracketed, v6] = entry.exec(text) ?? [];
  const bare = bracketed ?? v6 ?? '';
  // A copy: what is cut out of a header keeps all of it in memory, for as long as a limit counts this address.
  if (v4 !== undefined) return isIPv4(v4) ? v4.split('.').join('.') : undefined;
  return isIPv6(bare) ? plain(new SocketAddress({ address: bare, family: 'ipv6' }).address) : undefined;
}

/** The other end of a connection. Undefined: it was reset before anybody asked. */
export function peerAddress({ remoteAddress }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : plain(remoteAddress);
}

/** Of this machine, in the one spelling that addresses have here. */
export function isLoopbackAddress(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** Out of the spelling that the system has. */
function plain(address: string): string {
  const zoneAt = address.indexOf('%');
  const bare = zoneAt === -1 ? address : address.slice(0, zoneAt);
  return bare.startsWith('::ffff:') && bare.includes('.') ? bare.slice('::ffff:'.length) : bare;
}

/**
 * What one client is to a limit: an IPv4 address, or the /64 out of which IPv6 hosts choose their addresses freely. NAT64
 * puts all of IPv4 into one /64 (RFC 6052 §2.1): there too it is the IPv4 address.
 */
export function limitedAs(address: string): string {
  if (!address.includes(':')) return address;
  const groups = groupsOf(address);
  const network = groups.slice(0, 4).join(':');
  if (network !== '64:ff9b:0:0' || groups[4] !== '0' || groups[5] !== '0') return `${network}::/64`;
  return groups
    .slice(6)
    .map((group) => Number.parseInt(group, 16))
    .flatMap((pair) => [pair >> 8, pair & 255])
    .join('.');
}

/** All eight, without leading zeros. The last two may be one, where the system writes the end as IPv4. */
function groupsOf(address: string): string[] {
  const [head = '', tail] = address.split('::');
  const groups = [head, tail ?? ''].map((part) => (part === '' ? [] : part.split(':')));
  const [before = [], after = []] = groups;
  const zeros = new Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0');
  return [...before, ...zeros, ...after];
}

/** Nobody has so many proxies in a row, but a header has room for thousands of addresses, each of which is looked up. */
const mostHops = 32;

/** Whose request this is. Undefined: the peer has gone already. */
export type ReadClientAddress = (request: IncomingMessage) => string | undefined;

/**
 * The right-most address that no trusted proxy has: each of them vouches for what it wrote, which is the address of its
 * own peer, and for nothing left of it. Where a trusted proxy wrote something else, nobody knows more than its address.
 */
export function buildReadClientAddress(trustedProxies: string[]): ReadClientAddress {
  if (trustedProxies.length === 0) return ({ socket }) => peerAddress(socket);
  const isTrusted = remember(buildRangeCheck(trustedProxies));
  return ({ socket, headers }) => {
    let address = peerAddress(socket);
    const list = headers['x-forwarded-for']; // several lines are one list (RFC 9110 §5.3)
    if (address === undefined || typeof list !== 'string') return address;
    let end = list.length;
    for (let hop = 0; hop < mostHops && end >= 0 && isTrusted(address); hop++) {
      const comma = list.lastIndexOf(',', end - 1);
      const next = readAddress(list.slice(comma + 1, end));
      if (next === undefined) break;
      address = next;
      end = comma;
    }
    return address;
  };
}

/** The same few proxies come with every request, and a check costs more than the rest of this file. */
function remember(check: (address: string) => boolean): (address: string) => boolean {
  const known = new Map<string, boolean>();
  return (address) => {
    let answer = known.get(address);
    if (answer === undefined) {
      answer = check(address);
      if (known.size >= 1000) known.clear();
      known.set(address, answer);
    }
    return answer;
  };
}
