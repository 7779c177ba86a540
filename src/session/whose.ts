import type { Identity } from './session.ts';

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

/** What the index says, the sealed identity must say too (W12). */
export function isOf(whose: Whose, { issuer, subject, sid }: Identity): boolean {
  if (whose === 'everybody') return true;
  return (
    whose.issuer === issuer &&
    (whose.subject === undefined || whose.subject === subject) &&
    (whose.sid === undefined || whose.sid === sid)
  );
}

/** Of a login that is under way. Epoch seconds. */
export interface LoginTimes {
  /** The user was sent to the provider; by the clock of the replica that did it. */
  begunAt: number;
  /** The user came back with the answer; on the store's clock. */
  startedAt: number;
}
