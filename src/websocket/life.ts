import type { WebSocket } from 'ws';
import { type FollowedSession, followSession, type ReviewOf } from '../admission/follow-session.ts';
import type { Api } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { loggablePath } from '../ops/logging.ts';
import { type Bridge, createBeats, createBridge } from './bridge.ts';

/** A WebSocket that was just opened. */
export interface OpenWebSocket {
  browser: WebSocket;
  upstream: WebSocket;
  /** None: a guest, or a public API. */
  session: FollowedSession | undefined;
  /** When the token ends, by `performance.now()`. */
  tokenEnd: number | undefined;
  /** Request target, as it came. */
  target: string;
  /** For the log: which request, whose. */
  facts: object;
  /** Gives its place back. */
  leave: () => void;
}

export type AttachWebSocket = (opened: OpenWebSocket) => void;

export interface WebSocketLifeOptions {
  context: FrontendContext;
  settings: NonNullable<Api['websocket']>;
  labels: { frontend: string; api: string };
  reviewOf: ReviewOf;
}

/**
 * What happens to the WebSockets of one API between opening and closing. They were authorized once: what that stood on
 * is followed for as long as they are open (T103). Only what is needed for that stays in memory, and no token.
 */
export function createWebSocketLife({ context, settings, labels, reviewOf }: WebSocketLifeOptions): AttachWebSocket {
  const { metrics, log, streams } = context;
  const beats = createBeats();
  const open = metrics.webSockets.labels(labels);
  open.set(0);

  return ({ browser, upstream, session, tokenEnd, target, facts, leave }) => {
    const openedAt = performance.now();
    const line = {
      ...facts,
      ...labels,
      path: loggablePath(target),
      ...(session === undefined ? {} : { session: session.handle.slice(0, 12) }),
    };
    const note = (more: object, message: string) => {
      if (context.config.log.requests) log.info({ ...line, ...more }, message);
    };
    const bridge = createBridge({
      browser,
      upstream,
      idle: settings.idle,
      tokenEnd,
      onClosed(summary) {
        stop();
        leave();
        beats.delete(bridge);
        open.dec();
        metrics.webSocketsClosed.inc({ ...labels, by: summary.by });
        note({ ...summary, seconds: Math.round((performance.now() - openedAt) / 100) / 10 }, 'websocket closed');
      },
    });
    beats.add(bridge);
    open.inc();
    note({}, 'websocket opened');
    const stop =
      session === undefined
        ? streams.enter(`websocket/${labels.frontend}/${labels.api}`, () => shutDown(bridge))
        : followSession(context, session, {
            name: `websocket/${session.handle}`,
            review: reviewOf('GET', target),
            onEnd(reason) {
              if (reason === undefined) shutDown(bridge);
              else bridge.end(reason === 'policy-changed' ? 'policy' : 'session', 4401, reason);
            },
          });
  };
}

function shutDown(bridge: Bridge): void {
  bridge.end('shutdown', 1001, 'shutting-down');
}
