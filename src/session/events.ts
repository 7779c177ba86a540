/** Why a session is over; told to the SPA and the logs. */
export type EndReason = (typeof endReasons)[number];

const endReasons = [
  'logout',
  'back-channel-logout',
  'front-channel-logout',
  'admin',
  'replaced',
  'revoked-by-user',
  'evicted',
  'refresh-rejected',
] as const;

/** What happens to a session, on whichever replica. */
export type SessionEvent =
  | { kind: 'ended'; handle: string; reason: EndReason }
  /** It has other tokens now. */
  | { kind: 'refreshed'; handle: string }
  | { kind: 'claims_changed'; handle: string };

/** The connection between replicas: Redis pub/sub, or nothing in a single process. */
export interface Transport {
  publish(text: string): Promise<void>;
  onMessage(listener: (text: string) => void): void;
  onStatus(listener: (isUp: boolean) => void): void;
  isUp(): boolean;
  close(): Promise<void>;
}

/**
 * Tells every replica what happened to a session. The store is the truth: a message that gets lost delays a closed
 * stream, it does not keep a session alive.
 */
export interface SessionChannel {
  /** Resolves when Redis has passed it on, or could not be asked: never rejects. */
  publish(event: SessionEvent): Promise<void>;
  /** Hears of all sessions, before those who listen for one. */
  onEvent(listener: (event: SessionEvent) => void): void;
  /** From now on messages may be missed. */
  onDown(listener: () => void): void;
  /** Listens for one session; returns how to stop. */
  listen(handle: string, listener: (event: SessionEvent) => void): () => void;
  /** False while messages of other replicas may be missed. */
  isUp(): boolean;
  /** Waits for messages on their way, then closes the connection. */
  close(): Promise<void>;
}

export interface ChannelLog {
  warn(facts: object, message: string): void;
}

export function createSessionChannel(log: ChannelLog, transport?: Transport): SessionChannel {
  const listeners = new Map<string, Set<(event: SessionEvent) => void>>();
  const everywhere: ((event: SessionEvent) => void)[] = [];
  const onTheirWay = new Set<Promise<void>>();
  const deliver = (event: SessionEvent) => {
    for (const listener of everywhere) listener(event);
    for (const listener of [...(listeners.get(event.handle) ?? [])]) listener(event);
  };
  transport?.onMessage((text) => {
    const event = parseEvent(text);
    if (event !== undefined) deliver(event);
  });

  return {
    async publish(event) {
      deliver(event); // this process does not wait for Redis to say it back
      if (transport === undefined) return;
      const sent: Promise<void> = transport
        .publish(JSON.stringify(event))
        .catch(() => log.warn({ event: event.kind }, 'a session event could not be sent to the other replicas'))
        .finally(() => onTheirWay.delete(sent));
      onTheirWay.add(sent);
      await sent;
    },
    onEvent: (listener) => void everywhere.push(listener),
    onDown: (listener) =>
      transport?.onStatus((isUp) => {
        if (!isUp) listener();
      }),
    listen(handle, listener) {
      const mine = listeners.get(handle) ?? new Set();
      listeners.set(handle, mine.add(listener));
      return () => {
        mine.delete(listener);
        if (mine.size === 0 && listeners.get(handle) === mine) listeners.delete(handle);
      };
    },
    isUp: () => transport?.isUp() ?? true,
    async close() {
      await Promise.all(onTheirWay);
      await transport?.close();
    },
  };
}

/** Whoever may write to Redis may write anything here: only what we would send ourselves counts. */
function parseEvent(text: string): SessionEvent | undefined {
  try {
    const event = JSON.parse(text) as SessionEvent;
    const isKnown =
      event.kind === 'refreshed' ||
      event.kind === 'claims_changed' ||
      (event.kind === 'ended' && endReasons.includes(event.reason));
    return isKnown && typeof event.handle === 'string' ? event : undefined;
  } catch {
    return undefined;
  }
}
