/** So many are kept of each kind: made-up tokens must not push the good ones out, nor fill the memory. */
const mostEntries = 10_000;

/** A good token is remembered for so long, whatever its `exp` says. Milliseconds. */
export const longestRemembered = 3_600_000;

export interface Remembered<T> {
  get(key: string, now: number): T | undefined;
  /** `until`: epoch milliseconds. */
  set(key: string, value: T, until: number): void;
  forget(key: string): void;
}

/** Values with an end, as many as may be; the oldest goes first. Keyed by a hash, as nothing here needs the token (TS8). */
export function createRemembered<T>(): Remembered<T> {
  const entries = new Map<string, { value: T; until: number }>();
  return {
    get(key, now) {
      const entry = entries.get(key);
      return entry !== undefined && now < entry.until ? entry.value : undefined;
    },
    set(key, value, until) {
      entries.delete(key);
      const [oldest] = entries.keys();
      if (entries.size >= mostEntries && oldest !== undefined) entries.delete(oldest);
      entries.set(key, { value, until });
    },
    forget(key) {
      entries.delete(key);
    },
  };
}
