import type { WebSocket } from 'ws';

/** Who or what ended a connection. */
export type ClosedBy =
  | 'browser'
  | 'upstream'
  | 'browser-fault'
  | 'upstream-fault'
  | 'unresponsive'
  | 'session'
  | 'token'
  | 'policy'
  | 'idle'
  | 'shutdown';

export interface BridgeOptions {
  /** Both open, neither read from yet. */
  browser: WebSocket;
  upstream: WebSocket;
  /** Milliseconds without a message in either direction. */
  idle: number;
  /** When the token ends, by `performance.now()`. */
  tokenEnd: number | undefined;
  /** Called once, when both connections are gone. */
  onClosed(summary: BridgeSummary): void;
}

export interface BridgeSummary {
  by: ClosedBy;
  /** What the browser said or was told; 1005 for nothing, 1006 when it just vanished. */
  code: number;
  fromBrowser: number;
  fromUpstream: number;
}

/** One WebSocket of a browser and the one to the API that belongs to it. */
export interface Bridge {
  /** Closes both. Only a shutdown lets messages through until the browser was told. */
  end(by: ClosedBy, code: number, reason: string): void;
  /** To be called every second, with `performance.now()`. */
  beat(now: number): void;
}

/** Bytes that wait to be sent: with more, the other side is not read from; with less, it is again. */
const [mostWaiting, fewWaiting] = [64 * 1024, 16 * 1024];
/** Pings and pongs that a side may send at once, and how many more in each second. ws cuts the connection at 60. */
const [mostControls, controlsPerSecond] = [50, 10];
/** A side that said nothing between two of our pings is gone. Milliseconds. */
const longestPingInterval = 30_000;
/** Browsers that are told to go are told over this time, so that they do not all come back at once. Milliseconds. */
const spreadMs = 1000;
/** The browser went without a word (RFC 6455 §7.4.1); the API did (IANA: Bad Gateway). */
const [browserGone, upstreamGone] = [1001, 1014];

interface Side {
  socket: WebSocket;
  /** Was heard of since the last ping. */
  isAlive: boolean;
  controls: number;
  messages: number;
}

/**
 * Passes messages on in both directions, no faster than the slower side takes them. Pings, pongs and compression are
 * each connection's own. The first side to close decides with which code and reason the other is closed.
 */
