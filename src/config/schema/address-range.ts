import { BlockList, isIP, isIPv6 } from 'node:net';
import { z } from 'zod';

/** An address, or all that begin with the same bits (RFC 4632 §3.1, RFC 4291 §2.3). */
export const addressRange = z.string().refine((text) => {
  const [address = '', bits, ...rest] = text.split('/');
  const longest = isIP(address) === 4 ? 32 : 128;
  return (
    isIP(address) !== 0 &&
    rest.length === 0 &&
    (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= longest))
  );
}, 'is not an address or CIDR range such as 10.0.0.0/8');

/** Is this address, in the spelling of RFC 5952 and never mapped, in one of the ranges? */
export function buildRangeCheck(ranges: string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const range of ranges) {
    const [written = '', bits] = range.split('/');
    const [address = ''] = written.split('%');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}
