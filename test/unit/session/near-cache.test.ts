import { describe, expect, it } from 'vitest';
import { createSessionChannel, type Transport } from '../../../src/session/events.ts';
import { createNearCache } from '../../../src/session/near-cache.ts';
import type { Session } from '../../../src/session/session.ts';

let now = 1000;
function open(maxAge = 5000, entries = 2) {
  let isUp = true;
  let tellStatus: (isUp: boolean) => void = () => undefined;
  const transport: Transport = {
    publish: async () => undefined,
    onMessage: () => undefined,
    onStatus(listener) {
      tellStatus = listener;
    },
    isUp: () => isUp,
    close: async () => undefined,
  };
  const channel = createSessionChannel({ warn() {} }, transport);
  const cache = createNearCache({
    entries,
    maxAge,
    channel,
    derive: (id) => ({ handle: `handle of ${id}`, keys: [] }),
    clock: () => now,
  });
  const setUp = (up: boolean) => {
    isUp = up;
    tellStatus(up);
  };
  return { cache, channel, setUp };
}
const session = (id: string) => ({ id, handle: `handle of ${id}`, generation: 1, now: 50 }) as Session;

describe('the near cache', () => {
  it('serves what was read within maxAge, on the clock of the store', () => {
    const { cache } = open();
    const known = cache.of('a');
    expect(cache.fresh(known)).toBeUndefined();
    cache.keep(known, session('a'), cache.mark());
    now += 4999;
    expect(cache.fresh(known)).toMatchObject({ id: 'a', now: 50 + 4.999 });
    now += 1;
    expect(cache.fresh(known)).toBeUndefined();
  });

  it('SE4 keeps no answer that was on its way when something ended', () => {
    const { cache, channel } = open();
    const mark = cache.mark();
    void channel.publish({ kind: 'ended', handle: 'handle of a', reason: 'logout' });
    cache.keep(cache.of('a'), session('a'), mark);
    expect(cache.fresh(cache.of('a'))).toBeUndefined();
    expect(cache.of('a').session).toBeUndefined();
  });

  it.each(['ended', 'refreshed', 'claims_changed'] as const)('SE4 forgets at once what is %s', (kind) => {
    const { cache, channel } = open();
    cache.keep(cache.of('a'), session('a'), cache.mark());
    cache.keep(cache.of('b'), session('b'), cache.mark());
    void channel.publish(
      kind === 'ended' ? { kind, handle: 'handle of a', reason: 'admin' } : { kind, handle: 'handle of a' },
    );
    expect(cache.of('a').session).toBeUndefined();
    expect(cache.fresh(cache.of('b'))).toBeDefined();
  });

  it('SE4 serves nothing while the channel is down, and afterwards nothing from before', () => {
    const { cache, setUp } = open();
    const known = cache.of('a');
    const mark = cache.mark();
    cache.keep(known, session('a'), mark);
    now += 1;
    setUp(false);
    expect(cache.fresh(known)).toBeUndefined();
    cache.keep(known, session('a'), mark); // asked before it went down
    now += 1;
    setUp(true);
    expect(cache.fresh(known)).toBeUndefined();
    cache.keep(known, session('a'), cache.mark());
    expect(cache.fresh(known)).toBeDefined();
  });

  it('serves nothing with maxAge 0, and still knows what never changes', () => {
    const { cache } = open(0);
    const known = cache.of('a');
    cache.keep(known, session('a'), cache.mark());
    expect(cache.fresh(known)).toBeUndefined();
    expect(cache.of('a')).toBe(known);
    expect(known.session).toBeDefined();
  });

  it('is bounded, and hears of what came back in', () => {
    const { cache, channel } = open();
    for (const id of ['a', 'b', 'c', 'a']) cache.keep(cache.of(id), session(id), cache.mark());
    expect(cache.of('b').session).toBeUndefined();
    void channel.publish({ kind: 'ended', handle: 'handle of a', reason: 'logout' });
    expect(cache.of('a').session).toBeUndefined();
  });
});
