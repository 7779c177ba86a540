import { setTimeout as delay } from 'node:timers/promises';

export interface UntilOptions {
  timeoutMs?: number;
  /** What was awaited, for the failure text. */
  message?: string;
}

/** Polls until the predicate gives a truthy value and returns that value. Throws after `timeoutMs` (5 s). */
export async function until<T>(
  predicate: () => T | Promise<T>,
  { timeoutMs = 5000, message = 'the condition' }: UntilOptions = {},
): Promise<NonNullable<Exclude<T, false | 0 | ''>>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await predicate();
    if (value) return value as NonNullable<Exclude<T, false | 0 | ''>>;
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${message}`);
    await delay(5);
  }
}
