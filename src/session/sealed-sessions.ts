import { LRUCache } from 'lru-cache';
import { deriveSessionKeys, hashId, type KeyRing, type SealingKey } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import { recordFormat, type SessionTimes, type StoredSession } from '../store/record.ts';
import type { Committed, CurrentTimes, Ended, SessionStore } from '../store/store.ts';
import type { EndReason, SessionChannel, SessionEvent } from './events.ts';
import { createNearCache, type KnownSession } from './near-cache.ts';
import { type Identity, type Lifetimes, type Session, sessionState, shouldTouch } from './session.ts';

/** Answer to `acquire`, opened. */
export type AcquiredSession =
  | { kind: 'acquired' | 'newer'; session: Session }
  | { kind: 'busy' | 'backoff'; retryAfterMs: number }
  | { kind: 'gone' };

/** The sessions of one frontend: seals what goes into the store, opens what comes out, keeps both lifetimes. */
export interface SealedSessions {
  lifetimes: Lifetimes;
  /** Creates the session of a login, for `mostSeconds` at the most if the provider says so. `undefined` when the store refused (the id exists or has ended). */
  create(id: string, identity: Identity, tokens: string, mostSeconds?: number): Promise<Session | undefined>;
  /** As `use`, if that takes no look at the store now; most calls are answered so. */
  remembered(id: string): Session | undefined;
  /** The live session of this id, noted as used. `undefined` for unknown, ended, idle, expired or unreadable ones. */
  use(id: string): Promise<Session | undefined>;
  /** The same without noting that it was used: a check by a poll keeps nothing alive (SE8). */
  peek(id: string): Promise<Session | undefined>;
  /** How a live session stands, without its id and without opening it: for connections that stay open. */
  look(handle: string): Promise<SessionTimes | undefined>;
  acquire(session: Session, owner: string, leaseMs: number): Promise<AcquiredSession>;
  /** `endsAt`: the provider wants the session over by then (epoch seconds). */
  commit(session: Session, owner: string, tokens: string, identity: Identity, endsAt?: number): Promise<Committed>;
  fail(session: Session, owner: string, backoffMs: number): Promise<void>;
  /** Its browser has another session already: a login ended this one lately, and every replica heard of it. */
  wasReplaced(id: string): boolean;
  /** Ends a session for good and tells all replicas. With `expectedGeneration` only if nobody refreshed it meanwhile. */
  end(handle: string, reason: EndReason, expectedGeneration?: number): Promise<Ended>;
  /**
   * Ends the sessions of a provider session and/or subject; returns how many. `before`: only those whose login was
   * before that instant of the provider's clock.
   */
  endAll(whose: Whose, reason: EndReason, before?: number): Promise<number>;
  /** The live sessions of a provider session and/or subject. Needs no cookie, and so shows no token. */
  list(whose: Whose): Promise<ListedSession[]>;
}

/** At one issuer; with both, both must match (Back-Channel Logout §2.7). Or everybody's of this frontend. */
export type Whose = { issuer: string; sid?: string; subject?: string } | 'everybody';

/** What the inventory knows of a session. */
export interface ListedSession {
  handle: string;
  createdAt: number;
  expiresAt: number;
  lastSeenAt: number;
  identity: Identity;
}

export interface SealedSessionsOptions {
  /** Names the indexes: the same provider session is another one for another frontend's client. */
  frontend: string;
  store: SessionStore;
  channel: SessionChannel;
  keys: KeyRing;
  lifetimes: Lifetimes;
  /** This process, in the records that it makes. */
  writer: string;
  /** `maxAge` in milliseconds; 0: every call asks the store. */
  nearCache: { entries: number; maxAge: number };
}

