/**
 * Connections that stay open for as long as a session lives: event streams, server-sent events of APIs, WebSockets.
 * They are counted per session, and closed when the process stops.
 */
export interface Streams {
  count(handle: string): number;
  /** Notes an open connection; returns how to take it off the list. */
  enter(handle: string, close: () => void): () => void;
  closeAll(): void;
}

export function createStreams(): Streams {
  const open = new Map<string, Set<() => void>>();
  return {
    count: (handle) => open.get(handle)?.size ?? 0,
    enter(handle, close) {
      const mine = open.get(handle) ?? new Set();
      open.set(handle, mine.add(close));
      return () => {
        mine.delete(close);
        if (mine.size === 0 && open.get(handle) === mine) open.delete(handle);
      };
    },
    closeAll() {
      for (const closers of [...open.values()]) for (const close of [...closers]) close();
    },
  };
}
