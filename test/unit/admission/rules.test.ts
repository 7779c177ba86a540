import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildRules } from '../../../src/admission/policy.ts';
import type { Api, RequireConfig } from '../../../src/config/config.ts';
import { targetFault } from '../../../src/routing/request-path.ts';

type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
interface Group {
  path: string;
  methods?: Method[];
}

const methods: Method[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const ruleOf = (path: string): RequireConfig => ({ roles: [path] });
const rulesFor = (groups: Group[], own?: RequireConfig) =>
  buildRules({
    ...(own === undefined ? {} : { require: own }),
    routes: groups.map((group) => ({ ...group, require: ruleOf(group.path) })),
  } as Api);
const namesFor = (groups: Group[], method: string, path: string) =>
  rulesFor(groups)(method, path).map(({ roles }) => roles?.[0]);

const word = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_~-]{0,7}$/);
const pattern = fc.array(fc.oneof({ weight: 4, arbitrary: word }, fc.constant('*')), { minLength: 1, maxLength: 4 });

/** One character as it may be written in a path. */
const spelling = fc.record({
  how: fc.constantFrom('plain', 'plain', 'upper', 'escaped', 'ESCAPED', 'escaped-upper'),
});
function spell(character: string, how: string): string {
  const text = how === 'upper' || how === 'escaped-upper' ? character.toUpperCase() : character;
  if (how === 'plain' || how === 'upper') return text;
  const code = text.charCodeAt(0).toString(16).padStart(2, '0');
  return `%${how === 'ESCAPED' ? code.toUpperCase() : code}`;
}
const suffix = fc.constantFrom(
  '',
  '',
  '',
  ';',
  ';v=1',
  '%3bv=1',
  '%3B',
  '.',
  '%20',
  '.%20.;x',
  '.json',
  '.XML',
  '.json;v=1',
  '.geojson',
  '.jsonld',
  '.tar.gz',
  '.anything.else;x.y',
  '%2Etar%2egz',
  '%3Fx',
  '%23x.y',
);
const below = fc.constantFrom('', '/', '/x', '/x/y/', ';x/y', '/;/');

/** A path that an upstream may take for something that the pattern covers. */
const covered = pattern.chain((segments) =>
  fc.record({
    segments: fc.constant(segments),
    words: fc.tuple(...segments.map((wanted) => (wanted === '*' ? word : fc.constant(wanted)))),
    spellings: fc.array(spelling, { minLength: 40, maxLength: 40 }),
    suffixes: fc.tuple(...segments.map(() => suffix)),
    below,
  }),
);

