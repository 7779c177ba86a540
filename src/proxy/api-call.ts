import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Admitted, affinityOf, type Caller, type Review, refusalOf } from '../admission/authorize.ts';
import { watchToken } from '../admission/bearer-caller.ts';
import { type Challenge, isStepUp, readChallenge } from '../admission/challenge.ts';
import { followed, followSession, type ReviewOf } from '../admission/follow-session.ts';
import { answerStepUp } from '../admission/step-up.ts';
import type { Api } from '../config/config.ts';
import { hashId } from '../crypto/keys.ts';
import { unmarkTags } from '../exchange/entity-tags.ts';
import type { Exchanged } from '../exchange/exchange.ts';
import { type ForwardOptions, forward } from '../exchange/forward.ts';
import {
  type AnswerHeaders,
  type BrowserHeaderOptions,
  buildBrowserHeaders,
  buildBrowserTrailers,
  buildExtraHeaders,
} from '../exchange/headers.ts';
import { buildLinkRewriter } from '../exchange/links.ts';
import { discardBody } from '../exchange/request-body.ts';
import { type Arrived, buildHeadersFor, upstreamPath } from '../exchange/upstream-request.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { handshakeSocket } from '../http/upgrade.ts';
import { loggablePath } from '../ops/logging.ts';
import { BodyTooLarge, problem, SessionRequired } from '../problems/errors.ts';
import { pathBelow } from '../routing/request-path.ts';
import type { Session } from '../session/session.ts';
import type { AttachedToken } from '../tokens/token-set.ts';
import type { Upstream } from '../upstream/upstreams.ts';
import type { WebSockets } from '../websocket/web-sockets.ts';

/** What is the same for all calls of one API. */
interface Route {
  context: FrontendContext;
  api: Api;
  upstream: Upstream;
  labels: { frontend: string; api: string };
  reviewOf: ReviewOf;
  headersFor: ReturnType<typeof buildHeadersFor>;
  answerOptions: BrowserHeaderOptions;
}

/** The forwarder of one API: what @fastify/http-proxy calls once a request was admitted. */
export function buildForwardHandler(
  context: FrontendContext,
  api: Api,
  prefix: string,
  upstream: Upstream,
  labels: { frontend: string; api: string },
  reviewOf: ReviewOf,
  webSockets: WebSockets | undefined,
): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const { origin } = context.frontend;
  const route: Route = {
    context,
    api,
    upstream,
    labels,
    reviewOf,
    headersFor: buildHeadersFor(context.frontend, api, context.pseudonym),
    answerOptions: {
      extra: buildExtraHeaders(api.returnHeaders),
      cache: api.cache,
      callerHeaders: callerHeadersOf(api),
      rewriteLinks: buildLinkRewriter({ targets: upstream.targets, origin, prefix, rewritePath: api.rewritePath }),
    },
  };

  return (request, reply) => {
    const { raw, admitted } = request;
    if (admitted === undefined) throw problem(SessionRequired); // the hook of the route did not run
    if (Number(raw.headers['content-length'] ?? 0) > api.limits.requestBody) {
      discardBody(raw, api.limits.requestBody);
      throw problem(BodyTooLarge);
    }
    const target = raw.url ?? '';
    const queryAt = target.indexOf('?');
    const path = `${upstreamPath(api, pathBelow(prefix, target))}${queryAt === -1 ? '' : target.slice(queryAt)}`;
    if (webSockets !== undefined && handshakeSocket(raw) !== undefined)
      return webSockets.open(request, reply, path, (token) => route.headersFor(arrivedOf(request, false), token));
    return new ApiCall(route, request, reply, admitted, path).run();
  };
}

/** One call: what the exchange with the upstream asks about it. */
class ApiCall implements ForwardOptions {
  readonly upstream: Upstream;
  readonly affinity: string | undefined;
  readonly limits: Api['limits'];
  readonly timeouts: Api['timeouts'];
  readonly path: string;
  readonly method: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly hasBody: boolean;
  headers: string[] = [];
  readonly #route: Route;
  readonly #request: FastifyRequest;
  readonly #reply: FastifyReply;
  readonly #admitted: Admitted;
  readonly #owner: string | undefined;
  isRepeated: boolean = false;
  #isTokenReplaced: boolean = false;
  #token: AttachedToken | undefined;
  #stepUp: Challenge | undefined;

