import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { markTag, unmarkTags } from '../../../src/exchange/entity-tags.ts';

const tag = fc
  .tuple(fc.constantFrom('', 'W/'), fc.stringMatching(/^[\x21\x23-\x7e]{0,12}$/))
  .map(([weak, text]) => `${weak}"${text}"`);

describe('entity tags with the mark of their owner', () => {
  it('W4 come back as the API made them, from their owner', () => {
    fc.assert(
      fc.property(fc.array(tag, { minLength: 1, maxLength: 4 }), (tags) => {
        const marked = tags.map((each) => markTag(each, 'alice')).join(', ');
        for (const name of ['if-none-match', 'if-match'])
          expect(unmarkTags([name, marked], 'alice', 'GET')).toEqual([name, tags.join(', ')]);
      }),
    );
    expect(unmarkTags(['if-range', markTag('"1"', 'alice'), 'range', 'a'], 'alice', 'GET')).toEqual([
      'if-range', '"1"', 'range', 'a',
    ]); // biome-ignore format: pairs
    // WebDAV's If, where tags stand among tokens and addresses (RFC 4918 §10.4)
    const dav = (one: string, two: string) => ['if', `</a> (<urn:uuid:1> [${one}]) (Not [${two}])`];
    const marked = dav(markTag('"1"', 'alice'), markTag('W/"2"', 'alice'));
    expect(unmarkTags(marked, 'alice', 'PUT')).toEqual(dav('"1"', 'W/"2"'));
    expect(unmarkTags(marked, 'bob', 'PUT')).toEqual(marked);
    expect(markTag('1', 'alice')).toBe('alice.1');
    expect(unmarkTags(['if-none-match', 'alice.1'], 'alice', 'GET')).toEqual(['if-none-match', '1']);
  });

  it('W4 of another owner, or of none, validate nothing and resume nothing', () => {
    fc.assert(
      fc.property(fc.array(tag, { minLength: 1, maxLength: 4 }), fc.boolean(), (tags, isMarked) => {
        const sent = isMarked
          ? tags.map((each) => markTag(each, 'alice'))
          : tags.filter((each) => !/^(W\/)?"bob\./.test(each));
        fc.pre(sent.length > 0);
        const lines = ['accept', 'x', 'if-modified-since', 'y', 'if-none-match', sent.join(', ')];
        expect(unmarkTags(lines, 'bob', 'GET')).toEqual(['accept', 'x']);
        expect(unmarkTags(['range', 'bytes=1-', 'if-range', sent[0] as string], 'bob', 'GET')).toEqual([]);
      }),
    );
    expect(unmarkTags(['if-none-match', '"alice.1", "bob.2", W/"alice.3"'], 'bob', 'GET')).toEqual([
      'if-none-match',
      '"2"',
    ]);
  });

  it('W4 stay preconditions of a write', () => {
    expect(unmarkTags(['if-match', '"alice.1", "bob.2", "3"'], 'bob', 'GET')).toEqual([
      'if-match',
      '"alice.1", "2", "3"',
    ]);
    expect(unmarkTags(['if-match', '*'], 'bob', 'GET')).toEqual(['if-match', '*']);
    expect(unmarkTags(['if-none-match', '*'], 'bob', 'GET')).toEqual(['if-none-match', '*']);
  });

  it('W4 stay preconditions of a write when nobody’s mark is in them: a body or another release told them', () => {
    for (const method of ['PUT', 'PATCH', 'POST', 'DELETE']) {
      const lines = ['if-none-match', '"v7", W/"alice.8"', 'if-modified-since', 'x'];
      expect(unmarkTags(lines, 'bob', method)).toEqual(lines);
    }
    expect(unmarkTags(['if-none-match', '"bob.1", "2"'], 'bob', 'PUT')).toEqual(['if-none-match', '"1", "2"']);
    for (const odd of ['', ',']) expect(unmarkTags(['if-match', odd], 'bob', 'PUT')).toEqual(['if-match', odd]);
  });

  it('W4 a date says whose nothing is: a read is not answered by it alone', () => {
    const range = ['if-range', 'Mon, 01 Jan 2024 00:00:00 GMT', 'range', 'bytes=1-'];
    expect(unmarkTags([...range, 'if-modified-since', 'x'], 'bob', 'GET')).toEqual(range);
    const own = ['if-none-match', '"bob.1"', 'if-modified-since', 'x'];
    expect(unmarkTags(own, 'bob', 'GET')).toEqual(['if-none-match', '"1"', 'if-modified-since', 'x']);
  });
});
