/** So many questions are with an issuer at the same time, and so many wait for their turn. */
const mostAtOnce = 16;
const mostWaiting = 128;

/** There is no place in the line, or the turn came too late: nothing is known about the token. */
export class LineFullError extends Error {
  override readonly name = 'LineFullError';
}

interface Waiting {
  start(): void;
  refuse(): void;
}

/** Runs a piece of work for a client when it is its turn. Throws `LineFullError` instead of waiting for long. */
export type FairLine = <T>(client: string, work: () => Promise<T>) => Promise<T>;

/**
 * Questions of strangers to one issuer. Clients take turns, and where the line is full, who has the most in it loses the
 * last of them: whoever floods it waits behind themselves, and another client's one question is next (W9).
 */
export function createFairLine(longestWaitMs: number): FairLine {
  /** In the order of turns; none of them is empty. */
  const lines = new Map<string, Waiting[]>();
  let running = 0;
  let waiting = 0;

  const leave = (client: string, one: Waiting) => {
    const rest = (lines.get(client) ?? []).filter((other) => other !== one);
    waiting--;
    if (rest.length > 0) lines.set(client, rest);
    else lines.delete(client);
  };
  const turn = (client: string) =>
    new Promise<void>((resolve, reject) => {
      const settled = (settle: () => void) => () => {
        clearTimeout(timer);
        leave(client, one);
        settle();
      };
      const one: Waiting = { start: settled(resolve), refuse: settled(() => reject(new LineFullError())) };
      // A clock of its own for each: an issuer that answers nobody calls nobody up either.
      const timer = setTimeout(one.refuse, longestWaitMs).unref();
      lines.set(client, [...(lines.get(client) ?? []), one]);
      waiting++;
    });
  /** False: nobody waits, so the place is free. */
  const callUp = (): boolean => {
    const [next] = lines;
    if (next === undefined) return false;
    const [client, [first]] = next;
    first?.start();
    const rest = lines.get(client);
    lines.delete(client);
    if (rest !== undefined) lines.set(client, rest); // behind all others
    return first !== undefined;
  };
  /** False: nobody has more in the line than this client would have. */
  const makeRoom = (client: string): boolean => {
    const [most, line] = [...lines].reduce((one, other) => (other[1].length > one[1].length ? other : one));
    if (most === client || line.length <= (lines.get(client)?.length ?? 0) + 1) return false;
    line.at(-1)?.refuse();
    return true;
  };

  return async (client, work) => {
    if (running >= mostAtOnce) {
      if (waiting >= mostWaiting && !makeRoom(client)) throw new LineFullError();
      await turn(client);
    } else running++;
    // Whoever is called up takes the place over: `running` stays.
    try {
      return await work();
    } finally {
      if (!callUp()) running--;
    }
  };
}
