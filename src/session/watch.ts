import type { SessionTimes } from '../store/record.ts';
import type { EndReason, SessionChannel } from './events.ts';
import type { SealedSessions } from './sealed-sessions.ts';
import { idleExpiresAt, type Lifetimes, type Session } from './session.ts';
import type { Streams } from './streams.ts';

/** Who looks after connections that outlive their request. */
export interface Watchers {
  channel: SessionChannel;
  sessions: SealedSessions;
  streams: Streams;
}

export interface WatchHandlers {
  /** The session is over; without a reason this process is stopping. Called once, and nothing after it. */
  onEnd(reason?: EndReason | 'expired'): void;
  onClaimsChanged?(): void;
  /** After every look at the store; `undefined` while it can't be asked. */
  onLook?(session: SessionTimes | undefined): void;
}

/** Between two looks at the store. Milliseconds. */
const longestBeatMs = 15_000;
/** `expiring` is due this long before an end, or half the idle timeout if that is less. Seconds. */
const longestWarning = 60;

/**
 * Follows a session for a connection that was authorized once and would go on for ever. The channel tells of ends at
 * once; a look at the store, now and then, finds what the channel missed: an end while the connection was being
 * opened or while the subscription was down, and lifetimes that ran out. Watching keeps no session alive.
 *
 * `name` says under which the connection is counted in `streams`. Returns how to stop.
 */
export function watchSession(
  { channel, sessions, streams }: Watchers,
  watched: Pick<Session, 'handle' | 'expiresAt'>,
  name: string,
  handlers: WatchHandlers,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const stop = () => {
    isOver = true;
    clearTimeout(timer);
    stopListening();
    leave();
  };
  const end = (reason?: EndReason | 'expired') => {
    if (isOver) return;
    stop();
    handlers.onEnd(reason);
  };
  const stopListening = channel.listen(watched.handle, (event) => {
    if (event.kind === 'ended') end(event.reason);
    else if (event.kind === 'claims_changed') handlers.onClaimsChanged?.();
  });
  const leave = streams.enter(name, () => end());

  const look = async () => {
    const session = await sessions.look(watched).catch(() => 'unavailable' as const);
    if (isOver) return;
    if (session === undefined) return end('expired');
    const seen = session === 'unavailable' ? undefined : session;
    handlers.onLook?.(seen);
    if (!isOver) timer = setTimeout(look, untilNextLook(seen, sessions.lifetimes));
  };
  void look();
  return stop;
}

/** How long before an end the SPA is told, seconds. */
export function warningTime({ idleTimeout }: Lifetimes): number {
  return Math.min(longestWarning, idleTimeout / 2);
}

/** Milliseconds: last-seen moves by twentieths of the idle timeout, so looking more often than that shows nothing new. */
function untilNextLook(session: SessionTimes | undefined, lifetimes: Lifetimes): number {
  const beatMs = Math.min(longestBeatMs, lifetimes.idleTimeout * 50) * (0.9 + Math.random() * 0.2);
  if (session === undefined) return beatMs;
  const left = idleExpiresAt(session, lifetimes) - session.now;
  const warning = warningTime(lifetimes);
  // Due exactly when something is to be said, yet never in a tight loop when clocks disagree about "now".
  return Math.min(beatMs, Math.max((left > warning ? left - warning : left) * 1000, 50));
}
