import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { badStructure } from './bad-structure.ts';
import { badValues } from './bad-values.ts';
import { configOf, problemsOf, problemsOfText, smallest } from './support.ts';

for (const [group, cases] of Object.entries({ ...badValues, ...badStructure })) {
  describe(`bad configuration: ${group}`, () => {
    it.each(cases)('%s is a problem at its key, with the fix', (_name, change, key, fix) => {
      const problems = problemsOf(change);
      const atKey = key === '' ? problems : problems.filter((problem) => problem.startsWith(`${key}: `));
      expect(atKey.length, problems.join('\n')).toBeGreaterThanOrEqual(1);
      expect(atKey.join('\n')).toMatch(fix);
    });
  });
}

describe('problems', () => {
  it('has none for the smallest configuration, for loopback http and for harmless extra headers', () => {
    expect(problemsOf(() => undefined)).toEqual([]);
    for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '[::1]', 'app.localhost'])
      expect(
        problemsOf((data) => Object.assign(data, { publicUrl: `http://${host}:8080` })),
        host,
      ).toEqual([]);
    const forwardHeaders = [
      'x-shop-*',
      'x-ratelimit-*',
      'if-schedule-tag-match',
      'x-shop',
      'sec-ch-ua-*',
      'destination',
    ];
    expect(problemsOf((data) => Object.assign(data.apis.orders, { forwardHeaders }))).toEqual([]);
  });

  it('accepts several frontends by host and by path, each with a cookie of its own', () => {
    const { authorizationServer } = smallest();
    const config = configOf((data) => {
      for (const key of ['publicUrl', 'authorizationServer', 'apis']) delete data[key];
      data.frontends = {
        shop: { publicUrl: 'https://a.example.com/shop', authorizationServer },
        admin: { publicUrl: 'https://a.example.com/admin', authorizationServer },
        other: { publicUrl: 'https://b.example.com', authorizationServer },
      };
    });
    expect(config.frontends.map(({ cookieName }) => cookieName)).toEqual([
      '__Host-cloakroom-shop__shop',
      '__Host-cloakroom-admin__admin',
      '__Host-cloakroom-other',
    ]);
  });

  it('come all at once, each with its line and column, in order', () => {
    const text = stringify(smallest())
      .replace('https://app.example.com', 'http://app.example.com')
      .replace('clientId', 'clientIdd')
      .replace('path: /api/orders', 'path: /bff/orders')
      .concat('  stock: { path: /api/stock/, upstream: nowhere }\nsesion: {}\nlimits: { requestTimeout: 5 }\n');
    const problems = problemsOfText(text).map((problem) => {
      const [, line, column, key = ''] = /^(\d+):(\d+) ([^:]*):/.exec(problem) ?? [];
      return { line: Number(line), column: Number(column), key };
    });
    const missing = 'authorizationServer.clientId'; // stands at its parent
    expect(new Set(problems.map(({ key }) => key))).toEqual(
      new Set([
        'publicUrl',
        missing,
        'authorizationServer.clientIdd',
        'apis.orders.path',
        'apis.stock.path',
        'apis.stock.upstream',
        'sesion',
        'limits.requestTimeout',
      ]),
    );
    expect(problems.map(({ line }) => line)).toEqual(problems.map(({ line }) => line).sort((a, b) => a - b));
    const lines = text.split('\n');
    for (const { line, column, key } of problems.filter((problem) => problem.key !== missing)) {
      expect(lines[line - 1]?.slice(column - 1), key).toMatch(new RegExp(`^${key.split('.').at(-1)}\\b`));
    }
  });
});
