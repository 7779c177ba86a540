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

/** Version of the record layout; a record of a newer one is treated as absent (SE10). */
export const recordFormat = 1;
