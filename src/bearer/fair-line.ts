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
  since: number;
}

/** Runs a piece of work for a client when it is its turn. Throws `LineFullError` instead of waiting for long. */
export type FairLine = <T>(client: string, work: () => Promise<T>) => Promise<T>;

/**
 * Questions of strangers to one issuer. Clients take turns, and where the line is full, who has the most in it loses the
 * last of them: whoever floods it waits behind themselves, and another client's one question is next (W9).
 */
export function createFairLine(longestWaitMs: number, nowMs: () => number): FairLine {
  /** In the order of turns. */
  const lines = new Map<string, Waiting[]>();
  let running = 0;
  let waiting = 0;

  const leave = (client: string, line: Waiting[]) => {
    waiting--;
    lines.delete(client);
    if (line.length > 0) lines.set(client, line); // behind all others
  };
  const next = () => {
    for (const [client, line] of lines) {
      const first = line.shift();
      leave(client, line);
      if (first === undefined) continue;
      if (nowMs() - first.since <= longestWaitMs) return first.start();
      first.refuse();
    }
  };
  /** False: nobody has more in the line than this client would have. */
  const makeRoom = (client: string): boolean => {
    const [most = ''] = [...lines].reduce((one, other) => (other[1].length > one[1].length ? other : one));
    const line = lines.get(most) ?? [];
    if (most === client || line.length <= (lines.get(client)?.length ?? 0) + 1) return false;
    line.pop()?.refuse();
    waiting--;
    return true;
  };

  return async (client, work) => {
    if (running >= mostAtOnce) {
      if (waiting >= mostWaiting && !makeRoom(client)) throw new LineFullError();
      await new Promise<void>((resolve, reject) => {
        const line = lines.get(client) ?? [];
        line.push({ start: resolve, refuse: () => reject(new LineFullError()), since: nowMs() });
        lines.set(client, line);
        waiting++;
      });
    } else running++;
    // Whoever is called up takes the place over: `running` stays.
    try {
      return await work();
    } finally {
      if (waiting > 0) next();
      else running--;
    }
  };
}
