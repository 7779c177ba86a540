import { describe, expect, it } from 'vitest';
import { brokenPromise, type Edge, edgesOf, initialState, type State } from './refresh-model.ts';

/** Breadth first over every state; returns how many there are, and the shortest way to a broken promise. */
function explore(start: State): { states: number; broken?: string[] } {
  const seen = new Map<string, { edge?: Edge; before?: string }>([[JSON.stringify(start), {}]]);
  let frontier = [start];
  while (frontier.length > 0) {
    const next: State[] = [];
    for (const state of frontier) {
      const from = JSON.stringify(state);
      for (const edge of edgesOf(state)) {
        const promise = brokenPromise(state, edge);
        if (promise !== undefined) return { states: seen.size, broken: [...wayTo(seen, from), edge.name, promise] };
        const key = JSON.stringify(edge.to);
        if (seen.has(key)) continue;
        seen.set(key, { edge, before: from });
        next.push(edge.to);
      }
    }
    frontier = next;
  }
  return { states: seen.size };
}

function wayTo(seen: Map<string, { edge?: Edge; before?: string }>, key: string): string[] {
  const { edge, before } = seen.get(key) ?? {};
  return edge === undefined || before === undefined ? [] : [...wayTo(seen, before), edge.name];
}

describe('the refresh model, explored exhaustively', () => {
  it.each([
    ['two processes, everything goes well', 2, { crashes: 0, freezes: 0, losses: 0, kills: 1, refreshes: 5 }],
    ['three processes, everything goes well', 3, { crashes: 0, freezes: 0, losses: 0, kills: 1, refreshes: 4 }],
    ['two processes, a crash and a lost answer', 2, { crashes: 1, freezes: 0, losses: 1, kills: 1, refreshes: 4 }],
    ['two processes, one frozen past its lease', 2, { crashes: 0, freezes: 1, losses: 0, kills: 1, refreshes: 4 }],
    [
      'three processes, a crash, a freeze and a logout',
      3,
      { crashes: 1, freezes: 1, losses: 0, kills: 1, refreshes: 3 },
    ],
  ] as const)('%s', (_name, processes, left) => {
    const { states, broken } = explore(initialState(processes, { ...left }));
    expect(broken ?? []).toEqual([]);
    expect(states).toBeGreaterThan(100);
  });

  it('would notice if a commit ignored the generation', () => {
    // The model's own alarm: a session that a logout ended and a commit revived.
    const dead = initialState(1, { crashes: 0, freezes: 0, losses: 0, kills: 0, refreshes: 0 });
    dead.session.alive = false;
    dead.killed = true;
    const revived = structuredClone(dead);
    revived.session.alive = true;
    expect(brokenPromise(dead, { name: 'p0 commits blindly', to: revived })).toBe('an ended session came back');
  });
});
