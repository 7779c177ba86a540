// A small model of what REFRESH.md D2–D3 promises: processes that refresh one session through the store's scripts, an
// authorization server with strict rotation, and everything that may happen in between. Explored exhaustively.

/** What a store operation answers, for the comparison with the real stores. */
export type StoreAnswer =
  | 'acquired'
  | 'newer'
  | 'busy'
  | 'backoff'
  | 'gone'
  | 'committed'
  | 'stale'
  | 'ended'
  | 'moved'
  | 'failed'
  | 'ignored'
  | 'expired';

/** A step that a real store can be asked to repeat. `owner` is `p<process>.<attempt>`. */
export type StoreStep =
  | { op: 'acquire'; owner: string; generation: number; answer: StoreAnswer }
  | { op: 'commit'; owner: string; generation: number; answer: StoreAnswer }
  | { op: 'fail'; owner: string; generation: number; answer: StoreAnswer }
  | { op: 'end'; generation?: number; answer: StoreAnswer }
  | { op: 'expireLease'; answer: StoreAnswer }
  | { op: 'expireBackoff'; answer: StoreAnswer };

type Stage = 'idle' | 'seen' | 'holding' | 'sent' | 'got' | 'refused' | 'unknown';

interface Process {
  stage: Stage;
  /** Generation that it saw, and the refresh token that it read inside the lease. */
  generation: number;
  token: number;
  received: number;
  attempt: number;
  tries: number;
  isFrozen: boolean;
}

export interface State {
  session: { alive: boolean; generation: number; token: number; writer: string; lease: string; backoff: boolean };
  /** Was it ended on purpose: logout, back-channel logout, admin? */
  killed: boolean;
  server: { current: number; next: number; revoked: boolean };
  processes: Process[];
  /** How much misfortune is left. */
  left: { crashes: number; freezes: number; losses: number; kills: number; refreshes: number };
  /** Everything went as it should: nobody crashed, froze, or lost an answer. */
  isCalm: boolean;
  hasFrozen: boolean;
}

export interface Edge {
  name: string;
  to: State;
  step?: StoreStep;
}

export function initialState(processes: number, left: State['left']): State {
  return {
    session: { alive: true, generation: 1, token: 1, writer: '', lease: '', backoff: false },
    killed: false,
    server: { current: 1, next: 2, revoked: false },
    processes: Array.from({ length: processes }, () => ({
      stage: 'idle',
      generation: 0,
      token: 0,
      received: 0,
      attempt: 0,
      tries: 0,
      isFrozen: false,
    })),
    left,
    isCalm: true,
    hasFrozen: false,
  };
}

/** Everything that can happen next. */
export function edgesOf(state: State): Edge[] {
  const edges: Edge[] = [];
  const add = (name: string, change: (next: State) => StoreStep | undefined) => {
    const to = structuredClone(state);
    const step = change(to);
    edges.push({ name, to, ...(step === undefined ? {} : { step }) });
  };
  state.processes.forEach((process, index) => {
    const of = (next: State) => next.processes[index] as Process;
    const owner = `p${index}.${process.attempt}`;
    if (process.isFrozen) {
      add(`p${index} thaws`, (next) => {
        const me = of(next);
        me.isFrozen = false;
        // It looks at its clock before it sends: a lease that may be over is not used.
        if (me.stage === 'holding' && next.session.lease !== owner) me.stage = 'seen';
        return undefined;
      });
      return;
    }
    addStage(process, index, owner, of, add, state);
    if (process.stage !== 'idle' && state.left.crashes > 0) {
      add(`p${index} crashes`, (next) => {
        next.left.crashes--;
        next.isCalm = false;
        Object.assign(of(next), { stage: 'idle', generation: 0, token: 0, received: 0, tries: 0 });
        return undefined;
      });
    }
    if (['holding', 'sent', 'got', 'unknown'].includes(process.stage) && state.left.freezes > 0) {
      add(`p${index} freezes`, (next) => {
        next.left.freezes--;
        next.isCalm = false;
        next.hasFrozen = true;
        of(next).isFrozen = true;
        return undefined;
      });
    }
  });
  const { lease, backoff } = state.session;
  const holder = state.processes.find(
    (process, index) =>
      `p${index}.${process.attempt}` === lease && process.stage !== 'idle' && process.stage !== 'seen',
  );
  // The lease outlives every call of a process that runs: it can only expire under one that crashed or is frozen.
  if (lease !== '' && (holder === undefined || holder.isFrozen)) {
    add('the lease expires', (next) => {
      next.session.lease = '';
      return { op: 'expireLease', answer: 'expired' };
    });
  }
  if (backoff) {
    add('the back-off passes', (next) => {
      next.session.backoff = false;
      return { op: 'expireBackoff', answer: 'expired' };
    });
  }
  if (state.session.alive && state.left.kills > 0) {
    add('logout', (next) => {
      next.left.kills--;
      next.killed = true;
      return endSession(next);
    });
  }
  return edges;
}

type Add = (name: string, change: (next: State) => StoreStep | undefined) => void;

