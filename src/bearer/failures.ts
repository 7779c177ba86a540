import { createRemembered } from './remembered.ts';

/** So many tokens of one client may turn out to be nothing in this time, each at the price of a question or a signature. */
const mostFailures = 120;
const windowMs = 60_000;

/** The client has brought too many bad tokens: none that is not known already is looked at. */
export class TooManyFailuresError extends Error {
  override readonly name = 'TooManyFailuresError';
  readonly retryAfterSeconds: number;
  constructor(retryAfterSeconds: number) {
    super('too many bad tokens');
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export interface Failures {
  /** Throws `TooManyFailuresError` for who has had too many. */
  check(client: string): void;
  note(client: string): void;
}

/**
 * Who brings bad tokens again and again. Only failures count, and what is known to be good is never asked about here:
 * behind a load balancer that is not in `trustedProxies` all clients are one.
 */
export function createFailures(nowMs: () => number): Failures {
  const clients = createRemembered<{ count: number; until: number }>();
  return {
    check(client) {
      const now = nowMs();
      const known = clients.get(client, now);
      if (known !== undefined && known.count >= mostFailures)
        throw new TooManyFailuresError(Math.ceil((known.until - now) / 1000));
    },
    note(client) {
      if (client === '') return; // gone already: the line alone bounds what it costs
      const now = nowMs();
      const known = clients.get(client, now);
      if (known === undefined) clients.set(client, { count: 1, until: now + windowMs }, now + windowMs);
      else known.count++;
    },
  };
}