  constructor(route: Route, request: FastifyRequest, reply: FastifyReply, admitted: Admitted, path: string) {
    this.upstream = route.upstream;
    this.affinity = affinityOf(route.api, admitted.caller, request.clientAddress);
    this.limits = route.api.limits;
    this.timeouts = route.api.timeouts;
    this.path = path;
    this.method = request.method;
    this.request = request.raw;
    this.response = reply.raw;
    this.hasBody = isWithBody(request.raw);
    this.#route = route;
    this.#request = request;
    this.#reply = reply;
    this.#admitted = admitted;
    this.#owner = route.api.cache ? ownerOf(admitted.caller) : undefined;
  }

  async run(): Promise<void> {
    let outcome = await this.#send(this.#admitted.token);
    if (outcome === 'withheld' && this.#stepUp === undefined && this.#token !== undefined) {
      const { context, api } = this.#route;
      const answer = await context.accessTokens.replace(this.#session, api, this.#token);
      if (answer.kind !== 'token') throw refusalOf(answer);
      this.isRepeated = true;
      this.#isTokenReplaced = true;
      outcome = await this.#send(answer.token);
    }
    if (outcome !== 'complete') this.#conclude(outcome);
  }

  #send(token: AttachedToken | undefined): Promise<Exchanged> {
    this.#token = token;
    const headers = this.#route.headersFor(arrivedOf(this.#request, this.hasBody), token);
    this.headers = this.#owner === undefined ? headers : unmarkTags(headers, this.#owner, this.method);
    return forward(this);
  }

  onHead(): void {
    this.#reply.hijack();
  }