function addStage(
  process: Process,
  index: number,
  owner: string,
  of: (next: State) => Process,
  add: Add,
  state: State,
): void {
  switch (process.stage) {
    case 'idle':
      if (state.session.alive && state.left.refreshes > 0) {
        add(`p${index} reads the session`, (next) => {
          next.left.refreshes--;
          Object.assign(of(next), {
            stage: 'seen',
            generation: next.session.generation,
            attempt: process.attempt + 1,
            tries: 0,
          });
          return undefined;
        });
      }
      return;
    case 'seen':
      add(`p${index} acquires`, (next) => acquire(next, of(next), owner));
      return;
    case 'holding':
      add(`p${index} sends its refresh token`, (next) => {
        send(next, of(next));
        return undefined;
      });
      return;
    case 'sent':
      add(`p${index} receives`, (next) => {
        const me = of(next);
        me.stage = me.received > 0 ? 'got' : 'refused';
        return undefined;
      });
      if (state.left.losses > 0) {
        add(`p${index} loses the answer`, (next) => {
          next.left.losses--;
          next.isCalm = false;
          Object.assign(of(next), { stage: 'unknown', received: 0 });
          return undefined;
        });
      }
      return;
    case 'unknown':
      // One more try with the same token, then back off.
      if (process.tries < 2) {
        add(`p${index} tries once more`, (next) => {
          of(next).stage = 'holding';
          return undefined;
        });
      } else add(`p${index} gives up`, (next) => fail(next, of(next), owner));
      return;
    case 'got':
      add(`p${index} commits`, (next) => commit(next, of(next), owner));
      return;
    case 'refused':
      add(`p${index} ends the session unless it moved`, (next) => {
        of(next).stage = 'idle';
        return endSession(next, process.generation);
      });
  }
}

function acquire({ session }: State, me: Process, owner: string): StoreStep {
  const step = (answer: StoreAnswer): StoreStep => ({ op: 'acquire', owner, generation: me.generation, answer });
  if (!session.alive || session.generation !== me.generation) {
    me.stage = 'idle';
    return step(session.alive ? 'newer' : 'gone');
  }
  if (session.backoff) {
    me.stage = 'idle';
    return step('backoff');
  }
  if (session.lease !== '' && session.lease !== owner) return step('busy');
  session.lease = owner;
  Object.assign(me, { stage: 'holding', token: session.token });
  return step('acquired');
}

/** Strict rotation: a token that was used before revokes the whole family. */
function send({ server }: State, me: Process): void {
  me.tries++;
  me.stage = 'sent';
  if (server.revoked || me.token !== server.current) {
    server.revoked = true;
    me.received = 0;
    return;
  }
  server.current = server.next++;
  me.received = server.current;
}

function commit({ session }: State, me: Process, owner: string): StoreStep {
  me.stage = 'idle';
  const step = (answer: StoreAnswer): StoreStep => ({ op: 'commit', owner, generation: me.generation, answer });
  if (!session.alive) return step('gone');
  if (session.generation !== me.generation) return step('stale');
  Object.assign(session, { generation: me.generation + 1, token: me.received, writer: owner, backoff: false });
  if (session.lease === owner) session.lease = '';
  return step('committed');
}

function fail({ session }: State, me: Process, owner: string): StoreStep {
  me.stage = 'idle';
  const holds = session.alive && session.generation === me.generation && session.lease === owner;
  if (holds) Object.assign(session, { lease: '', backoff: true });
  return { op: 'fail', owner, generation: me.generation, answer: holds ? 'failed' : 'ignored' };
}

function endSession({ session }: State, generation?: number): StoreStep {
  const step = (answer: StoreAnswer): StoreStep => ({
    op: 'end',
    ...(generation === undefined ? {} : { generation }),
    answer,
  });
  if (!session.alive) return step('gone');
  if (generation !== undefined && session.generation !== generation) return step('moved');
  Object.assign(session, { alive: false, lease: '', backoff: false });
  return step('ended');
}

/** What must hold in every state that can be reached. */
export function brokenPromise(before: State, edge: Edge): string | undefined {
  const { to } = edge;
  if (!before.session.alive && to.session.alive) return 'an ended session came back';
  if (to.killed && to.session.alive) return 'a killed session lives';
  // Only after a freeze that outlasted the lease may an answer still be on its way to the process that slept.
  const tokens = to.processes.filter(({ stage }) => stage === 'sent').map(({ token }) => token);
  if (!to.hasFrozen && new Set(tokens).size !== tokens.length) return 'two live uses of one refresh token';
  if (to.isCalm && to.server.revoked) return 'the reuse detector fired although nothing went wrong';
  const isQuiet = to.processes.every(({ stage }) => stage === 'idle' || stage === 'seen');
  if (to.isCalm && isQuiet && to.session.alive && to.session.token !== to.server.current)
    return 'the newest refresh token was lost';
  if (to.isCalm && !to.session.alive && !to.killed) return 'somebody was logged out although nothing went wrong';
  return undefined;
}
