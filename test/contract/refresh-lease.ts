import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SessionStore } from '../../src/store/store.ts';
import { commitAs, newRecord, type StoreUnderTest } from './session-store.ts';

const leaseMs = 15_000;

/** The other half of the store contract: generation, lease, commit and back-off (REFRESH.md D2). */
export function describeRefreshLease(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`the refresh contract, by ${name}`, () => {
    let under: StoreUnderTest;
    let store: SessionStore;
    let handle: string;
    beforeEach(async () => {
      under = await open();
      store = under.store;
      const record = newRecord();
      handle = record.handle;
      await store.create(record);
    });
    afterEach(() => under.close());
    const commit = (owner: string, expectedGeneration: number, tokens?: string) =>
      commitAs(store, { handle, owner, expectedGeneration }, tokens);
    const acquire = (owner: string, generation = 1) => store.acquire(handle, generation, owner, leaseMs);

    it('gives the lease of a generation to one of fifty, and what it read inside it', async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => acquire(`owner-${index}`)));
      const winners = answers.filter(({ kind }) => kind === 'acquired');
      expect(winners).toHaveLength(1);
      expect(winners[0]).toMatchObject({ session: { generation: 1, tokens: Buffer.from('tokens-1') } });
      expect(answers.filter(({ kind }) => kind === 'busy')).toHaveLength(49);
    });

    it('tells the others how long the lease lasts', async () => {
      await acquire('a');
      await under.fastForward(5000);
      const answer = await acquire('b');
      expect(answer.kind).toBe('busy');
      expect('retryAfterMs' in answer && answer.retryAfterMs).toBeGreaterThan(8000);
      expect('retryAfterMs' in answer && answer.retryAfterMs).toBeLessThanOrEqual(10_000);
    });

    it('answers the holder who asks twice with the same, and does not stretch its lease', async () => {
      await acquire('a');
      await under.fastForward(10_000);
      expect((await acquire('a')).kind).toBe('acquired');
      await under.fastForward(5001);
      expect((await acquire('b')).kind).toBe('acquired');
    });

    it('frees the lease of a holder that died', async () => {
      await acquire('dead');
      await under.fastForward(leaseMs + 1);
      expect((await acquire('b')).kind).toBe('acquired');
    });

    it('commits by compare-and-set and frees the lease', async () => {
      await acquire('a');
      expect(await commit('a', 1)).toBe('committed');
      expect(await store.read(handle)).toMatchObject({
        generation: 2,
        tokens: Buffer.from('by a'),
        identity: Buffer.from('identity-2'),
      });
      expect((await acquire('b', 2)).kind).toBe('acquired');
    });

    it('answers a commit that is sent twice as if it came once', async () => {
      await acquire('a');
      expect(await commit('a', 1)).toBe('committed');
      expect(await commit('a', 1, 'sent again')).toBe('committed');
      expect(await store.read(handle)).toMatchObject({ generation: 2, tokens: Buffer.from('by a') });
    });

    it('calls a commit stale when another one was first', async () => {
      expect(await commit('b', 1)).toBe('committed');
      expect(await commit('a', 1)).toBe('stale');
      expect(await commit('b', 2)).toBe('committed');
      expect(await commit('b', 1, 'two generations late')).toBe('stale');
      expect((await store.read(handle))?.tokens.toString()).toBe('by b');
    });

    it('commits for a holder that lost its lease but not the generation: its refresh token is the newest', async () => {
      await acquire('slow');
      await under.fastForward(leaseMs + 1);
      await acquire('b');
      expect(await commit('slow', 1)).toBe('committed');
      expect(await commit('b', 1)).toBe('stale');
    });

    it('does not take the lease of another away by a commit', async () => {
      await acquire('slow');
      await under.fastForward(leaseMs + 1);
      await acquire('b');
      await commit('slow', 1);
      expect((await acquire('c', 2)).kind).toBe('busy');
    });

    it('hands the newer session to whoever saw an old generation', async () => {
      await commit('a', 1);
      expect(await acquire('b', 1)).toMatchObject({
        kind: 'newer',
        session: { generation: 2, tokens: Buffer.from('by a') },
      });
    });

    it('lets exactly one of fifty commits of a generation win', async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => commit(`owner-${index}`, 1)));
      expect(answers.filter((answer) => answer === 'committed')).toHaveLength(1);
      expect(answers.filter((answer) => answer === 'stale')).toHaveLength(49);
      expect(await store.read(handle)).toMatchObject({ generation: 2 });
    });

    it('keeps everybody away during the back-off of a failure, then lets one try again', async () => {
      await acquire('a');
      await store.fail(handle, 'a', 1, 4000, false);
      const answer = await acquire('b');
      expect(answer.kind).toBe('backoff');
      expect('retryAfterMs' in answer && answer.retryAfterMs).toBeGreaterThan(2000);
      expect('retryAfterMs' in answer && answer.retryAfterMs).toBeLessThanOrEqual(4000);
      await under.fastForward(4001);
      expect((await acquire('b')).kind).toBe('acquired');
    });

    it('does not stretch a back-off when a failure is told twice', async () => {
      await acquire('a');
      await store.fail(handle, 'a', 1, 4000, false);
      await under.fastForward(3000);
      await store.fail(handle, 'a', 1, 4000, false);
      await under.fastForward(1001);
      expect((await acquire('b')).kind).toBe('acquired');
    });

    it('ignores the failure of somebody who does not hold the lease', async () => {
      await acquire('a');
      await store.fail(handle, 'stranger', 1, 60_000, false);
      expect((await acquire('a')).kind).toBe('acquired');
      await commit('a', 1);
      await store.fail(handle, 'a', 1, 60_000, false);
      expect((await acquire('b', 2)).kind).toBe('acquired');
    });

    it('forgets a back-off with the next commit', async () => {
      await acquire('a');
      await store.fail(handle, 'a', 1, 60_000, false);
      await commit('late', 1);
      expect((await acquire('b', 2)).kind).toBe('acquired');
    });
  });
}
