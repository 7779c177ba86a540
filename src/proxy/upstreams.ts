import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { Agent, buildConnector } from 'undici';
import type { Api } from '../config/config.ts';

/** One API's connections and the line of requests for them. */
export interface Upstream {
  dispatcher: Agent;
  /** Opens a connection outside of the pool, with the same timeout and the same TLS. */
  connect: buildConnector.connector;
  line: Line;
}

/** The connections to one API: its own pool, so that a dead API does not slow another (T98). TLS is verified (S0). */
export function createUpstream(api: Api): Upstream {
  const connect = buildConnector({
    allowH2: false,
    timeout: api.timeouts.connect,
    rejectUnauthorized: true,
    ...(api.caFile === undefined ? {} : { ca: readFileSync(api.caFile, 'utf8') }),
  });
  const dispatcher = new Agent({
    allowH2: false,
    connections: api.limits.connections,
    pipelining: 1,
    maxHeaderSize: 32 * 1024,
    connect,
  });
  return { dispatcher, connect, line: createLine(api.limits.connections) };
}

/**
 * Lets as many requests run as there are connections; the others wait in line. undici has a line of its own, but
 * nobody can leave that one: without a limit of time, and with a connection spent on each browser that is long gone.
 */
export interface Line {
  /** True: a connection is free, and taken now. */
  enter(): boolean;
  /** Waits for a connection until the browser leaves or the time (milliseconds) is over. */
  wait(response: ServerResponse, mostMs: number): Promise<'entered' | 'left' | 'late'>;
  /** Gives the connection to the next in line. */
  leave(): void;
}

/** A line for so many at a time. */
export function createLine(places: number): Line {
  let free = places;
  const waiting = new Set<() => void>(); // in the order of arrival
  return {
    enter() {
      if (free === 0) return false;
      free--;
      return true;
    },
    wait(response, mostMs) {
      return new Promise((resolve) => {
        if (response.destroyed) return resolve('left');
        const finish = (outcome: 'entered' | 'left' | 'late') => {
          clearTimeout(timer);
          response.off('close', giveUp);
          waiting.delete(enter);
          resolve(outcome);
        };
        const enter = () => finish('entered');
        const giveUp = () => finish('left');
        const timer = setTimeout(() => finish('late'), mostMs);
        response.on('close', giveUp);
        waiting.add(enter);
      });
    },
    leave() {
      const [next] = waiting;
      if (next === undefined) free++;
      else next();
    },
  };
}
