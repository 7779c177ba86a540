import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildReadClientAddress, limitedAs, readAddress } from '../../../src/http/client-address.ts';

describe('W8 one spelling of an address', () => {
  it.each([
    ['203.0.113.9', '203.0.113.9'],
    ['203.0.113.9:50123', '203.0.113.9'], // Azure Application Gateway
    [' \t203.0.113.9:1 ', '203.0.113.9'],
    ['"203.0.113.9:50123"', '203.0.113.9'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['"[2001:db8::1]"', '2001:db8::1'],
    ['"[2001:db8::1]:443"', '2001:db8::1'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['::FFFF:cb00:7109', '203.0.113.9'],
    ['[::ffff:203.0.113.9]:50123', '203.0.113.9'],
    ['0:0:0:0:0:ffff:203.0.113.9', '203.0.113.9'],
    ['fe80::1%eth0', 'fe80::1'],
    ['[fe80::1%25eth0]:80', 'fe80::1'],
    ['::', '::'],
  ])('%j is %s', (written, address) => {
    expect(readAddress(written)).toBe(address);
  });

  it.each([
    ...[
      '',
      ' ',
      'unknown',
      '_hidden',
      'example.com',
      'localhost',
      '-',
      '""',
      '[]',
      '[]:80',
      ':80',
      '203.0.113',
      '256.0.0.1',
    ],
    ...[
      '203.0.113.9:',
      '203.0.113.9:x',
      '203.0.113.9:123456',
      '01.2.3.4',
      '0x7f.1',
      '2130706433',
      '203.0.113.9/32',
      '"203.0.113.9',
    ],
    ...[
      '[2001:db8::1',
      '2001:db8::1]',
      '[203.0.113.9]',
      '2001:db8::g',
      '1::2::3',
      '203.0.113.9 203.0.113.8',
      '\u00a0203.0.113.9',
    ],
    ...['203.0.113.9\r\nx: y', '2001:db8::1%', 'for=203.0.113.9', `${' '.repeat(200)}203.0.113.9`],
  ])('%j is none', (written) => {
    expect(readAddress(written)).toBeUndefined();
  });

  it('is found whatever a proxy adds to it, and read as itself again', () => {
    const addresses = fc.oneof(fc.ipV4(), fc.ipV6());
    const port = fc.option(fc.integer({ min: 0, max: 65535 }), { nil: undefined });
    fc.assert(
      fc.property(addresses, port, fc.boolean(), fc.boolean(), (address, port, isQuoted, isUpper) => {
        const isV6 = address.includes(':');
        const spelled = isUpper ? address.toUpperCase() : address;
        const bracketed = isV6 && port !== undefined ? `[${spelled}]` : spelled;
        const withPort = port === undefined ? bracketed : `${bracketed}:${port}`;
        const read = readAddress(isQuoted ? `"${withPort}"` : withPort);
        expect(read).toBeDefined();
        expect(read).toBe(readAddress(address));
        expect(readAddress(read as string)).toBe(read);
        if (!isV6) expect(read).toBe(address);
      }),
    );
  });

  it('has nothing in it that a header line could not have', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        expect(readAddress(text) ?? '::').toMatch(/^[\da-f.:]+$/);
      }),
    );
  });
});

describe('W8 one client of a limit', () => {
  it.each([
    ['203.0.113.9', '203.0.113.9'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::6', '2001:db8:1:2::/64'],
    ['2001:db8::6', '2001:db8:0:0::/64'],
    ['2001:db8:0:1::', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::1.2.3.4', '0:0:0:0::/64'],
    ['1::4:5:6:7:8', '1:0:0:4::/64'],
    ['::', '0:0:0:0::/64'],
    // Behind NAT64 (RFC 6052) they are IPv4 hosts, none of which has a /64: all of IPv4 would be one client.
    ['64:ff9b::cb00:7109', '203.0.113.9'],
    ['64:ff9b::7109', '0.0.113.9'],
    ['64:ff9b::', '0.0.0.0'],
    ['64:ff9b::1:0', '0.1.0.0'],
    ['64:ff9b:0:1::cb00:7109', '64:ff9b:0:1::/64'],
    ['64:ff9b::1:cb00:7109', '64:ff9b:0:0::/64'],
    ['64:ff9b:1::cb00:7109', '64:ff9b:1:0::/64'],
  ])('%s is %s', (address, key) => {
    expect(limitedAs(address)).toBe(key);
  });

  it('W8 is the IPv4 host, whichever way it came', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        const one = (written: string) => limitedAs(readAddress(written) ?? '');
        expect([one(`64:ff9b::${address}`), one(`::ffff:${address}`)]).toEqual([address, address]);
      }),
    );
  });

  it('is the /64, whatever is behind it', () => {
    const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16));
    const half = fc.array(group, { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(half, half, half, (network, one, other) => {
        fc.pre(network.some((part) => part !== '0')); // mapped IPv4 lies there
        const key = (host: string[]) => limitedAs(readAddress([...network, ...host].join(':')) ?? '');
        expect(key(one)).toBe(key(other));
        expect(key(one)).toBe(`${network.join(':')}::/64`);
      }),
    );
  });
});