export function createSealedSessions(options: SealedSessionsOptions): SealedSessions {
  const { frontend, store, channel, keys, lifetimes, writer } = options;
  const sidKey = (issuer: string, sid: string) => hashId(frontend, 'sid', issuer, sid);
  const subKey = (issuer: string, subject: string) => hashId(frontend, 'sub', issuer, subject);
  /** Of a layout that is known (SE10, T109), and within both lifetimes. The one rule for calls, streams and the inventory. */
  const isLive = <T extends SessionTimes>(stored: T | undefined): stored is T =>
    stored !== undefined &&
    stored.format >= 1 &&
    stored.format <= recordFormat &&
    sessionState(stored, lifetimes) === 'active';
  const near = createNearCache({
    ...options.nearCache,
    channel,
    derive: (id) => ({ handle: hashId(id), keys: deriveSessionKeys(keys.tokens, id) }),
  });
  const replaced = new LRUCache<string, true>({ max: 1000, ttl: 60_000 });
  const noteReplaced = (event: SessionEvent) => {
    if (event.kind === 'ended' && event.reason === 'replaced') replaced.set(event.handle, true);
  };
  channel.onEvent(noteReplaced);
  const isActive = (times: CurrentTimes) => sessionState(times, lifetimes) === 'active';
  const openStored = (
    id: string,
    { handle, keys: tokenKeys }: { handle: string; keys: SealingKey[] },
    stored: StoredSession | undefined,
  ): Session | undefined => {
    if (!isLive(stored)) return undefined;
    const identity = open(keys.identity, stored.identity, identityContext(handle));
    const tokens = open(tokenKeys, stored.tokens, tokensContext(handle, stored.generation));
    // Sealed with a key that was removed, swapped with another record, or damaged: as if absent (T52).
    if (identity === undefined || tokens === undefined) return undefined;
    const { generation, createdAt, expiresAt, lastSeenAt, now } = stored;
    return {
      id,
      handle,
      generation,
      createdAt,
      expiresAt,
      lastSeenAt,
      now,
      identity: JSON.parse(identity) as Identity,
      tokens,
    };
  };
  const sealBoth = (id: string, generation: number, identity: Identity, tokens: string) => {
    const handle = hashId(id);
    return {
      identity: seal(keys.identity, JSON.stringify(identity), identityContext(handle)),
      tokens: seal(deriveSessionKeys(keys.tokens, id), tokens, tokensContext(handle, generation)),
    };
  };
  const handlesOf = async (whose: Whose): Promise<string[]> => {
    if (whose === 'everybody') return store.listByFrontend(frontend);
    const { issuer, sid, subject } = whose;
    const bySid = sid === undefined ? undefined : await store.listBySid(sidKey(issuer, sid));
    const bySub = subject === undefined ? undefined : await store.listBySub(subKey(issuer, subject));
    if (bySid === undefined || bySub === undefined) return bySid ?? bySub ?? [];
    return bySid.filter((handle) => bySub.includes(handle));
  };
  const end = async (handle: string, reason: EndReason, expectedGeneration?: number): Promise<Ended> => {
    const ended = await store.end(handle, expectedGeneration);
    // Waited for, so that whoever is told of the end finds it true on the other replicas too.
    if (ended.kind === 'ended') {
      const event = { kind: 'ended', handle, reason } as const;
      noteReplaced(event);
      await channel.publish(event);
    }
    return ended;
  };
  /** The login on the provider's own clock, so that a provider whose clock is behind still logs its users out. */
  const beganAt = async (handle: string): Promise<number> => {
    const stored = await store.read(handle);
    const identity = stored && open(keys.identity, stored.identity, identityContext(handle));
    if (stored === undefined || identity === undefined) return Number.NEGATIVE_INFINITY;
    return (JSON.parse(identity) as Identity).issuedAt ?? stored.createdAt;
  };
  const read = async (id: string, known: KnownSession): Promise<Session | undefined> => {
    const mark = near.mark();
    const { session: before } = known;
    const stored = await (before === undefined
      ? store.read(known.handle)
      : store.readIfMoved({ handle: known.handle, generation: before.generation }));
    const isOver = stored !== undefined && !('format' in stored ? isLive(stored) : isActive(stored));
    if (stored === undefined || isOver) {
      near.forget(known.handle);
      return undefined;
    }
    let session: Session | undefined;
    if (before !== undefined && stored.generation === before.generation) {
      const { expiresAt, lastSeenAt, now } = stored;
      session = Object.assign(before, { expiresAt, lastSeenAt, now });
    } else {
      session = 'tokens' in stored ? openStored(id, known, stored) : undefined;
    }
    if (session !== undefined) near.keep(known, session, mark);
    return session;
  };
  const peek = (id: string) => read(id, near.of(id));

  return {
    lifetimes,
    async create(id, identity, tokens, mostSeconds = Number.POSITIVE_INFINITY) {
      const created = await store.create({
        handle: hashId(id),
        writer,
        absoluteTimeout: Math.max(1, Math.floor(Math.min(lifetimes.absoluteTimeout, mostSeconds))),
        idleTimeout: lifetimes.idleTimeout,
        ...sealBoth(id, 1, identity, tokens),
        ...(identity.sid === undefined ? {} : { sidKey: sidKey(identity.issuer, identity.sid) }),
        subKey: subKey(identity.issuer, identity.subject),
        frontendKey: frontend,
      });
      return created === 'created' ? peek(id) : undefined;
    },
    remembered(id) {
      const session = near.fresh(near.of(id));
      return session !== undefined && isActive(session) && !shouldTouch(session, lifetimes) ? session : undefined;
    },
    async use(id) {
      const known = near.of(id);
      const remembered = near.fresh(known);
      // What looks idle or expired from here may have been used on another replica.
      const session = remembered !== undefined && isActive(remembered) ? remembered : await read(id, known);
      if (session !== undefined && shouldTouch(session, lifetimes)) {
        await store.touch(session.handle, lifetimes.idleTimeout);
        session.lastSeenAt = Math.floor(session.now);
      }
      return session;
    },
    peek,
    async look(handle) {
      const stored = await store.read(handle);
      return isLive(stored) ? stored : undefined;
    },
    async acquire(session, owner, leaseMs) {
      const answer = await store.acquire(session.handle, session.generation, owner, leaseMs);
      if (answer.kind !== 'acquired' && answer.kind !== 'newer') return answer;
      if (answer.kind === 'newer') near.forget(session.handle);
      const opened = openStored(session.id, near.of(session.id), answer.session);
      return opened === undefined ? { kind: 'gone' } : { kind: answer.kind, session: opened };
    },
    async commit(session, owner, tokens, identity, endsAt) {
      const { id, handle, generation } = session;
      const committed = await store.commit({
        handle,
        owner,
        expectedGeneration: generation,
        ...sealBoth(id, generation + 1, identity, tokens),
        ...(endsAt === undefined ? {} : { endsAt }),
      });
      if (committed === 'committed') void channel.publish({ kind: 'refreshed', handle });
      return committed;
    },
    wasReplaced: (id) => replaced.has(hashId(id)),
    fail: (session, owner, backoffMs) => store.fail(session.handle, owner, session.generation, backoffMs),
    end,
    async endAll(whose, reason, before) {
      let count = 0;
      for (const handle of await handlesOf(whose)) {
        if (before !== undefined && (await beganAt(handle)) > before) continue;
        if ((await end(handle, reason)).kind === 'ended') count++;
      }
      return count;
    },
    async list(whose) {
      const listed: ListedSession[] = [];
      for (const handle of await handlesOf(whose)) {
        const stored = await store.read(handle);
        if (!isLive(stored)) continue;
        const identity = open(keys.identity, stored.identity, identityContext(handle));
        if (identity === undefined) continue;
        const { createdAt, expiresAt, lastSeenAt } = stored;
        listed.push({ handle, createdAt, expiresAt, lastSeenAt, identity: JSON.parse(identity) as Identity });
      }
      return listed.sort((a, b) => a.createdAt - b.createdAt);
    },
  };
}

// What the sealed bytes are and whose. The generation keeps an old token set out of a newer record.
const identityContext = (handle: string) => `identity/${recordFormat}/${handle}`;
const tokensContext = (handle: string, generation: number) => `tokens/${recordFormat}/${handle}/${generation}`;
