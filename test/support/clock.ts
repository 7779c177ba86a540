/** A clock moved by hand. `now()` is epoch milliseconds, like `Date.now()`. */
export interface Clock {
  now(): number;
  advance(milliseconds: number): void;
}

/** Starts at the real time by default, so that token times made by real peers stay plausible. */
export function createClock(startMs: number = Date.now()): Clock {
  let current = startMs;
  return {
    now: () => current,
    advance(milliseconds) {
      current += milliseconds;
    },
  };
}
