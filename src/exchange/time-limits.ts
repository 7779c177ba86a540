/** Something with limits of time: it counts how often it is looked at. */
export interface Limited {
  /** Where `time-limits.ts` has it; nobody else's. */
  place: number;
  look(): void;
}

/** Milliseconds between two looks. Limits are kept to within two of them, never early. */
export const lookMs = 250;

/** No Set: V8's leave their outgrown tables behind, full of what was in them, and scavenges take those for alive. */
const underWay: Limited[] = [];
let looking: NodeJS.Timeout | undefined;

/**
 * One timer for all calls of the process instead of two for each: undici keeps its cleared timers for half a second,
 * which is long enough for V8 to take them for old, and collections of the old generation are what the 99th percentile
 * consists of. Looks are counted, not clocks read: a process that was stopped for a while finds what has arrived
 * meanwhile before any limit passes.
 */
export function keepLimits(limited: Limited): void {
  limited.place = underWay.push(limited) - 1;
  looking ??= setInterval(lookAtAll, lookMs).unref();
}

export function dropLimits(limited: Limited): void {
  if (underWay[limited.place] !== limited) return;
  const last = underWay.pop();
  if (last === undefined || last === limited) return;
  underWay[limited.place] = last;
  last.place = limited.place;
}

function lookAtAll(): void {
  // Backwards: whoever ends meanwhile is replaced by one that has been looked at.
  for (let index = underWay.length - 1; index >= 0; index--) underWay[index]?.look();
  if (underWay.length > 0) return;
  clearInterval(looking);
  looking = undefined;
}
