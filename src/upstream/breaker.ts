/** Keeps requests from waiting for a target that does not answer. */
export interface Breaker {
  /** True while the target is left out. */
  readonly isOpen: boolean;
  /** Lets this one request try a target that is left out, if it is time for that. */
  takeTrial(): boolean;
  /** The target answered a request: whatever was thought of it before, it is there. */
  answered(): void;
  /** It did not: the connection failed, or (`wasSent`) nothing came back. `sinceMs`: when the request set out. */
  failed(sinceMs: number, wasSent: boolean): void;
  /** Nobody will know: the browser left, or the request itself was at fault. */
  abandoned(sinceMs: number): void;
  /** Milliseconds until the next trial. */
  untilTrial(): number;
}

export interface BreakerOptions {
  /** Failures in a row that open it. */
  failures: number;
  /** Milliseconds until the first trial; each trial doubles what follows. */
  openFor: number;
  onChange(isOpen: boolean): void;
  /** Monotonic milliseconds. */
  now?: () => number;
}

/** A target that had an answer for anybody within this time is not dead, whatever becomes of one user's requests. */
const silenceMs = 1000;
/** How often the pause before a trial doubles: from 1 s to 16 s. */
const mostDoublings = 4;

/**
 * A circuit breaker (docs/adr/0011-own-circuit-breaker.md tells why it is not a library's).
 *
 * A failed connection counts at once. A request that was sent and got no answer counts only if nobody at all got one
 * since it set out, and for a second at least: one user with a slow or crashing request must not be able to shut an
 * API for everybody else. For the same reason a trial that hangs does not hold up the next one.
 */
export function createBreaker({ failures, openFor, onChange, now = () => performance.now() }: BreakerOptions): Breaker {
  let inARow = 0;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let openedAt = 0;
  let nextTrialAt = 0;
  let trials = 0;
  // A quarter more or less: replicas, and targets that fell together, do not come back in step.
  const pause = () => openFor * 2 ** Math.min(trials, mostDoublings) * (0.75 + Math.random() / 2);

  const breaker: Breaker & { isOpen: boolean } = {
    isOpen: false,
    takeTrial() {
      const at = now();
      if (at < nextTrialAt) return false;
      trials++;
      nextTrialAt = at + pause();
      return true;
    },
    answered() {
      inARow = 0;
      answeredAt = now();
      if (!breaker.isOpen) return;
      breaker.isOpen = false;
      onChange(false);
    },
    failed(sinceMs, wasSent) {
      if (breaker.isOpen) return; // a trial, or a request from before: the next trial is set already
      const at = now();
      if (wasSent && answeredAt > Math.min(sinceMs, at - silenceMs)) return;
      inARow++;
      if (inARow < failures) return;
      breaker.isOpen = true;
      openedAt = at;
      trials = 0;
      nextTrialAt = at + pause();
      onChange(true);
    },
    abandoned(sinceMs) {
      if (!breaker.isOpen || sinceMs < openedAt) return;
      // As if it had not been: browsers that leave their trials must neither take them from others nor stretch the pause.
      trials = Math.max(0, trials - 1);
      nextTrialAt = now();
    },
    untilTrial: () => Math.max(0, nextTrialAt - now()),
  };
  return breaker;
}
