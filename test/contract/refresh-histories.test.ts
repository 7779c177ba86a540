import { describe, expect, it } from 'vitest';
import type { SessionStore } from '../../src/store/store.ts';
import { edgesOf, initialState, type State, type StoreAnswer, type StoreStep } from '../model/refresh-model.ts';
import { createRandom } from '../support/random.ts';
import { openMemory, openRedis } from './open-stores.ts';
import { newRecord, type StoreUnderTest } from './session-store.ts';

// The model of test/model is only as good as its picture of the stores. Here both stores repeat what it says happened:
// random walks through it, every store operation on the real store, every answer and every record compared.

const leaseMs = 15_000;
const backoffMs = 4000;

interface Happened {
  name: string;
  step: StoreStep;
  /** The session afterwards. */
  session: State['session'];
  /** It reaches the store twice (T110). */
  isSentTwice: boolean;
}

/** One way through the model: three processes with crashes, freezes, lost answers and a logout. */
function walk(seed: number): Happened[] {
  const random = createRandom(seed);
  const history: Happened[] = [];
  let state = initialState(3, { crashes: 3, freezes: 3, losses: 3, kills: seed % 2, refreshes: 12 });
  for (let length = 0; length < 120; length++) {
    const edges = edgesOf(state);
    const edge = edges[Math.floor(random() * edges.length)];
    if (edge === undefined) break;
    // Left to chance alone, most walks would end in a logout or a crash before anything was refreshed.
    if (/logout|crashes/.test(edge.name) && random() < 0.8) continue;
    state = edge.to;
    if (seed % 3 === 0) forgive(state);
    if (edge.step !== undefined)
      history.push({ name: edge.name, step: edge.step, session: edge.to.session, isSentTwice: random() < 0.3 });
  }
  return history;
}

/** A reuse grace: a refresh token that was used already works again, so two processes may bring a result. */
function forgive({ server, processes }: State): void {
  for (const process of processes) {
    if (process.stage !== 'sent' || process.received > 0) continue;
    server.current = server.next++;
    server.revoked = false;
    process.received = server.current;
  }
}

/** Repeats a history on a store; the first difference, or nothing. */
async function differenceOf(history: Happened[], { store, fastForward }: StoreUnderTest): Promise<string | undefined> {
  const lasting = 10_000_000;
  const record = newRecord({ absoluteTimeout: lasting, idleTimeout: lasting });
  await store.create(record);
  for (const [index, { name, step, session, isSentTwice }] of history.entries()) {
    const where = `${index} ${name}`;
    const answer = await repeat(step, { store, fastForward }, record.handle);
    if (answer !== undefined && answer !== step.answer) return `${where}: ${answer}, not ${step.answer}`;
    if (isSentTwice && !step.op.startsWith('expire')) {
      const again = await repeat(step, { store, fastForward }, record.handle);
      const expected = step.answer === 'ended' ? 'gone' : step.answer;
      if (again !== undefined && again !== expected) return `${where}, sent twice: ${again}, not ${expected}`;
    }
    const stored = await store.read(record.handle);
    const saw = stored && `${stored.generation} ${stored.tokens}`;
    const tokens = session.writer === '' ? record.tokens.toString() : `by ${session.writer}`;
    const expected = session.alive ? `${session.generation} ${tokens}` : undefined;
    if (saw !== expected) return `${where}: the store has ${saw}, not ${expected}`;
  }
  return undefined;
}

type Under = Pick<StoreUnderTest, 'store' | 'fastForward'>;

/** `undefined` when the store says nothing that could be compared. */
async function repeat(
  step: StoreStep,
  { store, fastForward }: Under,
  handle: string,
): Promise<StoreAnswer | undefined> {
  switch (step.op) {
    case 'acquire':
      return (await store.acquire(handle, step.generation, step.owner, leaseMs)).kind;
    case 'commit':
      return store.commit({
        handle,
        owner: step.owner,
        expectedGeneration: step.generation,
        tokens: Buffer.from(`by ${step.owner}`),
        identity: Buffer.from('identity'),
      });
    case 'fail':
      await store.fail(handle, step.owner, step.generation, backoffMs, false);
      return undefined;
    case 'end':
      return (await store.end(handle, step.generation)).kind;
    case 'expireLease':
      await fastForward(leaseMs + 1);
      return undefined;
    case 'expireBackoff':
      await fastForward(backoffMs + 1);
      return undefined;
  }
}