export function createBridge({ browser, upstream, idle, tokenEnd, onClosed }: BridgeOptions): Bridge {
  const pingInterval = Math.min(longestPingInterval, idle / 2);
  let ended: { by: ClosedBy; code: number } | undefined;
  let isMuted = false;
  let isActive = false;
  let activeAt = performance.now();
  let pingAt = activeAt + pingInterval * (0.5 + Math.random() / 2); // not all in the same second
  let left = 2;
  const sides: Side[] = [browser, upstream].map((socket) => ({ socket, isAlive: true, controls: 0, messages: 0 }));
  const [ofBrowser, ofUpstream] = sides as [Side, Side];

  /** The first call counts. `undefined` as code: without one, as it came. */
  const endBoth = (by: ClosedBy, toBrowser: Farewell, toUpstream: Farewell) => {
    if (ended !== undefined) return;
    ended = { by, code: toBrowser.code ?? 1005 };
    isMuted = true;
    say(browser, toBrowser);
    say(upstream, toUpstream);
  };
  const fault = (from: Side, code: number) => {
    if (from === ofBrowser) endBoth('browser-fault', { code }, { code: browserGone });
    else endBoth('upstream-fault', { code: upstreamGone }, { code });
  };

  const connect = (from: Side, to: Side, by: 'browser' | 'upstream', gone: number) => {
    const { socket } = from;
    const onSent = () => {
      if (socket.isPaused && to.socket.bufferedAmount <= fewWaiting) socket.resume();
    };
    socket.on('message', (data, isBinary) => {
      if (isMuted) return;
      from.isAlive = true;
      isActive = true;
      from.messages++;
      to.socket.send(data as Buffer, { binary: isBinary }, onSent);
      if (to.socket.bufferedAmount > mostWaiting) socket.pause();
    });
    const onControl = () => {
      from.isAlive = true;
      if (++from.controls > mostControls) fault(from, 1008);
    };
    socket.on('ping', onControl);
    socket.on('pong', onControl);
    // ws has told whoever broke the protocol already.
    socket.on('error', (error) => fault(from, codeOf(error)));
    socket.on('close', (code, reason) => {
      const farewell = code === 1006 ? { code: gone } : code === 1005 ? {} : { code, reason };
      if (by === 'browser') endBoth(by, { code }, farewell);
      else endBoth(by, farewell, { code });
      left--;
      if (left === 0 && ended !== undefined)
        onClosed({ ...ended, fromBrowser: ofBrowser.messages, fromUpstream: ofUpstream.messages });
    });
  };
  connect(ofBrowser, ofUpstream, 'browser', browserGone);
  connect(ofUpstream, ofBrowser, 'upstream', upstreamGone);
  upstream.resume();

  const bridge: Bridge = {
    end(by, code, reason) {
      if (ended !== undefined) return;
      ended = { by, code };
      const finish = () => {
        isMuted = true;
        say(upstream, { code: browserGone });
        say(browser, { code, reason });
      };
      // What ended, ended now: only the news of it may take a moment.
      if (by !== 'shutdown') {
        isMuted = true;
        say(upstream, { code: browserGone });
      }
      setTimeout(finish, Math.random() * spreadMs);
    },
    beat(now) {
      if (ended !== undefined) return;
      if (isActive) activeAt = now;
      isActive = false;
      if (tokenEnd !== undefined && now >= tokenEnd) return bridge.end('token', 4401, 'token-expired');
      if (now - activeAt >= idle) return bridge.end('idle', 4408, 'idle');
      for (const side of sides) side.controls = Math.max(0, side.controls - controlsPerSecond);
      if (now < pingAt) return;
      pingAt = now + pingInterval;
      for (const side of sides) {
        if (!side.isAlive) {
          side.socket.terminate();
          const toBrowser = side === ofBrowser ? 1006 : upstreamGone;
          return endBoth('unresponsive', { code: toBrowser }, { code: browserGone });
        }
        side.isAlive = side.socket.isPaused; // its pong may wait where we do not read
        side.socket.ping();
      }
    },
  };
  return bridge;
}

/** What ws says to a side that broke the protocol. */
function codeOf(error: Error & { code?: string }): number {
  switch (error.code) {
    case 'WS_ERR_INVALID_UTF8':
      return 1007;
    case 'WS_ERR_TOO_MANY_BUFFERED_PARTS':
      return 1008;
    case 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH':
    case 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH':
      return 1009;
    default:
      return 1002;
  }
}

interface Farewell {
  code?: number;
  reason?: string | Buffer;
}

/** Nothing happens if that side is closed already. One that is paused could not hear the answer. */
function say(socket: WebSocket, { code, reason }: Farewell): void {
  if (code === undefined) socket.close();
  else if (code !== 1005 && code !== 1006) socket.close(code, reason);
  socket.resume();
}

/** Gives every bridge its beat, from one timer. */
export function createBeats(): { add(bridge: Bridge): void; delete(bridge: Bridge): void } {
  const bridges = new Set<Bridge>();
  let timer: NodeJS.Timeout | undefined;
  const beatAll = () => {
    const now = performance.now();
    for (const bridge of bridges) bridge.beat(now);
  };
  return {
    add(bridge) {
      bridges.add(bridge);
      timer ??= setInterval(beatAll, 1000);
    },
    delete(bridge) {
      bridges.delete(bridge);
      if (bridges.size > 0) return;
      clearInterval(timer);
      timer = undefined;
    },
  };
}
