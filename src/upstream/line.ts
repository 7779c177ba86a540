import type { ServerResponse } from 'node:http';

/**
 * Lets as many requests run as there are connections; the others wait in line. undici has a line of its own, but
 * nobody can leave that one: without a limit of time, and with a connection spent on each browser that is long gone.
 */
export interface Line {
  /** Requests that run or wait. */
  readonly load: number;
  readonly hasFree: boolean;
  /** True: a connection is free, and taken now. */
  enter(): boolean;
  /** Waits for a connection until the browser leaves, the time (milliseconds) is over, or all are sent away. */
  wait(response: ServerResponse, mostMs: number): Promise<Waited>;
  /** Gives the connection to the next in line. */
  leave(): void;
  /** Sends away all who wait. */
  dismiss(): void;
}

/** `full`: too many wait already. */
export type Waited = 'entered' | 'left' | 'late' | 'dismissed' | 'full';

/** A line for so many at a time, and so many that wait: each of those holds memory and a browser's connection (T98). */
export function createLine(places: number, mostWaiting: number): Line {
  let free = places;
  const waiting = new Set<(outcome: Waited) => void>(); // in the order of arrival
  return {
    get load() {
      return places - free + waiting.size;
    },
    get hasFree() {
      return free > 0;
    },
    enter() {
      if (free === 0) return false;
      free--;
      return true;
    },
    wait(response, mostMs) {
      return new Promise((resolve) => {
        if (response.destroyed) return resolve('left');
        if (waiting.size >= mostWaiting) return resolve('full');
        const finish = (outcome: Waited) => {
          clearTimeout(timer);
          response.off('close', giveUp);
          waiting.delete(finish);
          resolve(outcome);
        };
        const giveUp = () => finish('left');
        const timer = setTimeout(() => finish('late'), mostMs);
        response.on('close', giveUp);
        waiting.add(finish);
      });
    },
    leave() {
      const [next] = waiting;
      if (next === undefined) free++;
      else next('entered');
    },
    dismiss() {
      for (const finish of [...waiting]) finish('dismissed');
    },
  };
}