  withhold(status: number, headers: AnswerHeaders): boolean {
    if (status !== 401 || this.#token === undefined) return false;
    const challenge = readChallenge(headers['www-authenticate']);
    return this.#isForStepUp(challenge) || (!this.#isTokenReplaced && this.#isRefusal(challenge));
  }

  buildHeaders(status: number, answer: AnswerHeaders): string[] {
    const { context, answerOptions, reviewOf } = this.#route;
    const { caller } = this.#admitted;
    const isStream = isEventStream(answer);
    const headers = buildBrowserHeaders(answer, answerOptions, {
      method: this.method,
      status,
      path: this.path,
      owner: this.#owner,
      isStream,
    });
    headers.push('x-request-id', this.#request.id, 'x-content-type-options', 'nosniff');
    headers.push('cross-origin-resource-policy', 'same-origin');
    if (context.isDraining()) headers.push('connection', 'close');
    if (isStream) bindToCaller(context, caller, reviewOf(this.method, this.request.url ?? ''), this.response, answer);
    return headers;
  }

  buildTrailers(trailers: AnswerHeaders): [string, string][] {
    return buildBrowserTrailers(trailers, this.#route.answerOptions.extra, this.#owner);
  }

  get #session(): Session | undefined {
    const { caller } = this.#admitted;
    return caller.kind === 'session' ? caller.session : undefined;
  }

  /** An API that refuses a token which should be good gets another, once; a request that can be repeated is (PO6). */
  #isRefusal(challenge: Challenge | undefined): boolean {
    const { context, api, labels } = this.#route;
    const { log } = this.#request;
    const token = this.#token;
    if (this.#admitted.caller.kind === 'bearer') return false; // it is the caller's own, and only the caller can get another
    if (token === undefined || challenge?.error !== 'invalid_token') return false;
    if (!context.accessTokens.canReplace(this.#session, api, token)) return false;
    const isReplayable = !this.isRepeated && (this.method === 'GET' || this.method === 'HEAD') && !this.hasBody;
    log.info({ ...labels, replayed: isReplayable }, 'the API refused the token: another one is fetched');
    if (isReplayable) return true;
    context.accessTokens
      .replace(this.#session, api, token)
      .catch(() => log.warn(labels, 'no other token for the API that refused one'));
    return false;
  }

  /** An API that wants another authentication of this user; of an application’s own token no login could bring it. */
  #isForStepUp(challenge: Challenge | undefined): boolean {
    const { kind } = this.#admitted.caller;
    const isAboutUser = kind === 'guest' || (kind === 'session' && this.#route.api.token !== 'client');
    this.#stepUp = isAboutUser && isStepUp(challenge) ? challenge : undefined;
    return this.#stepUp !== undefined;
  }

  /** Of a call that came to another end than an answer. */
  #conclude(outcome: Exchanged): void {
    const { context, api, labels } = this.#route;
    const { log } = this.#request;
    if (outcome === 'withheld' && this.#stepUp !== undefined)
      throw answerStepUp(context, api, this.#stepUp, 'upstream', this.#session, log);
    if (outcome === 'left-by-browser') this.#reply.hijack();
    // Fastify calls onResponse, and so the request log, only for answers that were finished.
    const line = { method: this.method, path: loggablePath(this.request.url ?? ''), ...labels, outcome };
    log[outcome === 'cut-by-upstream' ? 'warn' : 'info'](line, 'request cut short');
  }
}

function arrivedOf({ raw, clientAddress, id }: FastifyRequest, hasBody: boolean): Arrived {
  return { rawHeaders: raw.rawHeaders, via: raw.headers.via, clientAddress, id, hasBody };
}

function isWithBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** A mark of whom an answer is for, which names nobody. A user's is the same in each session: tags outlive a login. */
function ownerOf(caller: Caller): string | undefined {
  switch (caller.kind) {
    case 'public':
      return undefined;
    case 'guest':
      return 'guest';
    case 'session':
      return hashId('entity-tag', caller.session.identity.issuer, caller.session.identity.subject).slice(0, 16);
    case 'bearer':
      return caller.identity.handle.slice(0, 16);
  }
}

/** What tells one caller of this API from another. A guest is who has no cookie. */
function callerHeadersOf({ accept }: Api): string[] {
  return accept.map((way) => (way === 'session' ? 'Cookie' : 'Authorization'));
}

/**
 * Media types that are made for answers without an end: server-sent events, gRPC-Web and Connect, lines of JSON, GraphQL's
 * multipart subscriptions.
 */
const streamed =
  /^(text\/event-stream|application\/(connect\+|grpc|(x-)?ndjson|jsonl|json-seq|stream\+json)|multipart\/(x-mixed-replace|mixed))\b/i;

/** Of these, what its browser opens again by itself. */
const resumed = /^text\/event-stream\b/i;

function isEventStream(answer: AnswerHeaders): boolean {
  return hasType(answer, streamed);
}

/** One of several lines is enough: browsers go by the last that they understand. */
function hasType({ 'content-type': type }: AnswerHeaders, types: RegExp): boolean {
  return typeof type === 'string' ? types.test(type) : type?.some((line) => types.test(line)) === true;
}

/** What may be a stream is a short answer as a rule (gRPC-Web has one type for both). Milliseconds. */
const shortAnswerMs = 500;

/**
 * A stream was authorized once and would go on for ever: it ends with the session or the token that it was opened with,
 * and when this process stops. What may end by itself (an export in lines of JSON, the answers to a batch) has half of the
 * grace for that. Following costs a look at the store, which also finds what has ended before: answers that are soon over
 * are not followed.
 */
function bindToCaller(
  context: FrontendContext,
  caller: Caller,
  review: Review | undefined,
  response: ServerResponse,
  answer: AnswerHeaders,
): void {
  const end = () => response.destroy();
  const onEnd = (reason?: string) => {
    if (reason !== undefined || hasType(answer, resumed)) return end();
    const inGrace = setTimeout(end, context.config.shutdown.grace / 2).unref();
    response.once('close', () => clearTimeout(inGrace));
  };
  const session = caller.kind === 'session' ? followed(caller.session) : undefined;
  const follow = () => {
    if (caller.kind === 'bearer') return watchToken(context, caller.identity, onEnd);
    if (session === undefined) return context.streams.enter('api/anybody', () => onEnd());
    return followSession(context, session, { name: `api/${session.handle}`, review, onEnd });
  };
  const timer = setTimeout(() => response.once('close', follow()), shortAnswerMs);
  response.once('close', () => clearTimeout(timer));
}
