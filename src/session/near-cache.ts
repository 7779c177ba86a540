import { LRUCache } from 'lru-cache';
import type { SealingKey } from '../crypto/keys.ts';
import type { SessionChannel } from './events.ts';
import type { Session } from './session.ts';

/** What this process remembers of a session id that a browser sent. Tokens in it are in the clear: it is bounded. */
export interface KnownSession {
  /** Hash of the id, and keys derived from it: they never change. */
  readonly handle: string;
  readonly keys: SealingKey[];
  /** As it was opened last. Whoever uses it asks the store whether it has moved, or `fresh` whether that may wait. */
  session?: Session;
  /** When the store was asked last, and what its clock said. */
  readAtMs: number;
  storeNow: number;
  /** The newest generation that was seen; infinite once it ended. A record that is older was put back (W12). */
  newest: number;
  /** It belongs to another issuer or client (W6). */
  isForeign?: boolean;
}

/** The moment before the store is asked: its answer may be kept only if nothing happened since. */
export interface Mark {
  events: number;
  atMs: number;
}

export interface NearCache {
  of(id: string): KnownSession;
  /** The session without asking the store: read at most `maxAge` ago, and nothing was heard of it since. */
  fresh(known: KnownSession): Session | undefined;
  mark(): Mark;
  keep(known: KnownSession, session: Session, mark: Mark): void;
  /** The store says, or somebody heard, that it is over or has moved on. */
  forget(handle: string): void;
}

export interface NearCacheOptions {
  /** Sessions to remember. */
  entries: number;
  /** Milliseconds; 0: the store is asked for every call. */
  maxAge: number;
  channel: SessionChannel;
  /** What a session id gives, worked out once. */
  derive(id: string): { handle: string; keys: SealingKey[] };
  /** Monotonic milliseconds. */
  clock?: () => number;
}

/**
 * Saves calls the way to Redis, and in any case the work to derive keys and to open the same record again. Every replica
 * hears at once when a session ends; should the message get lost, `maxAge` is how long the end may go unnoticed, and
 * while the subscription is down nothing is served from here.
 */
export function createNearCache(options: NearCacheOptions): NearCache {
  const { entries, maxAge, channel, derive, clock = () => performance.now() } = options;
  const byHandle = new Map<string, KnownSession>();
  const known = new LRUCache<string, KnownSession>({
    max: entries,
    // What is dropped may come in again under the same handle before it is disposed of.
    dispose: (gone) => void (byHandle.get(gone.handle) === gone && byHandle.delete(gone.handle)),
  });
  let events = 0;
  /** Nothing that was read before this instant is fresh. */
  let validFromMs = Number.NEGATIVE_INFINITY;

  const forget = (handle: string) => {
    events++; // an answer of the store that is on its way may be older than this
    const entry = byHandle.get(handle);
    if (entry === undefined) return;
    delete entry.session;
    entry.readAtMs = Number.NEGATIVE_INFINITY;
  };
  channel.onEvent(({ kind, handle }) => {
    forget(handle);
    const entry = byHandle.get(handle);
    if (kind === 'ended' && entry !== undefined) entry.newest = Number.POSITIVE_INFINITY;
  });
  channel.onDown(() => {
    events++;
    validFromMs = clock();
  });

  return {
    of(id) {
      const found = known.get(id);
      if (found !== undefined) return found;
      const entry: KnownSession = { ...derive(id), readAtMs: Number.NEGATIVE_INFINITY, storeNow: 0, newest: 0 };
      known.set(id, entry);
      byHandle.set(entry.handle, entry);
      return entry;
    },
    fresh(entry) {
      const { session, readAtMs } = entry;
      if (session === undefined || maxAge === 0) return undefined;
      const now = clock();
      if (now - readAtMs >= maxAge || readAtMs <= validFromMs || !channel.isUp()) return undefined;
      // The store's clock goes on as ours does; a replica whose own is wrong decides nothing (T53).
      session.now = entry.storeNow + (now - readAtMs) / 1000;
      return session;
    },
    mark: () => ({ events, atMs: clock() }),
    keep(entry, session, mark) {
      // Something happened to some session while the store was asked: this answer may be from before.
      if (mark.events !== events) return;
      entry.session = session;
      // From before the way there and back: better too old than too young.
      entry.readAtMs = mark.atMs;
      entry.storeNow = session.now;
    },
    forget,
  };
}
