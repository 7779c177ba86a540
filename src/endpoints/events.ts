import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { problem, RateLimited, SessionRequired } from '../problems/errors.ts';
import { idleExpiresAt, type Lifetimes } from '../session/session.ts';
import { warningTime, watchSession } from '../session/watch.ts';
import type { SessionTimes } from '../store/record.ts';

/** Streams of one session at the same time, in this process: one per tab, and then some. */
const mostStreams = 16;
/** Browsers come back after two to seven seconds, so that a restart is no stampede. Milliseconds. */
const [soonestReturnMs, spreadMs] = [2000, 5000];

/**
 * `GET /bff/events`: tells the SPA what happens to its session (server-sent events). `ended` with a reason, after which
 * the stream closes; `expiring` before the idle and the absolute end; `claims_changed` when `GET /bff/session` has news.
 * Watching is not using: it keeps no session alive.
 */
export async function streamEvents(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const session = request.session.current;
  if (session === undefined) throw problem(SessionRequired);
  const { handle } = session;
  const name = `events/${handle}`;
  if (context.streams.count(name) >= mostStreams) throw problem(RateLimited, { retryAfterSeconds: 30 });

  const headers = { ...reply.getHeaders(), 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' };
  reply.hijack();
  const response = reply.raw;
  response.writeHead(200, headers as Record<string, string>);
  response.write(`retry: ${soonestReturnMs + Math.floor(Math.random() * spreadMs)}\n${idLine(handle, session)}\n`);
  // A browser that comes back says what it saw last: anything but the present state is news.
  const lastSeen = request.headers['last-event-id'];
  if (lastSeen !== undefined && `id: ${lastSeen}\n` !== idLine(handle, session)) send(response, 'claims_changed', {});

  const announce = createAnnouncer(context.sessions.lifetimes, response);
  const stop = watchSession(context, session, name, {
    onEnd(reason) {
      if (reason !== undefined) send(response, 'ended', { reason });
      response.end();
    },
    onClaimsChanged: () => send(response, 'claims_changed', {}),
    onLook(seen) {
      // Also the heartbeat that keeps proxies from closing, and that finds browsers which are gone.
      response.write(`${seen === undefined ? '' : idLine(handle, seen)}:\n\n`);
      if (seen !== undefined) announce(seen);
    },
  });
  response.on('close', stop);
  response.on('error', stop);
  return reply;
}

/** Says `expiring` once for each end that comes near. */
function createAnnouncer(lifetimes: Lifetimes, response: ServerResponse): (session: SessionTimes) => void {
  let announced: number | undefined;
  return (session) => {
    const at = idleExpiresAt(session, lifetimes);
    const left = Math.max(0, at - session.now);
    if (left > warningTime(lifetimes) || at === announced) return;
    announced = at;
    const kind = at < session.expiresAt ? 'idle' : 'absolute';
    send(response, 'expiring', { kind, expiresAt: at, expiresInSeconds: Math.floor(left) });
  };
}

/** Names the session and the generation, neither of which opens anything. */
function idLine(handle: string, { generation }: { generation: number }): string {
  return `id: ${handle.slice(0, 12)}-${generation}\n`;
}

function send(response: ServerResponse, event: string, data: object): void {
  response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}