const trusted = ['127.0.0.1', '10.0.0.0/8', '2001:db8:ffff::/48', '::ffff:192.0.2.0/120', 'fe80::1%eth0'];
const read = buildReadClientAddress(trusted);
const request = (remoteAddress: string | undefined, list?: string) =>
  ({
    socket: { remoteAddress },
    headers: list === undefined ? {} : { 'x-forwarded-for': list },
  }) as unknown as IncomingMessage;

describe('W8 whose request it is', () => {
  it.each([
    ['127.0.0.1', undefined, '127.0.0.1'],
    ['::ffff:127.0.0.1', undefined, '127.0.0.1'],
    ['198.51.100.7', '203.0.113.9', '198.51.100.7'], // not a trusted peer: says what it likes
    ['::ffff:198.51.100.7', '203.0.113.9', '198.51.100.7'],
    ['127.0.0.1', '203.0.113.9:50123', '203.0.113.9'],
    ['::ffff:127.0.0.1', '203.0.113.9:50123', '203.0.113.9'],
    ['127.0.0.1', '6.6.6.6, 203.0.113.9:50123', '203.0.113.9'],
    ['127.0.0.1', '6.6.6.6, 203.0.113.9:50123, 10.1.1.1:8080,\t[2001:db8:ffff::1]:443', '203.0.113.9'],
    ['127.0.0.1', '203.0.113.9,::ffff:10.1.1.1,192.0.2.7', '203.0.113.9'],
    ['fe80::1%eth0', '203.0.113.9', '203.0.113.9'],
    ['127.0.0.1', '10.1.1.1, 10.2.2.2', '10.1.1.1'], // all of them are ours
    ['127.0.0.1', 'unknown', '127.0.0.1'],
    ['127.0.0.1', '203.0.113.9, unknown, 10.2.2.2:80', '10.2.2.2'],
    ['127.0.0.1', '203.0.113.9,, 10.2.2.2', '10.2.2.2'],
    ['127.0.0.1', '203.0.113.9,', '127.0.0.1'],
    ['127.0.0.1', ',', '127.0.0.1'],
    ['127.0.0.1', ',10.2.2.2', '10.2.2.2'],
    ['127.0.0.1', '', '127.0.0.1'],
    ['127.0.0.1', '203.0.113.9 ; DROP', '127.0.0.1'],
  ])('%s says %j: %s', (peer, list, address) => {
    expect(read(request(peer, list))).toBe(address);
  });

  it('W8 is looked for behind 32 proxies at most, however many a header has in it', () => {
    const through = (hops: number) => `203.0.113.9${', 10.1.1.1'.repeat(hops)}`;
    expect(read(request('127.0.0.1', through(31)))).toBe('203.0.113.9');
    expect(read(request('127.0.0.1', through(32)))).toBe('10.1.1.1');
    // 64 KiB of addresses, each of which is ours in another spelling.
    const list = Array.from({ length: 6000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`).join(',');
    const startedAt = performance.now();
    for (let round = 0; round < 100; round++) expect(read(request('127.0.0.1', list))).toBe('10.0.23.80');
    expect(performance.now() - startedAt).toBeLessThan(200);
  });

  it('W1 is not known once the peer is gone, whatever its header says', () => {
    expect(read(request(undefined, '203.0.113.9'))).toBeUndefined();
    expect(buildReadClientAddress([])(request(undefined))).toBeUndefined();
  });

  it('is not changed by what stands left of the address that a trusted proxy wrote', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.ipV4(), fc.nat(65535), (junk, client, port) => {
        fc.pre(!/^(10|127|192)\./.test(client));
        expect(read(request('127.0.0.1', `${junk}, ${client}:${port}, 10.9.9.9`))).toBe(client);
      }),
    );
  });

  it('is nobody but the peer where no proxy is trusted', () => {
    expect(buildReadClientAddress([])(request('::ffff:127.0.0.1', '203.0.113.9'))).toBe('127.0.0.1');
  });
});
