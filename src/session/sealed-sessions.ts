import { LRUCache } from 'lru-cache';
import { deriveSessionKeys, hashId, type KeyRing } from '../crypto/keys.ts';
import { isKnownFormat, isReadable, type SessionTimes, type StoredSession } from '../store/record.ts';
import {
  type Acquired,
  type Committed,
  type CurrentTimes,
  type Ended,
  type SessionStore,
  tombstoneSeconds,
} from '../store/store.ts';
import type { EndReason, SessionChannel, SessionEvent } from './events.ts';
import { createNearCache, type KnownSession } from './near-cache.ts';
import { createRecordFormat, type Owner } from './record-format.ts';
import { type Identity, type Lifetimes, type Session, sessionState, shouldTouch } from './session.ts';
import { isOf, type ListedSession, type LoginTimes, type Whose } from './whose.ts';

/** Answer to `acquire`, opened. */
export type AcquiredSession =
  | { kind: 'acquired' | 'newer'; session: Session }
  | Exclude<Acquired, { kind: 'acquired' | 'newer' }>;

/** The sessions of one frontend: seals what goes into the store, opens what comes out, keeps both lifetimes. */
export interface SealedSessions {
  lifetimes: Lifetimes;
  /**
   * Creates the session of a login, for `mostSeconds` at the most if the provider says so. `now`: what the store's clock
   * said a moment ago, epoch seconds. `undefined` when the store refused (the id exists or has ended).
   */
  create(
    id: string,
    identity: Identity,
    tokens: string,
    options?: { mostSeconds?: number; now?: number },
  ): Promise<Session | undefined>;
  /** As `use`, if that takes no look at the store now; most calls are answered so. */
  remembered(id: string): Session | undefined;
  /** The live session of this id, noted as used. `undefined` for unknown, ended, idle, expired or unreadable ones. */
  use(id: string): Promise<Session | undefined>;
  /** The same without noting that it was used: a check by a poll keeps nothing alive (SE8). */
  peek(id: string): Promise<Session | undefined>;
  /**
   * How a live session stands, without its id and without opening it: for connections that stay open. It ends no later
   * than it did when it was opened (W12).
   */
  look(session: Pick<Session, 'handle' | 'expiresAt'>): Promise<SessionTimes | undefined>;
  acquire(session: Session, owner: string, leaseMs: number): Promise<AcquiredSession>;
  /** `endsAt`: the provider wants the session over by then (epoch seconds). */
  commit(session: Session, owner: string, tokens: string, identity: Identity, endsAt?: number): Promise<Committed>;
  fail(session: Session, owner: string, backoffMs: number, isRefused?: boolean): Promise<void>;
  /** Its browser has another session already: a login ended this one lately, and every replica heard of it. */
  wasReplaced(id: string): boolean;
  /** Another issuer's or client's, as the last look at the store said: its cookie is not ours to clear (W6). */
  isSomebodyElses(id: string): boolean;
  /** Ends a session for good and tells all replicas. With `expectedGeneration` only if nobody refreshed it meanwhile. */
  end(handle: string, reason: EndReason, expectedGeneration?: number): Promise<Ended>;
  /**
   * Ends the sessions of a provider session and/or subject; returns how many. `before`: only those whose login was
   * before that instant of the provider's clock.
   */
  endAll(whose: Whose, reason: EndReason, before?: number): Promise<number>;
  /**
   * Were sessions like this one ended while its login was under way? A login asks once its session is there: a logout
   * that arrived before found nothing to end (W11).
   */
  wasEndedSince(identity: Identity, login: LoginTimes): Promise<boolean>;
  /** The live sessions of a provider session and/or subject. Needs no cookie, and so shows no token. */
  list(whose: Whose): Promise<ListedSession[]>;
}

export interface SealedSessionsOptions {
  /** Names the indexes: the same provider session is another one for another frontend's client. */
  frontend: string;
  store: SessionStore;
  channel: SessionChannel;
  keys: KeyRing;
  /** Whose sessions they are: what belongs to another issuer or client reads as absent (W6). */
  owner: Owner;
  lifetimes: Lifetimes;
  log: { warn(facts: object, message: string): void };
  /** This process, in the records that it makes. */
  writer: string;
  /** `maxAge` in milliseconds; 0: every call asks the store. */
  nearCache: { entries: number; maxAge: number };
}

/** For the store's clock, before a login gives up. */
const mostQuestions = 5;

