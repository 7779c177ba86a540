import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isLoopbackHost } from '../config/schema/values.ts';
import {
  ExpectationFailed,
  HeadersTooMany,
  HostInvalid,
  HostUnknown,
  PathNotCanonical,
  type Problem,
  type ProblemType,
  problem,
  TransferCodingUnknown,
  UriTooLong,
  WebSocketRefused,
} from '../problems/errors.ts';
import type { FindPlace } from '../routing/places.ts';
import { isBelow, targetFault } from '../routing/request-path.ts';
import { isLoopbackAddress, type ReadClientAddress } from './client-address.ts';
import { cookieNames } from './cookies.ts';
import { handshakeSocket } from './upgrade.ts';

/** More header lines than any browser sends. */
const mostHeaderLines = 100;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Where a browser gets rid of cookies that are too many for everything else. */
    takesAnyCookies?: boolean;
  }
}

/** What a request may be made of. Bytes, each counted apart, so that one can't use up the room of another. */
export interface SizeLimits {
  url: number;
  cookies: number;
  headers: number;
}

/** What the guard must know of a frontend. */
export interface GuardedFrontend {
  host: string;
  basePath: string;
  /** What the names of its login cookies begin with. */
  loginCookiePrefix: string;
}

export interface GuardOptions {
  frontends: GuardedFrontend[];
  findPlace: FindPlace;
  limits: SizeLimits;
  isDraining: () => boolean;
  readClientAddress: ReadClientAddress;
}

/**
 * Bytes of a head that Node reads: all of our own limits and room above, so that it is us who answer. Beyond it the
 * answer can neither be a page nor help. Each connection may have so much kept for it before there is a request.
 */
export function mostHeadBytes({ url, cookies, headers }: SizeLimits): number {
  return url + cookies + headers + 16 * 1024;
}

/** Refuses, before anything else looks at it, every request that two parties could read in two ways, or that is too big. */
export function registerRequestGuard(server: FastifyInstance, options: GuardOptions): void {
  const { frontends, findPlace, limits, isDraining, readClientAddress } = options;
  server.decorateRequest('clientAddress', '');
  const hosts = new Set(frontends.map(({ host }) => host));
  const refuseHost = buildRefuseHost([...hosts]);
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
    const { headers } = request.raw;
    // In this order: Fastify makes the route's options anew whenever they are asked for.
    const isExpected = handshakeSocket(request.raw) !== undefined && request.routeOptions.config?.websocket === true;
    const fault = requestFault(request.raw, { hosts, findPlace, limits }, isExpected);
    // Without a body it describes nothing (RFC 9110 §8.3), and Fastify would begin to read: Node announces no end of a
    // body that was never there (`optimizeEmptyRequests` in app.ts), so that it would wait for ever.
    if (headers['content-type'] !== undefined && !isWithBody(headers)) delete headers['content-type'];
    if (fault === undefined) done();
    else if (fault === 'cookies') done(cookieProblem(request, frontends));
    else done(fault === HostUnknown ? refuseHost(request) : problem(fault));
  });
}

export function isWithBody(headers: IncomingHttpHeaders): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
}

function requestFault(
  { rawHeaders, headers, url = '' }: IncomingMessage,
  { hosts, findPlace, limits }: Pick<GuardOptions, 'findPlace' | 'limits'> & { hosts: Set<string> },
  isExpectedHandshake: boolean,
): ProblemType | 'cookies' | undefined {
  if (rawHeaders.length > 2 * mostHeaderLines) return HeadersTooMany;
  let hostLines = 0;
  let cookieBytes = 0;
  let otherBytes = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    const bytes = name.length + (rawHeaders[index + 1] as string).length + 4;
    if (name.length === 4 && name.toLowerCase() === 'host') hostLines++;
    if (name.length === 6 && name.toLowerCase() === 'cookie') cookieBytes += bytes;
    else otherBytes += bytes;
  }
  const host = headers.host?.toLowerCase() ?? '';
  // Node keeps the first of two Host lines; a proxy in front may have used the second (T76).
  if (hostLines !== 1 || !/^[a-z0-9.:[\]-]+$/.test(host)) return HostInvalid;
  if (!hosts.has(host)) return HostUnknown;
  if (url.length > limits.url) return UriTooLong;
  if (otherBytes > limits.headers) return HeadersTooMany;
  if (cookieBytes > limits.cookies) return 'cookies';
  // Expectations are a list, and all must be met (RFC 9110 §10.1.1). Node looks for one it knows among them.
  if (headers.expect !== undefined && headers.expect.toLowerCase() !== '100-continue') return ExpectationFailed;
  // Node takes the chunks apart and leaves what another coding made of the body, which nobody is told of (RFC 9112 §6.1).
  if (/,[ \t]*chunked$/i.test(headers['transfer-encoding'] ?? '')) return TransferCodingUnknown;
  if (headers.upgrade?.toLowerCase() === 'websocket' && !isExpectedHandshake) return WebSocketRefused;
  // What means one thing to everybody is left to the router: nearly all requests.
  if (targetFault(url) === undefined) return undefined;
  return findPlace(host, url)?.kind === 'ambiguous' ? PathNotCanonical : undefined;
}

/** Scanners ask for thousands of hosts; an operator reads a few lines. */
const mostToldHosts = 20;
/** Milliseconds. */
const toldAnewAfter = 3_600_000;

/**
 * Says which Host came and which are expected: to whoever is on this machine where `publicUrl` is, as developers are,
 * else in the log alone. By now it has the characters of a host.
 */
function buildRefuseHost(hosts: string[]): (request: FastifyRequest) => Problem {
  const isLocal = hosts.every((host) => isLoopbackHost(new URL(`http://${host}`).hostname));
  const told = new Set<string>();
  let since = performance.now();
  return ({ clientAddress, headers, log }) => {
    const host = (headers.host ?? '').toLowerCase().slice(0, 100);
    if (performance.now() - since > toldAnewAfter) {
      told.clear();
      since = performance.now();
    }
    if (!told.has(host) && told.size < mostToldHosts) {
      told.add(host);
      log.info({ host, expected: hosts.slice(0, 10) }, 'a request for a host that no publicUrl has');
    }
    if (!isLocal || !isLoopbackAddress(clientAddress)) return problem(HostUnknown);
    const expected = hosts.map((each) => `"${each}"`).join(' or ');
    return problem(HostUnknown, {
      detail: `Host is "${host}", expected is ${expected}. Open the address of publicUrl, or correct it. A development server’s proxy in front must leave Host as it is (changeOrigin: false).`,
    });
  };
}

/**
 * Cookies that are too many. A neighbour under the same registrable domain can plant them (T45), so they may not cost
 * the session (W5): only login attempts are ended, which are ours and may be what is too much. The rest is the user's
 * decision, at the one route that takes them.
 */
function cookieProblem(request: FastifyRequest, frontends: GuardedFrontend[]): Problem | undefined {
  if (request.routeOptions.config?.takesAnyCookies === true) return undefined;
  const { headers, url = '' } = request.raw;
  const here = frontends.filter(({ host }) => host === headers.host?.toLowerCase());
  const expires = cookieNames(headers.cookie).filter((name) =>
    here.some(({ loginCookiePrefix }) => name.startsWith(loginCookiePrefix)),
  );
  const [frontend] = here
    .filter(({ basePath }) => isBelow(url, basePath))
    .sort((one, other) => other.basePath.length - one.basePath.length);
  return problem(HeadersTooMany, {
    expires,
    ...(frontend === undefined ? {} : { clearCookiesPath: `${frontend.basePath}/bff/clear-cookies` }),
  });
}
