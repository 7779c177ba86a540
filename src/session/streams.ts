/**
 * Connections that stay open for as long as a session lives: event streams, server-sent events of APIs, WebSockets.
 * They are counted per session, and closed when the process stops.
 */
export interface Streams {
  count(handle: string): number;
  /** Notes an open connection; returns how to take it off the list. After `closeAll` it is closed at once. */
  enter(handle: string, close: () => void): () => void;
  closeAll(): void;
}

export function createStreams(): Streams {
  const open = new Map<string, Set<() => void>>();
  let isClosed = false;
  return {
    count: (handle) => open.get(handle)?.size ?? 0,
    enter(handle, close) {
      const mine = open.get(handle) ?? new Set();
      open.set(handle, mine.add(close));
      // A browser that comes back over a connection that is still open must not hold up the drain.
      if (isClosed) queueMicrotask(close);
      return () => {
        mine.delete(close);
        if (mine.size === 0 && open.get(handle) === mine) open.delete(handle);
      };
    },
    closeAll() {
      isClosed = true;
      for (const closers of [...open.values()]) for (const close of [...closers]) close();
    },
  };
}
