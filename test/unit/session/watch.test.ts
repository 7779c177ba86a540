import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { buildKeyRing } from '../../../src/crypto/keys.ts';
import { Secret } from '../../../src/crypto/secret.ts';
import { createSessionChannel, type Transport } from '../../../src/session/events.ts';
import { createSealedSessions } from '../../../src/session/sealed-sessions.ts';
import { createStreams } from '../../../src/session/streams.ts';
import { type WatchHandlers, watchSession } from '../../../src/session/watch.ts';
import { createMemoryStore } from '../../../src/store/memory-store.ts';
import { createClock } from '../../support/clock.ts';
import { until } from '../../support/wait.ts';

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** Sessions on the memory store with a beat of 100 ms, and a stand-in for what Redis would say. */
async function startWatching(handlers: Partial<WatchHandlers> = {}) {
  const clock = createClock();
  let say: (text: string) => void = () => undefined;
  const transport: Transport = {
    publish: async () => undefined,
    onMessage: (listener) => {
      say = listener;
    },
    onStatus: () => undefined,
    isUp: () => true,
    close: async () => undefined,
  };
  const channel = createSessionChannel({ warn() {} }, transport);
  const store = createMemoryStore(clock.now);
  const keys = buildKeyRing([new Secret(randomBytes(32).toString('base64'))], 'default');
  const lifetimes = { idleTimeout: 2, absoluteTimeout: 5 };
  const sessions = createSealedSessions({
    frontend: 'default',
    store,
    channel,
    keys,
    lifetimes,
    owner: { issuer: 'https://id.example', clientId: 'app' },
    log: { warn() {} },
    writer: 'test',
    nearCache: { entries: 10, maxAge: 0 },
  });
  const identity = { issuer: 'https://id.example', subject: 'alice', claims: {} };
  const session = await sessions.create(randomBytes(32).toString('base64url'), identity, '{}');
  if (session === undefined) throw new Error('no session');
  const streams = createStreams();
  const ends: (string | undefined)[] = [];
  let looks = 0;
  let news = 0;
  const watch = () =>
    watchSession({ channel, sessions, streams }, session, 'x', {
      onEnd: (reason) => ends.push(reason),
      onLook: () => looks++,
      onClaimsChanged: () => news++,
      ...handlers,
    });
  return {
    clock,
    channel,
    sessions,
    streams,
    session,
    ends,
    looks: () => looks,
    news: () => news,
    say: (text: string) => say(text),
    watch() {
      const stop = watch();
      stops.push(stop);
      return stop;
    },
  };
}

describe('watchSession', () => {
  it('tells the reason of an end once, and takes the connection off the list', async () => {
    const world = await startWatching();
    world.watch();
    expect(world.streams.count('x')).toBe(1);
    await world.sessions.end(world.session.handle, 'admin');
    await world.sessions.end(world.session.handle, 'logout');
    expect(world.ends).toEqual(['admin']);
    expect(world.streams.count('x')).toBe(0);
  });

  it('finds an end that came before it listened', async () => {
    const world = await startWatching();
    await world.sessions.end(world.session.handle, 'logout');
    world.watch();
    await until(() => world.ends.length === 1);
    expect(world.ends).toEqual(['expired']);
  });

  it('finds the idle end, which nobody announces', async () => {
    const world = await startWatching();
    world.watch();
    await until(() => world.looks() > 0);
    expect(world.ends).toEqual([]);
    world.clock.advance(2000);
    await until(() => world.ends.length === 1);
    expect(world.ends).toEqual(['expired']);
  });

  it('is silent once it was stopped', async () => {
    const world = await startWatching();
    world.watch()();
    await world.sessions.end(world.session.handle, 'logout');
    void world.channel.publish({ kind: 'claims_changed', handle: world.session.handle });
    expect([world.ends, world.news(), world.streams.count('x')]).toEqual([[], 0, 0]);
  });

  it('ends without a reason when the process stops, and at once for whoever comes later', async () => {
    const world = await startWatching();
    world.watch();
    world.streams.closeAll();
    expect(world.ends).toEqual([undefined]);
    world.watch();
    await until(() => world.ends.length === 2);
    expect(world.streams.count('x')).toBe(0);
  });

  it('hears what other replicas say, and ignores what they would never say', async () => {
    const world = await startWatching();
    world.watch();
    const { handle } = world.session;
    for (const text of [
      '',
      'null',
      '[]',
      '{',
      '"ended"',
      JSON.stringify({ kind: 'ended', handle }),
      JSON.stringify({ kind: 'ended', handle, reason: { evil: 1 } }),
      JSON.stringify({ kind: 'ended', handle, reason: 'because\n\ndata: x' }),
      JSON.stringify({ kind: 'ended', handle: [handle], reason: 'logout' }),
      JSON.stringify({ kind: 'started', handle }),
      JSON.stringify({ kind: 'ended', handle: `${handle}x`, reason: 'logout' }),
    ])
      world.say(text);
    expect(world.ends).toEqual([]);
    world.say(JSON.stringify({ kind: 'claims_changed', handle }));
    expect(world.news()).toBe(1);
    world.say(JSON.stringify({ kind: 'ended', handle, reason: 'back-channel-logout' }));
    expect(world.ends).toEqual(['back-channel-logout']);
  });
});
