import type { StoredSession } from './record.ts';
import { recordFormat } from './record.ts';
import type { Acquired, Commit, Committed, Ended, EndedMark, NewRecord, SessionStore } from './store.ts';
import { creationTolerance, tombstoneSeconds } from './store.ts';

interface MemoryRecord extends Omit<StoredSession, 'now'> {
  writer: string;
  sidKey?: string;
  subKey: string;
  frontendKey?: string;
  idleExpiresAt: number;
  /** Epoch milliseconds. */
  failUntil: number;
  isRefused?: boolean;
  lease?: { owner: string; until: number };
}

/** Expired entries are swept after this many changes, so that memory is bounded by live sessions. */
const sweepEvery = 1000;

/** Sessions in this process: for the demo, tests and a single replica. Same contract as Redis. */
export function createMemoryStore(nowMs: () => number): SessionStore {
  const records = new Map<string, MemoryRecord>();
  const tombstones = new Map<string, number>();
  const markers = new Map<string, number>();
  const endedMarks = new Map<string, EndedMark & { until: number }>();
  const kept = new Map<string, { value: Buffer; until: number }>();
  let changes = 0;

  const alive = (handle: string): MemoryRecord | undefined => {
    const record = records.get(handle);
    const now = nowMs() / 1000;
    if (record === undefined || (now < record.expiresAt && now < record.idleExpiresAt)) return record;
    records.delete(handle);
    return undefined;
  };
  const snapshot = (record: MemoryRecord): StoredSession => {
    const { format, generation, createdAt, expiresAt, lastSeenAt, identity, tokens } = record;
    return { format, generation, createdAt, expiresAt, lastSeenAt, identity, tokens, now: nowMs() / 1000 };
  };
  const sweep = () => {
    if (++changes % sweepEvery !== 0) return;
    for (const handle of records.keys()) alive(handle);
    for (const map of [tombstones, markers]) for (const [key, until] of map) if (until <= nowMs()) map.delete(key);
    for (const map of [endedMarks, kept]) for (const [key, { until }] of map) if (until <= nowMs()) map.delete(key);
  };
  const list = (key: 'sidKey' | 'subKey' | 'frontendKey', value: string) =>
    [...records.entries()]
      .filter(([handle, record]) => record[key] === value && alive(handle))
      .map(([handle]) => handle);

  return {
    async create(record: NewRecord) {
      sweep();
      if ((tombstones.get(record.handle) ?? 0) > nowMs()) return 'refused';
      const existing = alive(record.handle);
      if (existing !== undefined) return existing.writer === record.writer ? 'created' : 'refused';
      const { handle, createdAt, absoluteTimeout, idleTimeout, ...rest } = record;
      if (Math.abs(nowMs() / 1000 - createdAt) > creationTolerance) return 'late';
      const now = Math.floor(nowMs() / 1000);
      records.set(handle, {
        ...rest,
        format: recordFormat,
        generation: 1,
        createdAt,
        lastSeenAt: now,
        expiresAt: createdAt + absoluteTimeout,
        idleExpiresAt: now + idleTimeout,
        failUntil: 0,
      });
      return 'created';
    },
    async read(handle) {
      const record = alive(handle);
      return record && snapshot(record);
    },
    async readIfMoved({ handle }) {
      const record = alive(handle);
      return record && snapshot(record); // nothing is saved by leaving out what is here anyway
    },
    async touch(handle, idleTimeout) {
      const record = alive(handle);
      if (record === undefined) return;
      record.lastSeenAt = Math.floor(nowMs() / 1000);
      record.idleExpiresAt = record.lastSeenAt + idleTimeout;
    },
    async acquire(handle, expectedGeneration, owner, leaseMs): Promise<Acquired> {
      const record = alive(handle);
      if (record === undefined) return { kind: 'gone' };
      if (record.generation !== expectedGeneration) return { kind: 'newer', session: snapshot(record) };
      const now = nowMs();
      if (record.failUntil > now)
        return { kind: 'backoff', retryAfterMs: record.failUntil - now, isRefused: record.isRefused === true };
      const lease = record.lease;
      if (lease !== undefined && lease.until > now && lease.owner !== owner) {
        return { kind: 'busy', retryAfterMs: lease.until - now };
      }
      if (lease?.owner !== owner || lease.until <= now) record.lease = { owner, until: now + leaseMs };
      return { kind: 'acquired', session: snapshot(record) };
    },
    async commit({ handle, owner, expectedGeneration, tokens, identity, endsAt }: Commit): Promise<Committed> {
      const record = alive(handle);
      if (record === undefined) return 'gone';
      if (record.generation !== expectedGeneration) {
        return record.generation === expectedGeneration + 1 && record.writer === owner ? 'committed' : 'stale';
      }
      Object.assign(record, { tokens, identity, generation: expectedGeneration + 1, writer: owner, failUntil: 0 });
      if (endsAt !== undefined) record.expiresAt = Math.min(record.expiresAt, endsAt);
      if (record.lease?.owner === owner) delete record.lease;
      return 'committed';
    },
    async fail(handle, owner, expectedGeneration, backoffMs, isRefused) {
      const record = alive(handle);
      if (record === undefined || record.generation !== expectedGeneration || record.lease?.owner !== owner) return;
      if (record.lease.until <= nowMs()) return; // it is over, as in Redis where its key is gone
      delete record.lease;
      record.failUntil = nowMs() + backoffMs;
      record.isRefused = isRefused;
    },
    async end(handle, expectedGeneration): Promise<Ended> {
      sweep();
      const record = alive(handle);
      if (record !== undefined && expectedGeneration !== undefined && record.generation !== expectedGeneration) {
        return { kind: 'moved' };
      }
      records.delete(handle);
      tombstones.set(handle, nowMs() + tombstoneSeconds * 1000);
      if (record === undefined) return { kind: 'gone' };
      return {
        kind: 'ended',
        subKey: record.subKey,
        ...(record.sidKey === undefined ? {} : { sidKey: record.sidKey }),
      };
    },
    async listBySid(sidKey) {
      return list('sidKey', sidKey);
    },
    async listBySub(subKey) {
      return list('subKey', subKey);
    },
    async listByFrontend(frontendKey) {
      return list('frontendKey', frontendKey);
    },
    async markUsed(marker, ttlSeconds) {
      sweep();
      if ((markers.get(marker) ?? 0) > nowMs()) return false;
      markers.set(marker, nowMs() + ttlSeconds * 1000);
      return true;
    },
    async isUsed(marker) {
      return (markers.get(marker) ?? 0) > nowMs();
    },
    async keep(key, value, ttlSeconds) {
      sweep();
      kept.set(key, { value, until: nowMs() + ttlSeconds * 1000 });
    },
    async take(key) {
      const found = kept.get(key);
      kept.delete(key);
      return found !== undefined && found.until > nowMs() ? found.value : undefined;
    },
    async markEnded(key, before, ttlSeconds) {
      sweep();
      const at = nowMs() / 1000;
      const { byProvider, ...known } = endedMarks.get(key) ?? {};
      const latest = Math.max(before ?? 0, byProvider?.before ?? 0);
      const until = nowMs() + ttlSeconds * 1000;
      if (before === undefined) endedMarks.set(key, { ...known, ...(byProvider && { byProvider }), byUs: at, until });
      else endedMarks.set(key, { ...known, byProvider: { at, before: latest }, until });
    },
    async endedMark(key) {
      const mark = endedMarks.get(key);
      if (mark === undefined || mark.until <= nowMs()) return {};
      const { until: _until, ...rest } = mark;
      return rest;
    },
    async now() {
      return nowMs() / 1000;
    },
    async ping() {},
    async close() {},
  };
}
