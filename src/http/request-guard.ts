import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance } from 'fastify';
import {
  HeadersTooMany,
  HostInvalid,
  HostUnknown,
  PathNotCanonical,
  type ProblemType,
  problem,
  WebSocketRefused,
} from '../problems/errors.ts';
import type { ReadClientAddress } from './client-address.ts';
import { targetFault } from './request-path.ts';
import { handshakeSocket } from './upgrade.ts';

/** More header lines than any browser sends. */
const mostHeaderLines = 100;

/** Refuses, before anything else looks at it, every request that two parties could read in two ways. */
export function registerRequestGuard(
  server: FastifyInstance,
  hosts: Set<string>,
  isDraining: () => boolean,
  readClientAddress: ReadClientAddress,
): void {
  server.decorateRequest('clientAddress', '');
  server.addHook('onRequest', (request, reply, done) => {
    const address = readClientAddress(request.raw);
    if (address === undefined) {
      // Sent and reset at once: nobody is there to be answered, and without an address no header for an API can be built.
      reply.hijack();
      request.raw.socket.destroy();
      return;
    }
    request.clientAddress = address;
    reply.header('x-request-id', request.id);
    if (isDraining()) reply.header('connection', 'close');
    const { rawHeaders, headers, url = '' } = request.raw;
    // In this order: Fastify makes the route's options anew whenever they are asked for.
    const isExpected = handshakeSocket(request.raw) !== undefined && request.routeOptions.config?.websocket === true;
    const fault = requestFault(rawHeaders, headers, url, hosts, isExpected);
    // Without a body it describes nothing (RFC 9110 §8.3), and Fastify would begin to read: Node announces no end of a
    // body that was never there (`optimizeEmptyRequests` in app.ts), so that it would wait for ever.
    if (headers['content-type'] !== undefined && !isWithBody(headers)) delete headers['content-type'];
    if (fault === undefined) done();
    else done(problem(fault));
  });
}

function isWithBody(headers: IncomingHttpHeaders): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
}

function requestFault(
  rawHeaders: string[],
  headers: { host?: string | undefined; upgrade?: string | undefined },
  target: string,
  hosts: Set<string>,
  isExpectedHandshake: boolean,
): ProblemType | undefined {
  if (rawHeaders.length > 2 * mostHeaderLines) return HeadersTooMany;
  let hostLines = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hostLines++;
  }
  const host = headers.host?.toLowerCase() ?? '';
  // Node keeps the first of two Host lines; a proxy in front may have used the second (T76).
  if (hostLines !== 1 || !/^[a-z0-9.:[\]-]+$/.test(host)) return HostInvalid;
  if (!hosts.has(host)) return HostUnknown;
  if (headers.upgrade?.toLowerCase() === 'websocket' && !isExpectedHandshake) return WebSocketRefused;
  return targetFault(target) === undefined ? undefined : PathNotCanonical;
}
