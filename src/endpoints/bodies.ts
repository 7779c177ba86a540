import { PassThrough } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { limitedAs } from '../http/client-address.ts';
import { isWithBody } from '../http/request-guard.ts';
import { closeUnread } from '../http/unread-body.ts';
import {
  BodyTooLarge,
  Overloaded,
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

const arriving = new Map<string, number>();
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
  const before = arriving.get(ip) ?? 0;
  const full = before >= mostArrivingFromAddress ? RateLimited : arrivingInAll >= mostArriving ? Overloaded : undefined;
  if (full !== undefined) {
    done(problem(full, { retryAfterSeconds: mostBodyMs / 1000 }));
    return;
  }
  arrivingInAll++;
  arriving.set(ip, before + 1);
  const body = new PassThrough();
  body.on('error', () => undefined); // also after its reader has gone
  const timer = setTimeout(() => body.destroy(problem(RequestTimeout)), mostBodyMs);
  let isOver = false;
  const end = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    arrivingInAll--;
    const left = (arriving.get(ip) ?? 1) - 1;
    if (left === 0) arriving.delete(ip);
    else arriving.set(ip, left);
    if (!raw.complete) body.destroy(problem(RequestMalformed)); // the browser left
  };
  raw.once('end', end).once('close', end);
  raw.pipe(body);
  done(null, body);
}
