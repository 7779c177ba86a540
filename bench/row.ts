import type { Spread } from './statistics.ts';

/** One line of the table, and one member of `rows` in the JSON. */
export interface Row {
  /** As `--only` takes it. */
  name: string;
  title: string;
  /** `absent`: not installed or not built yet. `invalid`: it was loaded, and answered something else than it should. */
  status: 'measured' | 'absent' | 'invalid';
  /** Why it is not `measured`. */
  why?: string;
  /** What a reader must know besides. */
  note?: string;
  rounds?: number;
  /** Microseconds of processor time for each request, by the kernel's accounting. */
  cpuUs?: Spread | null;
  /** The same as a multiple of the bare Node proxy's in the same round. */
  ratioToBare?: Spread | null;
  requestsPerSecond?: Spread | null;
  p50Ms?: Spread | null;
  p99Ms?: Spread | null;
  rssMiB?: Spread | null;
  /** Commands that Redis ran for each request; those within a script count. */
  redisCommands?: Spread | null;
  /** Round trips to Redis for each request; below those that it takes one by one when several share one. */
  redisReads?: Spread | null;
  /** Microseconds of Redis's own processor time for each request. */
  redisCpuUs?: Spread | null;
  /** Share of one core that the proxy used. */
  busy?: Spread | null;
  /** Share of the proxy’s core that somebody else had meanwhile. */
  others?: Spread | null;
  /** Numbers of the rows that measure something else than the plain GET. */
  details?: Record<string, number | Spread | null>;
}

/** Medians, each named as issue 5 names it; null for what is not there. */
export interface Ratios {
  /** Cloakroom with a warm near cache ÷ bare Node proxy, processor time for each request. */
  warm: number | null;
  /** Cloakroom that reads Redis on each call ÷ bare Node proxy. */
  perCall: number | null;
  /** Cloakroom (warm if that is there, else perCall) ÷ Apache with mod_auth_openidc on Redis. */
  modAuthOpenidc: number | null;
  /** Cloakroom’s ÷ the bare Node proxy’s 99th percentile at the same load. */
  p99: number | null;
  /** Two workers ÷ one, processor time for each request. */
  workers: number | null;
}

/** What each ratio must stay below, from issue 5. */
export const targets: Record<keyof Ratios, number> = {
  warm: 1.4,
  perCall: 1.7,
  modAuthOpenidc: 0.25,
  p99: 2,
  workers: 1.15,
};
