import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { problemsOf, problemsOfText, smallest, warningsOf } from './support.ts';

const names = Object.getOwnPropertyNames(Object.prototype);

describe('W18 what was dropped without a word', () => {
  it.each(names)('W18 refuses %s as the name of anything, at its place', (name) => {
    // Written as text: an object literal would take __proto__ for its prototype.
    const text = stringify(smallest());
    const places: [key: string, text: string][] = [
      [name, `${text}${name}: { path: /x }\n`],
      [`apis.${name}`, `${text}  ${name}: { path: /x, upstream: "http://x" }\n`],
      [`apis.orders.${name}`, `${text}    ${name}: { a: 1 }\n`],
      [`bearerIssuers.${name}`, `${text}bearerIssuers:\n  ${name}: { issuer: "https://x", audiences: [x] }\n`],
      [`frontends.${name}`, `${text}frontends:\n  ${name}: { publicUrl: "https://x" }\n`],
      [`apis.orders.require.claims.${name}`, `${text}    require: { claims: { ${name}: x } }\n`],
    ];
    for (const [key, broken] of places) {
      const problems = problemsOfText(broken);
      const mine = problems.filter((problem) => problem.includes(` ${key}: unknown key: `));
      expect(mine, problems.join('\n')).toHaveLength(1);
      const [, line] = /^(\d+):/.exec(mine[0] as string) ?? [];
      expect(broken.split('\n')[Number(line) - 1]).toContain(name);
    }
  });

  it('W18 warns of trusted proxies that are a great part of the Internet', () => {
    const warned = (range: string) =>
      warningsOf((data) => Object.assign(data, { trustedProxies: ['10.0.0.1', range] })).filter((text) =>
        text.startsWith('trustedProxies.1 '),
      );
    for (const wide of [
      '0.0.0.0/0',
      '0.0.0.0/1',
      '128.0.0.0/1',
      '64.0.0.0/7',
      '::/0',
      '::/1',
      '2000::/3',
      '::ffff:0:0/96',
      // The system compares IPv4 as mapped addresses, so these have all of it too.
      '0:0:0:0:0:ffff:0:0/96',
      '::FFFF:0.0.0.0/96',
      '::ffff:64.0.0.0/103',
      '::fffe:0:0/95',
      '::/80',
      '::1/64',
      '::/16',
      // And so have these for who comes through NAT64.
      '64:ff9b::/96',
      '64:ff9b::/32',
    ])
      expect(warned(wide), wide).toHaveLength(1);
    for (const fine of [
      '10.0.0.0/8',
      '172.16.0.0/12',
      '203.0.113.0/24',
      'fc00::/7',
      'fd00::/8',
      '2001:db8::/32',
      '::1',
      '::1/128',
      '::ffff:10.0.0.0/104',
      '::ffff:203.0.113.0/120',
      '64:ff9b::203.0.113.0/120',
      'fe80::/10',
    ])
      expect(warned(fine), fine).toEqual([]);
  });

  it('W18 warns of an ops listener that others may reach', () => {
    const warned = (host: string) =>
      warningsOf((data) => Object.assign(data, { ops: { host } })).filter((text) => text.startsWith('ops.host '));
    for (const open of ['0.0.0.0', '::', '203.0.113.7', '2001:db8::7']) expect(warned(open), open).toHaveLength(1);
    for (const own of ['127.0.0.1', '::1', 'localhost', '10.1.2.3', '192.168.0.7', '172.31.0.1', 'fd00::7', 'fe80::1'])
      expect(warned(own), own).toEqual([]);
    expect(warningsOf(() => undefined)).toEqual([]);
    expect(problemsOf((data) => Object.assign(data, { ops: { host: '0.0.0.0' }, trustedProxies: ['::/0'] }))).toEqual(
      [],
    );
  });
});