async function firstDifference(
  open: () => Promise<StoreUnderTest>,
  walks: number,
  change = (under: StoreUnderTest) => under,
) {
  for (let seed = 1; seed <= walks; seed++) {
    const under = change(await open());
    const difference = await differenceOf(walk(seed), under);
    await under.close();
    if (difference !== undefined) return `walk ${seed}, step ${difference}`;
  }
  return undefined;
}

describe('histories of the refresh model', () => {
  it.each([
    ['the memory store', openMemory, 400],
    ['the Redis store', openRedis, 150],
  ] as const)('%s answers as the model says', async (_name, open, walks) => {
    expect(await firstDifference(open, walks)).toBeUndefined();
  });

  it('contain every answer that a store can give', () => {
    const seen = new Set(
      Array.from({ length: 400 }, (_, index) => walk(index + 1)).flatMap((history) =>
        history.map(({ step }) => `${step.op} ${step.answer}`),
      ),
    );
    expect([...seen].sort((a, b) => (a < b ? -1 : 1))).toEqual([
      'acquire acquired',
      'acquire backoff',
      'acquire busy',
      'acquire gone',
      'acquire newer',
      'commit committed',
      'commit gone',
      'commit stale',
      'end ended',
      'end gone',
      'end moved',
      'expireBackoff expired',
      'expireLease expired',
      'fail failed',
      'fail ignored',
    ]);
  });
});

/** Stores with one rule broken each. */
const mutants: Record<string, (store: SessionStore) => Partial<SessionStore>> = {
  'gives everybody the lease': (store) => ({
    async acquire(...args) {
      const answer = await store.acquire(...args);
      const session = answer.kind === 'busy' ? await store.read(args[0]) : undefined;
      return session === undefined ? answer : { kind: 'acquired', session };
    },
  }),
  'keeps a lease for its holder only once': (store) => {
    const holders = new Set<string>();
    return {
      async acquire(handle, generation, owner, ms) {
        const answer = await store.acquire(handle, generation, owner, ms);
        if (answer.kind !== 'acquired' || !holders.has(owner)) holders.add(owner);
        else return { kind: 'busy', retryAfterMs: 1 };
        return answer;
      },
    };
  },
  'commits whatever the generation is': (store) => ({
    async commit(commit) {
      const now = await store.read(commit.handle);
      return store.commit({ ...commit, expectedGeneration: now?.generation ?? commit.expectedGeneration });
    },
  }),
  'calls its own repeated commit stale': (store) => ({
    async commit(commit) {
      const isRepeated = (await store.read(commit.handle))?.tokens.equals(commit.tokens) === true;
      return isRepeated ? 'stale' : store.commit(commit);
    },
  }),
  'ends a session that somebody refreshed meanwhile': (store) => ({ end: (handle) => store.end(handle) }),
  'says that a session has ended and keeps it': (store) => ({
    end: async (handle, generation) =>
      generation === undefined ? { kind: 'ended', subKey: '' } : store.end(handle, generation),
  }),
  'forgets to keep the others away after a failure': (store) => ({
    fail: (handle, owner, generation) => store.fail(handle, owner, generation, 0, false),
  }),
  'lets a stranger free the lease': (store) => {
    let holder = '';
    return {
      async acquire(handle, generation, owner, ms) {
        const answer = await store.acquire(handle, generation, owner, ms);
        if (answer.kind === 'acquired') holder = owner;
        return answer;
      },
      fail: (handle, _owner, generation, ms) => store.fail(handle, holder, generation, ms, false),
    };
  },
};

const isCommit = ({ step }: Happened) => step.answer === 'committed';

describe('a store that breaks a rule is noticed', () => {
  it.each(Object.entries(mutants))('one that %s', async (_name, mutate) => {
    const change = (under: StoreUnderTest) => ({ ...under, store: { ...under.store, ...mutate(under.store) } });
    expect(await firstDifference(openMemory, 400, change)).toMatch(/^walk \d+, step /);
  });

  it('and so is a model that tells one answer wrong', async () => {
    const history = [1, 2, 3, 4].map(walk).find((each) => each.some(isCommit)) ?? [];
    const at = history.findIndex(isCommit);
    const { step, ...rest } = history[at] as Happened;
    const wrong = history.with(at, { ...rest, step: { ...step, answer: 'stale' } as StoreStep });
    const under = await openMemory();
    expect(await differenceOf(wrong, under)).toMatch(/committed, not stale/);
  });
});
