import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { hangUp } from '../problems/client-error.ts';
import { isWithBody } from './request-guard.ts';

/** Closes the connection after the answer to a request whose body nobody wants: it could drip in for minutes (W14). */
export function closeUnread({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (raw.complete || !isWithBody(raw.headers)) return;
  reply.header('connection', 'close');
  const { socket } = raw;
  // Node would destroy it at once, and a browser that is still sending would see a reset instead of the answer.
  socket.destroySoon = () => hangUp(socket);
}

/**
 * Says "100 Continue" when somebody begins to read the body (RFC 9110 §10.1.1), where Node would say it before anybody
 * has looked at the request: what is refused is never sent. What else is expected is for the request guard to refuse.
 */
export function continueWhenRead(server: Server): void {
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    const read = request._read;
    request._read = (size) => {
      request._read = read;
      if (!response.headersSent) response.writeContinue();
      read.call(request, size);
    };
    server.emit('request', request, response);
  });
  // Any other expectation Node would refuse by itself, past all that counts requests and bounds them (W13).
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    server.emit('request', request, response);
  });
}
