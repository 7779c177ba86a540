import type { SessionTimes, StoredSession } from './record.ts';

/** What may have changed of a session whose generation has not. */
export type CurrentTimes = Pick<SessionTimes, 'generation' | 'expiresAt' | 'lastSeenAt' | 'now'>;

/** A new record. `handle` is the hash of the session id. */
export interface NewRecord {
  handle: string;
  writer: string;
  /** Epoch seconds: the store's clock as it was asked for a moment ago. Sealed in the record, so it can't be the store's own word. */
  createdAt: number;
  /** Absolute life in seconds, from `createdAt`. */
  absoluteTimeout: number;
  idleTimeout: number;
  identity: Buffer;
  tokens: Buffer;
  /** Index entries: hash of (issuer, sid) and of (issuer, sub). */
  sidKey?: string;
  subKey: string;
  /** Index entry of the frontend, for operators who end all of its sessions. */
  frontendKey?: string;
}

/** Answer to `acquire` (REFRESH.md D2). */
export type Acquired =
  | { kind: 'acquired'; session: StoredSession }
  /** Somebody refreshed already: use that. */
  | { kind: 'newer'; session: StoredSession }
  | { kind: 'busy'; retryAfterMs: number }
  /** A refresh failed a moment ago: do not queue on a dead authorization server (RF12). */
  | { kind: 'backoff'; retryAfterMs: number; isRefused: boolean }
  | { kind: 'gone' };

export interface Commit {
  handle: string;
  owner: string;
  expectedGeneration: number;
  tokens: Buffer;
  identity: Buffer;
  /** Epoch seconds: brings the absolute end nearer, never further away. */
  endsAt?: number;
}

/** When sessions of an index key were ended last, by us and by the provider. Epoch seconds. */
export interface EndedMark {
  /** On the store's clock. */
  byUs?: number;
  /** `before` on the provider's. */
  byProvider?: { at: number; before: number };
}

export type Committed = 'committed' | 'gone' | 'stale';

export type Ended = { kind: 'ended'; sidKey?: string; subKey?: string } | { kind: 'gone' } | { kind: 'moved' };

/**
 * What keeps sessions: Redis, or this process's memory. Every change needs the record to exist and its generation to
 * match; nothing can bring back what `end` took away (SE4). All methods throw `StoreUnavailableError` when the store
 * can't be asked: that is never "no session" (SE12).
 */
export interface SessionStore {
  /**
   * `refused` when the handle exists or ended a short while ago; `late` when `createdAt` is more than two seconds off.
   * Idempotent for the same writer.
   */
  create(record: NewRecord): Promise<'created' | 'refused' | 'late'>;
  read(handle: string): Promise<StoredSession | undefined>;
  /** As `read`, but leaves out what is known already: the sealed parts of this generation. */
  readIfMoved(look: { handle: string; generation: number }): Promise<StoredSession | CurrentTimes | undefined>;
  /** Notes that the session was used now. */
  touch(handle: string, idleTimeout: number): Promise<void>;
  /** Takes the refresh lease for the generation that the caller saw. Idempotent for the same owner. */
  acquire(handle: string, expectedGeneration: number, owner: string, leaseMs: number): Promise<Acquired>;
  /** Compare-and-set of the token set; frees the owner's lease. Idempotent for the same owner. */
  commit(commit: Commit): Promise<Committed>;
  /**
   * Frees the owner's lease and tells others not to try again before `backoffMs`; and whether the authorization server
   * refused, so that they know as much as the one who asked (W24).
   */
  fail(handle: string, owner: string, expectedGeneration: number, backoffMs: number, isRefused: boolean): Promise<void>;
  /** Ends a session for good; with `expectedGeneration` only if nobody refreshed it meanwhile. */
  end(handle: string, expectedGeneration?: number): Promise<Ended>;
  /** Handles in an index. Ended sessions are not in it, nor expired ones; one that idled out may still be. */
  listBySid(sidKey: string): Promise<string[]>;
  listBySub(subKey: string): Promise<string[]>;
  listByFrontend(frontendKey: string): Promise<string[]>;
  /** True the first time a marker is seen within its life: one-time use of a login, a logout token (CB2, LO8). */
  markUsed(marker: string, ttlSeconds: number): Promise<boolean>;
  /** Was it marked within its life? */
  isUsed(marker: string): Promise<boolean>;
  /** Keeps something sealed for whoever knows its key. */
  keep(key: string, value: Buffer, ttlSeconds: number): Promise<void>;
  /** What was kept under the key, within its life and once. */
  take(key: string): Promise<Buffer | undefined>;
  /**
   * Notes that sessions of an index key were ended: a login that is under way has made none yet, and will look (W11).
   * `before`: the provider ended them, and means logins up to that instant of its own clock.
   */
  markEnded(key: string, before: number | undefined, ttlSeconds: number): Promise<void>;
  endedMark(key: string): Promise<EndedMark>;
  /** The store's clock, epoch seconds; with `handle`, that of the node which keeps it. */
  now(handle?: string): Promise<number>;
  /** Throws when the store can't be asked. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** How far the creation time of a record may be from the store's clock. Seconds. */
export const creationTolerance = 2;

/** How long an ended session's handle stays refused: longer than any lease and any request. Seconds. */
export const tombstoneSeconds = 600;
