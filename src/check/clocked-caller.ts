import { type Caller, type CallerOptions, createCaller } from '../issuer/call.ts';

/** A caller that looks at the clocks of those who answer. */
export interface ClockedCaller extends Caller {
  /** How far each was ahead of ours at least; negative: behind. Milliseconds, newest last. */
  clockOffsets: number[];
}

export function createClockedCaller(timeoutMs: number, options: CallerOptions): ClockedCaller {
  const caller = createCaller(timeoutMs, options);
  const clockOffsets: number[] = [];
  return {
    clockOffsets,
    async fetch(url, request) {
      const sentAt = Date.now();
      const response = await caller.fetch(url, request);
      const clockOffset = offsetOf(response.headers, sentAt, Date.now());
      if (clockOffset !== undefined) clockOffsets.push(clockOffset);
      return response;
    },
    close: caller.close,
  };
}

/** `Date` has whole seconds (RFC 9110 §6.6.1) and was written at some time between our question and its answer. */
function offsetOf(headers: Headers, sentAt: number, receivedAt: number): number | undefined {
  const from = Date.parse(headers.get('date') ?? '') + Number(headers.get('age') ?? 0) * 1000;
  if (Number.isNaN(from)) return undefined;
  if (from + 1000 < sentAt) return from + 1000 - sentAt;
  return Math.max(0, from - receivedAt);
}