export function createSealedSessions(options: SealedSessionsOptions): SealedSessions {
  const { frontend, store, channel, keys, owner, lifetimes, writer, log } = options;
  const sidKey = (issuer: string, sid: string) => hashId(frontend, 'sid', issuer, sid);
  const subKey = (issuer: string, subject: string) => hashId(frontend, 'sub', issuer, subject);
  /** Of a layout that is known (T109), and within both lifetimes; throws for one of a newer release (SE10). The one rule for calls, streams and the inventory. */
  const isLive = <T extends SessionTimes>(stored: T | undefined): stored is T =>
    stored !== undefined && isKnownFormat(stored) && sessionState(stored, lifetimes) === 'active';
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
  const format = createRecordFormat(keys, owner);
  const openStored = (id: string, known: KnownSession, stored: StoredSession | undefined): Session | undefined => {
    if (!isLive(stored)) return undefined;
    const { handle } = known;
    const { generation, createdAt, expiresAt, lastSeenAt, now } = stored;
    // Sealed with a key that was removed, swapped, put together from two, or damaged: as if absent (T52, W12).
    const opened = format.open(handle, known.keys, stored);
    if (opened === undefined) known.isForeign = format.isForeign(handle, stored);
    if (opened === undefined) return undefined;
    known.newest = Math.max(known.newest, generation);
    return { id, handle, generation, createdAt, expiresAt, lastSeenAt, now, ...opened };
  };
  const handlesOf = async (whose: Whose): Promise<string[]> => {
    if (whose === 'everybody') return store.listByFrontend(frontend);
    const { issuer, sid, subject } = whose;
    const bySid = sid === undefined ? undefined : await store.listBySid(sidKey(issuer, sid));
    const bySub = subject === undefined ? undefined : await store.listBySub(subKey(issuer, subject));
    if (bySid === undefined || bySub === undefined) return bySid ?? bySub ?? [];
    return bySid.filter((handle) => bySub.includes(handle));
  };
  /** Under what the end of all of them is noted; for this client alone, unlike the indexes. */
  const markKey = (whose: Whose): string => {
    if (whose === 'everybody') return hashId(frontend, owner.clientId, 'everybody', owner.issuer);
    const { issuer, sid, subject = '' } = whose;
    return hashId(frontend, owner.clientId, ...(sid === undefined ? ['sub', issuer, subject] : ['sid', issuer, sid]));
  };
  const end = async (handle: string, reason: EndReason, expectedGeneration?: number): Promise<Ended> => {
    const stored = await store.read(handle);
    if (stored !== undefined && format.isForeign(handle, stored)) return { kind: 'gone' }; // W6
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
    const identity = isReadable(stored) ? format.openIdentity(handle, stored) : undefined;
    return identity === undefined ? Number.NEGATIVE_INFINITY : (identity.issuedAt ?? stored?.createdAt ?? 0);
  };
  const read = async (id: string, known: KnownSession): Promise<Session | undefined> => {
    const mark = near.mark();
    const { session: before } = known;
    let stored = await (before === undefined
      ? store.read(known.handle)
      : store.readIfMoved({ handle: known.handle, generation: before.generation }));
    if (stored !== undefined && stored.generation < known.newest) {
      // Overtaken by what this process did meanwhile? Else somebody put an older record back, or a failover lost the
      // newer one: they can't be told apart, and what the older one allows may have been taken away (W12).
      stored = await store.read(known.handle);
      if (stored !== undefined && stored.generation < known.newest) {
        const session = known.handle.slice(0, 12);
        log.warn({ frontend, session, audit: 'session_rolled_back' }, 'a record older than one seen before is refused');
        stored = undefined;
      }
    }
    const isOver = stored !== undefined && !('format' in stored ? isLive(stored) : isActive(stored));
    if (stored === undefined || isOver) {
      near.forget(known.handle);
      return undefined;
    }
    let session: Session | undefined;
    if (before !== undefined && stored.generation === before.generation) {
      const { lastSeenAt, now } = stored;
      const expiresAt = Math.min(before.expiresAt, stored.expiresAt); // what the store says may only be nearer (W12)
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
    async create(id, identity, tokens, { mostSeconds = Number.POSITIVE_INFINITY, now } = {}) {
      const { handle, keys: tokenKeys } = near.of(id);
      const absoluteTimeout = Math.max(1, Math.floor(Math.min(lifetimes.absoluteTimeout, mostSeconds)));
      const create = async (at: number) => {
        const createdAt = Math.floor(at);
        const times = { createdAt, expiresAt: createdAt + absoluteTimeout };
        return store.create({
          handle,
          writer,
          createdAt,
          absoluteTimeout,
          idleTimeout: lifetimes.idleTimeout,
          ...format.seal(handle, tokenKeys, { generation: 1, identity, tokens, ...times }),
          ...(identity.sid === undefined ? {} : { sidKey: sidKey(identity.issuer, identity.sid) }),
          subKey: subKey(identity.issuer, identity.subject),
          frontendKey: frontend,
        });
      };
      let created = await create(now ?? (await store.now(handle)));
      // Too long ago, or another node of a cluster said it.
      for (let more = 0; created === 'late' && more < mostQuestions; more++)
        created = await create(await store.now(handle));
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
    async look({ handle, expiresAt }) {
      const stored = await store.read(handle);
      if (stored === undefined) return undefined;
      const seen = { ...stored, expiresAt: Math.min(stored.expiresAt, expiresAt) };
      return isLive(seen) ? seen : undefined;
    },
    async acquire(session, owner, leaseMs) {
      const answer = await store.acquire(session.handle, session.generation, owner, leaseMs);
      if (answer.kind !== 'acquired' && answer.kind !== 'newer') return answer;
      if (answer.kind === 'newer') near.forget(session.handle);
      const opened = openStored(session.id, near.of(session.id), answer.session);
      return opened === undefined ? { kind: 'gone' } : { kind: answer.kind, session: opened };
    },
    async commit(session, owner, tokens, identity, endsAt) {
      const { id, handle, generation, createdAt } = session;
      const expiresAt = Math.min(session.expiresAt, endsAt ?? Number.POSITIVE_INFINITY);
      const content = { generation: generation + 1, identity, tokens, createdAt, expiresAt };
      const committed = await store.commit({
        handle,
        owner,
        expectedGeneration: generation,
        ...format.seal(handle, near.of(id).keys, content),
        ...(endsAt === undefined ? {} : { endsAt }),
      });
      if (committed === 'committed') {
        const known = near.of(id);
        known.newest = Math.max(known.newest, generation + 1);
        void channel.publish({ kind: 'refreshed', handle });
      }
      return committed;
    },
    wasReplaced: (id) => replaced.has(hashId(id)),
    isSomebodyElses: (id) => near.of(id).isForeign === true,
    fail: (session, owner, backoffMs, isRefused = false) =>
      store.fail(session.handle, owner, session.generation, backoffMs, isRefused),
    end,
    async endAll(whose, reason, before) {
      // First the mark, then the look: a session that is made in between is found by one of them.
      await store.markEnded(markKey(whose), before, tombstoneSeconds);
      let count = 0;
      for (const handle of await handlesOf(whose)) {
        if (before !== undefined && (await beganAt(handle)) > before) continue;
        if ((await end(handle, reason)).kind === 'ended') count++;
      }
      return count;
    },
    async wasEndedSince(identity, { begunAt, startedAt }) {
      const { issuer, subject, sid, issuedAt = 0 } = identity;
      // The provider's session of this very login ended after the login began: whatever the ID token's time says.
      const keys = [...(sid === undefined ? [] : [markKey({ issuer, sid })]), markKey({ issuer, subject })];
      const marks = await Promise.all([...keys, markKey('everybody')].map((key) => store.endedMark(key)));
      if (sid !== undefined && Math.max(marks[0]?.byUs ?? 0, marks[0]?.byProvider?.at ?? 0) > begunAt) return true;
      return marks.some(
        ({ byUs = 0, byProvider }) =>
          byUs > startedAt || (byProvider !== undefined && byProvider.at > startedAt && issuedAt <= byProvider.before),
      );
    },
    async list(whose) {
      const listed: ListedSession[] = [];
      for (const handle of await handlesOf(whose)) {
        const stored = await store.read(handle);
        const identity = isReadable(stored) && isLive(stored) ? format.openIdentity(handle, stored) : undefined;
        if (stored === undefined || identity === undefined || !isOf(whose, identity)) continue;
        const { createdAt, expiresAt, lastSeenAt } = stored;
        listed.push({ handle, createdAt, expiresAt, lastSeenAt, identity });
      }
      return listed.sort((a, b) => a.createdAt - b.createdAt);
    },
  };
}