describe('buildRules', () => {
  it('T79 T81 a group covers its path however it is written, and everything below', () => {
    fc.assert(
      fc.property(covered, ({ segments, words, spellings, suffixes, below }) => {
        let at = 0;
        const written = words.map((one) =>
          [...one].map((character) => spell(character, spellings[at++ % spellings.length]?.how ?? 'plain')).join(''),
        );
        const path = `${written.map((one, index) => `/${one}${suffixes[index]}`).join('')}${below}`;
        if (targetFault(`/api${path}`) !== undefined) return; // the request guard refuses it: it comes nowhere
        const group = `/${segments.join('/')}`;
        expect(namesFor([{ path: group }], 'GET', path), path).toEqual([group]);
      }),
      { numRuns: 3000 },
    );
  });

  it('does not cover other paths', () => {
    fc.assert(
      fc.property(word, word, fc.array(word, { maxLength: 2 }), (wanted, other, rest) => {
        fc.pre(wanted.toLowerCase() !== other.toLowerCase());
        expect(namesFor([{ path: `/${wanted}` }], 'GET', `/${[other, ...rest].join('/')}`)).toEqual([]);
        expect(namesFor([{ path: `/${wanted}` }], 'GET', `/${other}/${wanted}`)).toEqual([]);
        expect(namesFor([{ path: `/${wanted}/${other}` }], 'GET', `/${wanted}`)).toEqual([]);
        expect(namesFor([{ path: `/${wanted}` }], 'GET', `/${wanted}${other}`)).toEqual([]);
        expect(namesFor([{ path: `/${wanted}` }], 'GET', `/x${wanted}`)).toEqual([]);
      }),
    );
    for (const path of ['', '/', '/admin/refunds', '/1/2/refunds', '/refunds', '/1', '/1/', '/1/refund', '/1/refunds2'])
      expect(namesFor([{ path: '/*/refunds' }], 'GET', path), path).toEqual(
        path === '/admin/refunds' ? ['/*/refunds'] : [],
      );
    for (const path of ['', '/', '/?x'])
      expect(namesFor([{ path: '/*' }], 'GET', path.split('?')[0] ?? '')).toEqual([]);
    expect(namesFor([{ path: '/index.html' }], 'GET', '/index.html')).toEqual(['/index.html']);
  });

  it('W10 a group holds with whatever follows a dot, also where it has dots itself', () => {
    for (const ending of [
      '.geojson',
      '.jsonld',
      '.tar.gz',
      '.anything.else',
      '.json;v=1',
      ';v=1.json',
      '.%6ason',
      '..x',
    ])
      for (const path of ['/refunds', '/v1.0', '/v1.0/items', '/file.json', '/.well-known', '/Admin.']) {
        expect(namesFor([{ path }], 'GET', `${path}${ending}`), path + ending).toEqual([path]);
        expect(namesFor([{ path }], 'GET', `${path}${ending}/x`), path + ending).toEqual([path]);
        expect(namesFor([{ path: `/*${path}` }], 'GET', `/7.x${path}${ending}`), path + ending).toEqual([`/*${path}`]);
      }
    for (const path of ['/refunds(7)', "/refunds('7')", '/refunds%20.json'])
      expect(namesFor([{ path: '/refunds' }], 'GET', path), path).toEqual(['/refunds']);
    for (const path of ['/refunds', '/v1.0', '/file.json', '/.well-known', '/admin.'])
      expect(namesFor([{ path }], 'GET', path)).toEqual([path]);
    for (const [path, other] of [
      ['/refunds', '/refund.s'],
      ['/refunds', '/refundsx.json'],
      ['/refunds', '/.refunds'],
      ['/v1.0', '/v1'],
      ['/v1.0', '/v1.1'],
      ['/v1.0', '/v1.01'],
      ['/.well-known', '/.x'],
      ['/.well-known', '/x'],
    ] as const)
      expect(namesFor([{ path }], 'GET', other), other).toEqual([]);
  });

  it('a group is about its methods, HEAD being a GET', () => {
    fc.assert(
      fc.property(fc.subarray(methods, { minLength: 1 }), fc.constantFrom(...methods), (listed, method) => {
        const isListed = listed.includes(method) || (method === 'HEAD' && listed.includes('GET'));
        expect(namesFor([{ path: '/x', methods: listed }], method, '/x')).toEqual(isListed ? ['/x'] : []);
        expect(namesFor([{ path: '/x' }], method, '/x')).toEqual(['/x']);
      }),
    );
  });

  it('every group that matches counts, after the API’s own rule', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('/a', '/*', '/a/b', '/*/b', '/a/*', '/b', '/*/c')), (paths) => {
        const groups = paths.map((path) => ({ path }));
        const expected = paths.filter((path) => !['/b', '/*/c'].includes(path));
        expect(namesFor(groups, 'GET', '/a/b/x')).toEqual(expected);
        const own = { scopes: ['own'] };
        expect(rulesFor(groups, own)('GET', '/a/b/x')).toEqual([own, ...expected.map(ruleOf)]);
      }),
    );
    expect(rulesFor([])('GET', '/a')).toEqual([]);
  });

  it('a segment of which nothing is left still stands for *', () => {
    for (const segment of ['%20', '...', '%20;x', '.%20.'])
      expect(namesFor([{ path: '/*/refunds' }], 'GET', `/${segment}/refunds`), segment).toEqual(['/*/refunds']);
  });

  it('T79 leaves segments without a name to the request guard, which refuses them', () => {
    for (const path of ['/;/admin', '/;x/admin', '/%3b/admin', '/%3Bx=1/admin', '//admin'])
      expect(targetFault(`/api${path}`), path).toBe('an empty segment');
  });

  it('PO10 looks at a path of the longest kind in no time', () => {
    const started = performance.now();
    for (const piece of ['.', ';', '%2e', '/a', '/;', ' ', '.a', 'é'])
      namesFor([{ path: '/*/*/x' }, { path: '/x' }], 'GET', `/${piece.repeat(16_000 / piece.length)}x!`);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
