import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoredSession } from '../../src/store/record.ts';
import type { NewRecord, SessionStore } from '../../src/store/store.ts';
import { tombstoneSeconds } from '../../src/store/store.ts';

/** A store under test, and time in its hands. */
export interface StoreUnderTest {
  store: SessionStore;
  fastForward(ms: number): Promise<void> | void;
  close(): Promise<void>;
}

const idleTimeout = 600;
const absoluteTimeout = 3600;
const leaseMs = 15_000;

/** A record of its own for each test. */
export function newRecord(change: Partial<NewRecord> = {}): NewRecord {
  return {
    handle: randomBytes(32).toString('base64url'),
    writer: 'instance-1',
    createdAt: Math.floor(Date.now() / 1000),
    absoluteTimeout,
    idleTimeout,
    identity: Buffer.from([0, 255, 10, 13, 128]),
    tokens: Buffer.from('tokens-1'),
    sidKey: randomBytes(8).toString('hex'),
    subKey: randomBytes(8).toString('hex'),
    ...change,
  };
}

/** A commit that says in the tokens whose it is. */
export function commitAs(
  store: SessionStore,
  turn: { handle: string; owner: string; expectedGeneration: number },
  tokens = `by ${turn.owner}`,
): ReturnType<SessionStore['commit']> {
  return store.commit({ ...turn, tokens: Buffer.from(tokens), identity: Buffer.from('identity-2') });
}

