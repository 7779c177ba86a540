import { deriveSessionKeys, hashId, type KeyRing } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import {
  type Identity,
  type Lifetimes,
  recordFormat,
  type Session,
  type StoredSession,
  sessionState,
  shouldTouch,
} from './session.ts';
import type { Committed, Ended, SessionStore } from './store.ts';

/** Answer to `acquire`, opened. */
export type AcquiredSession =
  | { kind: 'acquired' | 'newer'; session: Session }
  | { kind: 'busy' | 'backoff'; retryAfterMs: number }
  | { kind: 'gone' };

/** The sessions of one frontend: seals what goes into the store, opens what comes out, keeps both lifetimes. */
export interface SealedSessions {
  lifetimes: Lifetimes;
  /** Creates the session of a login. `undefined` when the store refused (the id exists or has ended). */
  create(id: string, identity: Identity, tokens: string): Promise<Session | undefined>;
  /** The live session of this id, noted as used. `undefined` for unknown, ended, idle, expired or unreadable ones. */
  use(id: string): Promise<Session | undefined>;
  /** The same without noting that it was used: a check by a poll keeps nothing alive (SE8). */
  peek(id: string): Promise<Session | undefined>;
  acquire(session: Session, owner: string, leaseMs: number): Promise<AcquiredSession>;
  commit(session: Session, owner: string, tokens: string, identity: Identity): Promise<Committed>;
  fail(session: Session, owner: string, backoffMs: number): Promise<void>;
  end(handle: string, expectedGeneration?: number): Promise<Ended>;
}

export function createSealedSessions(
  store: SessionStore,
  keys: KeyRing,
  lifetimes: Lifetimes,
  writer: string,
): SealedSessions {
  const openStored = (id: string, stored: StoredSession | undefined): Session | undefined => {
    if (stored === undefined || stored.format > recordFormat || sessionState(stored, lifetimes) !== 'active')
      return undefined;
    const handle = hashId(id);
    const identity = open(keys.identity, stored.identity, identityContext(handle));
    const tokens = open(deriveSessionKeys(keys.tokens, id), stored.tokens, tokensContext(handle, stored.generation));
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
  const peek = async (id: string) => openStored(id, await store.read(hashId(id)));

  return {
    lifetimes,
    async create(id, identity, tokens) {
      const created = await store.create({
        handle: hashId(id),
        writer,
        absoluteTimeout: lifetimes.absoluteTimeout,
        idleTimeout: lifetimes.idleTimeout,
        ...sealBoth(id, 1, identity, tokens),
        ...(identity.sid === undefined ? {} : { sidKey: hashId(identity.issuer, identity.sid) }),
        subKey: hashId(identity.issuer, identity.subject),
      });
      return created === 'created' ? peek(id) : undefined;
    },
    async use(id) {
      const session = await peek(id);
      if (session !== undefined && shouldTouch(session, lifetimes)) {
        await store.touch(session.handle, lifetimes.idleTimeout);
      }
      return session;
    },
    peek,
    async acquire(session, owner, leaseMs) {
      const answer = await store.acquire(session.handle, session.generation, owner, leaseMs);
      if (answer.kind !== 'acquired' && answer.kind !== 'newer') return answer;
      const opened = openStored(session.id, answer.session);
      return opened === undefined ? { kind: 'gone' } : { kind: answer.kind, session: opened };
    },
    commit(session, owner, tokens, identity) {
      const { id, handle, generation } = session;
      return store.commit({
        handle,
        owner,
        expectedGeneration: generation,
        ...sealBoth(id, generation + 1, identity, tokens),
      });
    },
    fail: (session, owner, backoffMs) => store.fail(session.handle, owner, session.generation, backoffMs),
    end: (handle, expectedGeneration) => store.end(handle, expectedGeneration),
  };
}

// What the sealed bytes are and whose. The generation keeps an old token set out of a newer record.
const identityContext = (handle: string) => `identity/${recordFormat}/${handle}`;
const tokensContext = (handle: string, generation: number) => `tokens/${recordFormat}/${handle}/${generation}`;
