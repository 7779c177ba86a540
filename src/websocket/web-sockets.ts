import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type WebSocket, WebSocketServer } from 'ws';
import { type Admitted, affinityOf, handleOf, refusalOf } from '../admission/authorize.ts';
import { readChallenge } from '../admission/challenge.ts';
import { followed, type ReviewOf } from '../admission/follow-session.ts';
import type { Api } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { limitedAs } from '../http/client-address.ts';
import { foreignOriginDetail } from '../http/request-source.ts';
import { handshakeSocket } from '../http/upgrade.ts';
import {
  problem,
  RequestMalformed,
  SessionRequired,
  WebSocketLimit,
  WebSocketNotAccepted,
  WebSocketOriginRefused,
  WebSocketsFull,
} from '../problems/errors.ts';
import type { AttachedToken } from '../tokens/token-set.ts';
import type { Upstream } from '../upstream/upstreams.ts';
import { type Dialled, dial, type FrameLimits } from './dial.ts';
import { createWebSocketLife } from './life.ts';

/** The handshakes of one API. */
export interface WebSockets {
  /** Throws for what is no proper handshake, and for pages of other origins: before a session is looked for. */
  check(request: FastifyRequest, reply: FastifyReply): void;
  /**
   * Connects an admitted handshake with the API, and answers it. `path`: with the query, as matched. `buildHeaders`
   * makes those for the API with this token.
   */
  open(
    request: FastifyRequest,
    reply: FastifyReply,
    path: string,
    buildHeaders: (token: AttachedToken | undefined) => string[],
  ): Promise<void>;
  /** Counts a request that was answered: one that got a 101 never is. */
  note(request: FastifyRequest, reply: FastifyReply): void;
}

export interface WebSocketOptions {
  context: FrontendContext;
  api: Api;
  settings: NonNullable<Api['websocket']>;
  upstream: Upstream;
  labels: { frontend: string; api: string };
  reviewOf: ReviewOf;
}

/** A closing handshake takes one way there and back; whoever needs longer is cut off. Milliseconds. */
const closeTimeout = 3000;

/**
 * A handshake passes every check of an ordinary request, and one more in the place of the CSRF defence: browsers send no
 * CORS preflight for it and let no page add a header, so `Origin` alone tells who asks (T101). @fastify/http-proxy would
 * answer before the API did, send the cookie on and no token (S13).
 */
export function createWebSockets(options: WebSocketOptions): WebSockets {
  const { context, api, settings, upstream, labels } = options;
  const { frontend, accessTokens } = context;
  const origins = new Set(settings.origins ?? [frontend.origin]);
  const places = createPlaces(settings);
  const attach = createWebSocketLife(options);
  const limits: FrameLimits = {
    maxPayload: settings.maxMessage,
    // Each piece of a message costs memory of its own; so many are enough for the smallest packets that there are.
    maxFragments: 1024 + settings.maxMessage / 512,
    maxBufferedChunks: 1024 + settings.maxMessage / 512,
    closeTimeout,
    perMessageDeflate: false,
  };
  const server = new WebSocketServer({ ...limits, noServer: true, clientTracking: false });

  /** An API that refuses a token which should be good gets another, once: a handshake can be repeated (PO6). */
  async function dialWith(
    { caller, token }: Admitted,
    toApi: (token: AttachedToken | undefined) => Promise<Dialled>,
  ): Promise<[Dialled, AttachedToken | undefined]> {
    const dialled = await toApi(token);
    const isRefused =
      dialled.kind === 'refused' &&
      dialled.status === 401 &&
      readChallenge(dialled.challenges)?.error === 'invalid_token';
    const session = caller.kind === 'session' ? caller.session : undefined;
    // A token that the caller brought is the caller's own: only the caller can get another.
    if (!isRefused || token === undefined || caller.kind === 'bearer') return [dialled, token];
    if (!accessTokens.canReplace(session, api, token)) return [dialled, token];
    const answer = await accessTokens.replace(session, api, token);
    if (answer.kind !== 'token') throw refusalOf(answer);
    return [await toApi(answer.token), answer.token];
  }

  return {
    note(request, { statusCode }) {
      if (handshakeSocket(request.raw) === undefined) return;
      context.metrics.webSocketRefusals.inc({ ...labels, status: String(statusCode) });
    },

    check({ headers, log }, reply) {
      if (headers['sec-websocket-version'] !== '13') {
        reply.header('sec-websocket-version', '13'); // RFC 6455 §4.4
        throw problem(RequestMalformed);
      }
      if (!/^[+/0-9A-Za-z]{22}==$/.test(headers['sec-websocket-key'] ?? '')) throw problem(RequestMalformed);
      const { origin, authorization } = headers;
      if (origins.has(origin ?? '')) return;
      // A program, which has no origin. No page can send this header with a handshake, and no cookie counts beside it.
      if (origin === undefined && authorization !== undefined && api.accept.includes('bearer')) return;
      log.info({ ...labels, origin: origin?.slice(0, 100), audit: 'websocket_origin_refused' }, 'request refused');
      const detail = foreignOriginDetail(origin, frontend.origin);
      throw problem(WebSocketOriginRefused, settings.origins === undefined ? { detail } : {});
    },

    async open(request, reply, path, buildHeaders) {
      const { raw, admitted } = request;
      const browser = handshakeSocket(raw);
      if (admitted === undefined || browser === undefined) throw problem(SessionRequired); // the hook of the route did not run
      const { caller } = admitted;
      const session = caller.kind === 'session' ? caller.session : undefined;
      const now = session?.now ?? context.nowMs() / 1000;
      const sinceMs = performance.now();
      const protocols = readProtocols(raw.headers['sec-websocket-protocol']);
      const leave = places.enter(handleOf(caller), limitedAs(request.clientAddress));
      const leaveOnError = (error: unknown) => {
        leave();
        throw error;
      };
      const [dialled, token] = await dialWith(admitted, (token) =>
        dial({
          upstream,
          affinity: affinityOf(api, caller, request.clientAddress),
          path,
          headers: buildHeaders(token),
          protocols,
          browser,
          timeoutMs: api.timeouts.headers,
          limits,
        }),
      ).catch(leaveOnError);

      if (dialled.kind === 'refused') {
        leave();
        request.log.info({ ...labels, status: dialled.status }, 'the API did not accept a WebSocket');
        throw problem(WebSocketNotAccepted, { receivedStatus: dialled.status });
      }
      if (dialled.kind === 'left-by-browser') {
        leave();
        reply.hijack();
        browser.destroy();
        request.log.info({ ...labels, outcome: 'left-by-browser' }, 'request cut short');
        return;
      }
      const accepted = accept(server, request, reply, browser, dialled.socket);
      if (accepted === undefined) {
        leave();
        dialled.socket.terminate();
        return;
      }
      // What a caller brought is all that lets it in: that is never outlived.
      const end =
        caller.kind === 'bearer' ? caller.identity.expiresAt : settings.outliveToken ? undefined : token?.expiresAt;
      attach({
        browser: accepted,
        upstream: dialled.socket,
        session: session && followed(session),
        tokenEnd: end === undefined ? undefined : sinceMs + (end - now) * 1000,
        target: raw.url ?? '',
        facts: { reqId: request.id, ...request.loggedCaller },
        leave,
      });
    },
  };
}

