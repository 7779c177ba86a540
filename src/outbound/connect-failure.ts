import type { buildConnector } from 'undici';

const failures = new WeakSet<Error>();

/** Remembers the errors of attempts to connect: there are too many codes, of systems and TLS, to know them by those. */
export function noteFailures(connect: buildConnector.connector): buildConnector.connector {
  return (options, done) =>
    connect(options, (...result) => {
      if (result[0] !== null) noteFailure(result[0]);
      done(...result);
    });
}

/** For one that shows only later that there was no connection to whom it was meant for. */
export function noteFailure<E extends Error>(error: E): E {
  failures.add(error);
  return error;
}

/** It came out of an attempt to connect (name, network, TLS), not out of our own code. */
export function isConnectFailure(error: unknown): boolean {
  return error instanceof Error && failures.has(error);
}

/**
 * This process has no file, port or memory left for another connection. Many browsers can bring that about: it says
 * nothing about who was to be reached.
 */
export function isOwnShortage(code: string): boolean {
  return /^(EMFILE|ENFILE|ENOBUFS|ENOMEM|EADDRNOTAVAIL)$/.test(code);
}
