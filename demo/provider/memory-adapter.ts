import { type Adapter, type AdapterFactory, type AdapterPayload, errors } from 'oidc-provider';

/**
 * Where oidc-provider keeps its state: in this process. Its own in-memory adapter holds 1000 entries at the most and
 * lets two refreshes at the same moment both use one refresh token. This one forgets nothing early and lets exactly
 * one of them win, so that a test sees the reuse it caused.
 */
export function createMemoryAdapter(): AdapterFactory {
  const entries = new Map<string, Entry>();
  const grants = new Map<string, Set<string>>();
  const sessionIdByUid = new Map<string, string>();
  let writesUntilSweep = SWEEP_EVERY_WRITES;

  function getAlive(key: string): Entry | undefined {
    const entry = entries.get(key);
    if (!entry || entry.expiresAtMs > Date.now()) return entry;
    forget(key);
    return undefined;
  }

  function forget(key: string): void {
    const entry = entries.get(key);
    if (!entry) return;
    entries.delete(key);
    const { grantId, uid } = entry.payload;
    if (grantId) grants.get(grantId)?.delete(key);
    if (grantId && grants.get(grantId)?.size === 0) grants.delete(grantId);
    if (uid && key === `Session:${sessionIdByUid.get(uid)}`) sessionIdByUid.delete(uid);
  }

  function forgetGrant(grantId: string): void {
    for (const key of [...(grants.get(grantId) ?? [])]) forget(key);
  }

  function sweep(): void {
    if (--writesUntilSweep > 0) return;
    writesUntilSweep = SWEEP_EVERY_WRITES;
    for (const key of [...entries.keys()]) getAlive(key);
  }

  return (model: string): Adapter => ({
    async upsert(id, payload, expiresIn) {
      const key = `${model}:${id}`;
      sweep();
      forget(key);
      const expiresAtMs = expiresIn === undefined ? Number.POSITIVE_INFINITY : Date.now() + expiresIn * 1000;
      entries.set(key, { payload: structuredClone(payload), expiresAtMs });
      if (model === 'Session' && payload.uid) sessionIdByUid.set(payload.uid, id);
      if (payload.grantId && model !== 'Session') {
        const members = grants.get(payload.grantId) ?? new Set<string>();
        grants.set(payload.grantId, members.add(key));
      }
    },

    async find(id) {
      const entry = getAlive(`${model}:${id}`);
      return entry && structuredClone(entry.payload);
    },

    async findByUid(uid) {
      const entry = getAlive(`${model}:${sessionIdByUid.get(uid)}`);
      return entry && structuredClone(entry.payload);
    },

    // Only the device flow asks this, and it is off.
    async findByUserCode() {
      return undefined;
    },

    async consume(id) {
      const entry = getAlive(`${model}:${id}`);
      if (!entry) return;
      if (entry.payload.consumed) {
        // Two requests passed oidc-provider's own check side by side; the second is a reuse (RFC 9700 section 4.14.2).
        // The grant goes too, because the winner may not have stored its new token yet.
        if (entry.payload.grantId) {
          forgetGrant(entry.payload.grantId);
          forget(`Grant:${entry.payload.grantId}`);
        }
        throw new errors.InvalidGrant(`${model} already used`);
      }
      entry.payload.consumed = Math.floor(Date.now() / 1000);
    },

    async destroy(id) {
      forget(`${model}:${id}`);
    },

    async revokeByGrantId(grantId) {
      forgetGrant(grantId);
    },
  });
}

interface Entry {
  payload: AdapterPayload;
  expiresAtMs: number;
}

/** Expired entries that nobody asks for again are dropped every so many writes: no timer keeps a test process alive. */
const SWEEP_EVERY_WRITES = 1000;