/** Says 101, with the subprotocol that the API chose. Undefined: the browser has left. */
function accept(
  server: WebSocketServer,
  { raw }: FastifyRequest,
  reply: FastifyReply,
  socket: Socket,
  upstream: WebSocket,
): WebSocket | undefined {
  reply.hijack();
  reply.raw.detachSocket(socket);
  // ws takes the first that it finds here.
  if (upstream.protocol === '') delete raw.headers['sec-websocket-protocol'];
  else raw.headers['sec-websocket-protocol'] = upstream.protocol;
  let accepted: WebSocket | undefined;
  server.handleUpgrade(raw, socket, Buffer.alloc(0), (webSocket) => {
    accepted = webSocket;
  });
  return accepted;
}

/** The offered subprotocols (RFC 6455 §4.1): tokens, each once. */
function readProtocols(header: string | undefined): string[] {
  if (header === undefined) return [];
  const names = header.split(',').map((name) => name.trim());
  const areTokens = names.every((name) => /^[\w!#$%&'*+.^`|~-]+$/.test(name));
  if (!areTokens || new Set(names).size !== names.length) throw problem(RequestMalformed);
  return names;
}

/** Of all places, those that callers whom nobody knows may take from one address: one in so many. */
const shareOfAddress = 10;

/** Counts what is open and what is being opened: for each session, for each address without one, and in all. */
function createPlaces({ connections, connectionsPerSession }: WebSocketOptions['settings']) {
  let taken = 0;
  const mostOfAddress = Math.max(connectionsPerSession, Math.ceil(connections / shareOfAddress));
  const byCaller = new Map<string, number>();
  return {
    /** Throws when there is none left; returns how to give it back. */
    enter(handle: string | undefined, address: string): () => void {
      const caller = handle ?? `address ${address}`;
      const mine = byCaller.get(caller) ?? 0;
      if (handle !== undefined && mine >= connectionsPerSession)
        throw problem(WebSocketLimit, { retryAfterSeconds: 30 });
      if (taken >= connections || (handle === undefined && mine >= mostOfAddress))
        throw problem(WebSocketsFull, { retryAfterSeconds: 5 });
      taken++;
      byCaller.set(caller, mine + 1);
      return () => {
        taken--;
        const left = (byCaller.get(caller) ?? 1) - 1;
        if (left === 0) byCaller.delete(caller);
        else byCaller.set(caller, left);
      };
    },
  };
}