/** What every session store promises (src/store/store.ts, REFRESH.md D2): life, lifetimes and indexes. */
export function describeSessionStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`the session contract, by ${name}`, () => {
    let under: StoreUnderTest;
    let store: SessionStore;
    beforeEach(async () => {
      under = await open();
      store = under.store;
    });
    afterEach(() => under.close());
    const created = async (change: Partial<NewRecord> = {}) => {
      const record = newRecord({ createdAt: Math.floor(await store.now()), ...change });
      expect(await store.create(record)).toBe('created');
      return record;
    };
    const commitTo = (handle: string, owner: string, expectedGeneration: number, tokens?: string) =>
      commitAs(store, { handle, owner, expectedGeneration }, tokens);

    it('leaves out what is known already, and nothing else', async () => {
      const { handle, tokens } = await created();
      const { identity: _identity, tokens: _tokens, now: _now, ...times } = (await store.read(handle)) as StoredSession;
      const { generation, expiresAt, lastSeenAt } = times;
      expect(await store.readIfMoved({ handle, generation: 1 })).toMatchObject({ generation, expiresAt, lastSeenAt });
      expect(await store.readIfMoved({ handle, generation: 0 })).toMatchObject({ ...times, tokens });
      await store.acquire(handle, 1, 'owner', leaseMs);
      await commitTo(handle, 'owner', 1);
      expect(await store.readIfMoved({ handle, generation: 1 })).toMatchObject({
        generation: 2,
        tokens: Buffer.from('by owner'),
      });
      await store.end(handle);
      expect(await store.readIfMoved({ handle, generation: 2 })).toBeUndefined();
    });

    it('reads back what was created, byte for byte, with both lifetimes on its own clock', async () => {
      const { handle, identity, tokens } = await created();
      const session = await store.read(handle);
      expect(session).toMatchObject({ format: 1, generation: 1, identity, tokens });
      const { createdAt = 0, expiresAt, lastSeenAt, now = 0 } = session ?? {};
      expect(expiresAt).toBe(createdAt + absoluteTimeout);
      expect(lastSeenAt).toBe(createdAt);
      expect(now - createdAt).toBeLessThan(2);
      expect(now).toBeGreaterThanOrEqual(createdAt);
    });

    it('knows nothing of a handle that was never created', async () => {
      const { handle } = newRecord();
      expect(await store.read(handle)).toBeUndefined();
      expect(await store.acquire(handle, 1, 'a', leaseMs)).toEqual({ kind: 'gone' });
      expect(await commitTo(handle, 'a', 1)).toBe('gone');
      await store.touch(handle, idleTimeout);
      await store.fail(handle, 'a', 1, 1000, false);
      expect(await store.read(handle)).toBeUndefined();
    });

    it('refuses to create a session over another one', async () => {
      const { handle } = await created();
      expect(await store.create(newRecord({ handle, writer: 'instance-2', tokens: Buffer.from('planted') }))).toBe(
        'refused',
      );
      expect((await store.read(handle))?.tokens.toString()).toBe('tokens-1');
    });

    it('answers a creation that is sent twice as if it came once', async () => {
      const record = await created();
      expect(await store.create(record)).toBe('created');
      expect(await store.read(record.handle)).toMatchObject({ generation: 1, tokens: record.tokens });
    });

    it('refuses a late repetition of a creation once the session was refreshed', async () => {
      const record = await created();
      await commitTo(record.handle, 'a', 1, 'tokens-2');
      expect(await store.create(record)).toBe('refused');
      expect((await store.read(record.handle))?.tokens.toString()).toBe('tokens-2');
    });

    it('ends a session that nobody used for the idle timeout', async () => {
      const { handle } = await created();
      await under.fastForward((idleTimeout - 5) * 1000);
      expect(await store.read(handle)).toBeDefined();
      await under.fastForward(6000);
      expect(await store.read(handle)).toBeUndefined();
      expect(await store.acquire(handle, 1, 'a', leaseMs)).toEqual({ kind: 'gone' });
      expect(await commitTo(handle, 'a', 1)).toBe('gone');
    });

    it('keeps a touched session, but never beyond its absolute end', async () => {
      const { handle } = await created();
      const end = (await store.read(handle))?.expiresAt ?? 0;
      const start = (await store.read(handle))?.now ?? 0;
      for (let passed = 0; passed < absoluteTimeout - 500; passed += 500) {
        await under.fastForward(500_000);
        await store.touch(handle, idleTimeout);
        const session = await store.read(handle);
        expect(session).toBeDefined();
        // Redis's clock stands; there the record's instants move instead.
        expect((session?.expiresAt ?? 0) - (session?.now ?? 0)).toBeCloseTo(end - start - passed - 500, -1);
        expect((session?.now ?? 0) - (session?.lastSeenAt ?? 0)).toBeLessThan(2);
      }
      await under.fastForward(500_000);
      await store.touch(handle, idleTimeout);
      expect(await store.read(handle)).toBeUndefined();
    });

    it('does not move any lifetime by a commit', async () => {
      const { handle } = await created();
      await under.fastForward(300_000);
      await store.acquire(handle, 1, 'a', leaseMs);
      await commitTo(handle, 'a', 1);
      const session = await store.read(handle);
      expect((session?.now ?? 0) - (session?.lastSeenAt ?? 0)).toBeGreaterThanOrEqual(299);
      await under.fastForward((idleTimeout - 300 + 2) * 1000);
      expect(await store.read(handle)).toBeUndefined();
    });

    it('ends a session for good: nothing that is in flight brings it back', async () => {
      const record = await created();
      const { handle } = record;
      expect((await store.acquire(handle, 1, 'a', leaseMs)).kind).toBe('acquired');
      expect(await store.end(handle)).toEqual({ kind: 'ended', sidKey: record.sidKey, subKey: record.subKey });

      expect(await commitTo(handle, 'a', 1)).toBe('gone');
      expect(await store.create(record)).toBe('refused');
      await store.touch(handle, idleTimeout);
      await store.fail(handle, 'a', 1, 1000, false);
      expect(await store.acquire(handle, 1, 'a', leaseMs)).toEqual({ kind: 'gone' });
      expect(await store.read(handle)).toBeUndefined();
    });

    it('keeps refusing an ended handle for as long as any lease or request may live', async () => {
      const record = await created();
      await store.end(record.handle);
      await under.fastForward((tombstoneSeconds - 2) * 1000);
      expect(await store.create(record)).toBe('refused');
    });

    it('refuses a creation that arrives after the end of a session that was never created', async () => {
      const record = newRecord();
      expect(await store.end(record.handle)).toEqual({ kind: 'gone' });
      expect(await store.create(record)).toBe('refused');
    });

    it('answers a second end with gone, whoever asks', async () => {
      const { handle } = await created();
      expect((await store.end(handle, 1)).kind).toBe('ended');
      expect(await store.end(handle, 1)).toEqual({ kind: 'gone' });
      expect(await store.end(handle)).toEqual({ kind: 'gone' });
    });

    it('does not end a session that was refreshed meanwhile, unless told to whatever happened', async () => {
      const { handle } = await created();
      await commitTo(handle, 'a', 1);
      expect(await store.end(handle, 1)).toEqual({ kind: 'moved' });
      expect(await store.read(handle)).toMatchObject({ generation: 2 });
      expect((await store.end(handle, 2)).kind).toBe('ended');
    });

    it('finds the sessions of a subject and of a provider session, and only those', async () => {
      const shared = { sidKey: newRecord().sidKey as string, subKey: newRecord().subKey };
      const first = await created(shared);
      const second = await created({ subKey: shared.subKey });
      await created();
      expect(new Set(await store.listBySub(shared.subKey))).toEqual(new Set([first.handle, second.handle]));
      expect(await store.listBySid(shared.sidKey)).toEqual([first.handle]);
      expect(await store.listBySid(newRecord().subKey)).toEqual([]);
    });

    it('takes only the ended session out of the indexes (SE7)', async () => {
      const { subKey } = newRecord();
      const first = await created({ subKey });
      const second = await created({ subKey });
      await store.end(first.handle);
      expect(await store.listBySub(subKey)).toEqual([second.handle]);
      expect(await store.listBySid(first.sidKey as string)).toEqual([]);
    });

    it('L-5 still finds the younger session of a user after the older one expired', async () => {
      const { subKey } = newRecord();
      await created({ subKey, idleTimeout: absoluteTimeout });
      await under.fastForward((absoluteTimeout - 10) * 1000);
      const younger = await created({ subKey, idleTimeout: absoluteTimeout });
      await under.fastForward(11_000);
      expect(await store.listBySub(subKey)).toEqual([younger.handle]);
    });

    it('W12 takes no creation time but its own, give or take two seconds', async () => {
      const now = Math.round(await store.now()); // at most half a second off: the rest is for a slow machine
      for (const off of [-4, 4, 3600]) {
        const record = newRecord({ createdAt: now + off });
        expect(await store.create(record)).toBe('late');
        expect(await store.read(record.handle)).toBeUndefined();
      }
      const { handle, createdAt } = await created({ createdAt: now - 1 });
      expect(await store.read(handle)).toMatchObject({ createdAt, expiresAt: createdAt + absoluteTimeout });
      expect(await store.now(handle)).toBeCloseTo(await store.now(), 0);
    });

    it('W11 remembers when sessions were ended, by us and by the provider, for as long as it is told to', async () => {
      const key = newRecord().subKey;
      expect(await store.endedMark(key)).toEqual({});
      const startedAt = await store.now();
      await store.markEnded(key, undefined, 600);
      const { byUs = 0 } = await store.endedMark(key);
      expect(byUs - startedAt).toBeGreaterThanOrEqual(-0.001);
      await store.markEnded(key, 5000.5, 600);
      await store.markEnded(key, 4000, 600); // a late one says less
      expect(await store.endedMark(key)).toMatchObject({ byUs, byProvider: { before: 5000.5 } });
      await under.fastForward(601_000);
      expect(await store.endedMark(key)).toEqual({});
    });

    it('accepts a session without a provider session id', async () => {
      const { sidKey: _none, ...record } = newRecord();
      expect(await store.create(record)).toBe('created');
      expect(await store.end(record.handle)).toEqual({ kind: 'ended', subKey: record.subKey });
    });

    it('says "first" once for a marker, and again after its life', async () => {
      const marker = newRecord().handle;
      expect(await store.markUsed(marker, 60)).toBe(true);
      expect(await store.markUsed(marker, 60)).toBe(false);
      await under.fastForward(59_000);
      expect(await store.markUsed(marker, 60)).toBe(false);
      await under.fastForward(2000);
      expect(await store.markUsed(marker, 60)).toBe(true);
    });

    it('keeps what is left with it, byte for byte, until it is taken, once', async () => {
      const key = newRecord().handle;
      expect(await store.take(key)).toBeUndefined();
      await store.keep(key, Buffer.from([0, 255, 10, 13, 128]), 60);
      const answers = await Promise.all(Array.from({ length: 50 }, () => store.take(key)));
      expect(answers.filter((answer) => answer !== undefined)).toEqual([Buffer.from([0, 255, 10, 13, 128])]);
      expect(await store.take(key)).toBeUndefined();
    });

    it('keeps nothing longer than it was told to', async () => {
      const key = newRecord().handle;
      await store.keep(key, Buffer.from('kept'), 60);
      await under.fastForward(61_000);
      expect(await store.take(key)).toBeUndefined();
    });

    it('lets exactly one of fifty at the same time be the first', async () => {
      const marker = newRecord().handle;
      const answers = await Promise.all(Array.from({ length: 50 }, () => store.markUsed(marker, 60)));
      expect(answers.filter(Boolean)).toHaveLength(1);
    });
  });
}
