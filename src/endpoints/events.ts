import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { problem, RateLimited, SessionRequired } from '../http/errors.ts';
import { idleExpiresAt, type Session } from '../session/session.ts';

/** Streams of one session at the same time, in this process: one per tab, and then some. */
const mostStreams = 16;
/** Between two looks at the session, which are also the heartbeat that keeps proxies from closing. Milliseconds. */
const beatMs = 15_000;
/** `expiring` is sent this long before an end. Seconds. */
const warnAhead = 60;
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
  if (context.streams.count(session.handle) >= mostStreams) throw problem(RateLimited, { retryAfterSeconds: 30 });

  const headers = { ...reply.getHeaders(), 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' };
  reply.hijack();
  const response = reply.raw;
  response.writeHead(200, headers as Record<string, string>);
  // The id is the generation: a browser that comes back tells which one it saw last.
  const lastSeen = Number(request.headers['last-event-id'] ?? Number.NaN);
  response.write(`retry: ${soonestReturnMs + Math.floor(Math.random() * spreadMs)}\nid: ${session.generation}\n\n`);
  if (lastSeen < session.generation) send(response, 'claims_changed', {});
  watch(context, session, response);
  return reply;
}

function watch({ channel, sessions, streams }: FrontendContext, first: Session, response: ServerResponse): void {
  const announced = new Set<number>();
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;

  const close = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    stopListening();
    leave();
    response.end();
  };
  const end = (reason: string) => {
    if (!isOver) send(response, 'ended', { reason });
    close();
  };
  const stopListening = channel.listen(first.handle, (event) => {
    if (event.kind === 'ended') end(event.reason);
    else send(response, 'claims_changed', {});
  });
  const leave = streams.enter(first.handle, close);
  response.on('close', close);

  /** A look at the store: ends that nobody announced, and what comes soon. Redis being down changes nothing here. */
  const look = async () => {
    const session = await sessions.peek(first.id).catch(() => 'unavailable' as const);
    if (isOver) return;
    if (session === undefined) return end('expired');
    if (session === 'unavailable') response.write(':\n\n');
    else announce(session);
    plan(session === 'unavailable' ? undefined : session);
  };
  const announce = (session: Session) => {
    const idleEnd = idleExpiresAt(session, sessions.lifetimes);
    const [at, kind] = idleEnd < session.expiresAt ? [idleEnd, 'idle'] : [session.expiresAt, 'absolute'];
    const left = Math.max(0, Math.floor(at - session.now));
    if (left > warnAhead || announced.has(at)) {
      response.write(`id: ${session.generation}\n:\n\n`);
      return;
    }
    announced.add(at);
    send(response, 'expiring', { kind, expiresAt: at, expiresInSeconds: left });
  };
  const plan = (session: Session | undefined) => {
    const soonest = session === undefined ? Number.POSITIVE_INFINITY : untilNext(session, sessions.lifetimes);
    timer = setTimeout(look, Math.min(beatMs * (0.9 + Math.random() * 0.2), Math.max(soonest, 250)));
  };
  announce(first);
  plan(first);
}

/** Milliseconds until the session's next announcement or end. */
function untilNext(session: Session, lifetimes: { idleTimeout: number; absoluteTimeout: number }): number {
  const left = idleExpiresAt(session, lifetimes) - session.now;
  return (left > warnAhead ? left - warnAhead : left) * 1000;
}

function send(response: ServerResponse, event: string, data: object): void {
  response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}
