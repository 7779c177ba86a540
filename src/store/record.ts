import { StoreUnavailableError } from '../redis/client.ts';

/** How a session stands. Instants are epoch seconds on the store's clock. */
export interface SessionTimes {
  format: number;
  /** Moves by one with every committed token set. */
  generation: number;
  createdAt: number;
  /** Absolute end; a refresh never moves it (SE1). */
  expiresAt: number;
  lastSeenAt: number;
  /** The store's clock when it was read, so that a replica's own clock decides nothing (T53). */
  now: number;
}

/** A session as the store keeps it. */
export interface StoredSession extends SessionTimes {
  identity: Buffer;
  tokens: Buffer;
}

/**
 * The layout that records are written in. A release freezes it: what a release wrote, every later one opens. A new one
 * is read for one release before it is written, because replicas of two releases run side by side during an upgrade
 * (docs/upgrading.md, ADR 15).
 */
export const recordFormat = 1;

/** Another release wrote this record: it is there, and it is not known what it says. Nobody is logged out for that. */
export class NewerRecordError extends StoreUnavailableError {
  constructor(format: number) {
    super(`a record has format ${format}, which a newer release writes`);
  }
}

/** Was it written by this release or an older one? Throws for a newer one; `false` for what no release writes (T109). */
export function isKnownFormat({ format }: Pick<SessionTimes, 'format'>): boolean {
  if (format > recordFormat) throw new NewerRecordError(format);
  return format >= 1;
}

/** Not one of a newer release: what can't be read is neither listed nor asked when it began. */
export function isReadable(stored: StoredSession | undefined): stored is StoredSession {
  return stored !== undefined && stored.format <= recordFormat;
}
