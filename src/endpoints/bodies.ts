import { PassThrough } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { limitedAs } from '../http/client-address.ts';
import { isWithBody } from '../http/request-guard.ts';
import { closeUnread } from '../http/unread-body.ts';
import {
  BodyTooLarge,
  Overloaded,
  type Problem,
  problem,
  RateLimited,
  RequestMalformed,
  RequestTimeout,
} from '../problems/errors.ts';

/** A logout token or an authorization response has a few KiB. Bytes. */
export const mostBodyBytes = 16 * 1024;
/** From the head to the last byte. Milliseconds. */
const mostBodyMs = 10_000;
/** Bodies that have begun and not ended, in this process: nearly all are there with their head, and never counted. */
const mostArriving = 512;
const mostArrivingFromAddress = 64;
const comeBack = { retryAfterSeconds: mostBodyMs / 1000 };

/** What ends each of them, by address, the oldest first. */
const arriving = new Map<string, Set<(why: Problem) => void>>();
let arrivingInAll = 0;

/**
 * What our own endpoints take: forms, small and soon. Anybody may begin a body here, without a cookie (W14). Whatever
 * is refused closes its connection.
 */
export function acceptForms(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: mostBodyBytes },
    (_request, body, done) => done(null, body),
  );
  scope.addHook('onRequest', (request, _reply, done) => {
    if (Number(request.headers['content-length'] ?? 0) > mostBodyBytes) done(problem(BodyTooLarge));
    else done();
  });
  scope.addHook('preParsing', (request, _reply, payload, done) => {
    if (!isWithBody(request.headers)) {
      done(null, payload);
      return;
    }
    // What came with its head is there when Node has read on.
    setImmediate(() => {
      if (request.raw.complete) done(null, payload);
      else receive(request, done);
    });
  });
  scope.addHook('onSend', (request: FastifyRequest, reply: FastifyReply, _payload, done) => {
    closeUnread(request, reply);
    done();
  });
}

function receive(
  { raw, clientAddress }: FastifyRequest,
  done: (error: Error | null, body?: PassThrough) => void,
): void {
  const ip = limitedAs(clientAddress);
  const own = arriving.get(ip) ?? new Set();
  if (own.size >= mostArrivingFromAddress) {
    done(problem(RateLimited, comeBack));
    return;
  }
  if (arrivingInAll >= mostArriving && !makeRoom(own.size)) {
    done(problem(Overloaded, comeBack));
    return;
  }
  const body = new PassThrough();
  body.on('error', () => undefined); // also after its reader has gone
  const end = (why: Problem) => {
    if (leave()) body.destroy(why);
  };
  const timer = setTimeout(() => end(problem(RequestTimeout)), mostBodyMs);
  const leave = () => {
    if (!own.delete(end)) return false;
    clearTimeout(timer);
    arrivingInAll--;
    if (own.size === 0) arriving.delete(ip);
    return true;
  };
  arrivingInAll++;
  arriving.set(ip, own.add(end));
  raw.once('end', leave).once('close', () => end(problem(RequestMalformed))); // the browser left
  raw.pipe(body);
  done(null, body);
}

/**
 * Ends the oldest body of the address that has most, if that is more than so many: a few addresses can't keep the
 * others out, such as the authorization server with a logout.
 */
function makeRoom(own: number): boolean {
  let most: Set<(why: Problem) => void> | undefined;
  for (const bodies of arriving.values()) if (bodies.size > (most?.size ?? own)) most = bodies;
  const [endOldest] = most ?? [];
  endOldest?.(problem(Overloaded, comeBack));
  return endOldest !== undefined;
}
