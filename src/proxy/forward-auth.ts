import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { buildAuthorize } from '../admission/authorize.ts';
import type { ForwardAuthConfig, Frontend } from '../config/config.ts';
import { buildRangeCheck } from '../config/schema/address-range.ts';
import { apiMethods } from '../config/schema/values.ts';
import { isServerKey } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { peerAddress } from '../http/client-address.ts';
import {
  ForwardAuthDenied,
  ForwardAuthInvalid,
  HostUnknown,
  PathNotCanonical,
  problem,
  RouteUnknown,
} from '../problems/errors.ts';
import { hostSpellings, isBelow, pathBelow, queryOf } from '../routing/request-path.ts';
import { loggable, routedMethods } from './plugin.ts';

const endpoint = '/bff/forward-auth';

/** How a proxy says what the browser asked for: nginx (by configuration), then Traefik and Caddy. */
const namings = [
  ['x-original-method', 'x-original-uri'],
  ['x-forwarded-method', 'x-forwarded-uri'],
] as const;

/**
 * `/bff/forward-auth` of one frontend: another proxy forwards the calls and asks here about each. The answer is the
 * decision that a call to Cloakroom itself would get, and the token for the proxy to attach.
 *
 * What the browser asked for comes in headers, and the answer has the token in it. So an address is not enough to be
 * believed: any browser reaches this path through the very proxy that is trusted, and would name a URI of its choice
 * and read the token out of the answer (PX8, T68; GHSA-7x63-xv5r-3p2x). Only what a browser can't know helps: the key.
 */
export async function forwardAuthPlugin(
  scope: FastifyInstance,
  { context, forwardAuth }: { context: FrontendContext; forwardAuth: ForwardAuthConfig },
): Promise<void> {
  const { frontend } = context;
  const ownPath = `${frontend.basePath}${endpoint}`;
  const isTrusted = buildRangeCheck(context.config.trustedProxies);
  const gates = new Map(frontend.apis.map((api) => [api, buildAuthorize(context, api)]));

  // Envoy may send a body along; nobody reads it.
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, _payload, done) => done(null));

  async function refuseStrangers({ raw, log }: FastifyRequest): Promise<void> {
    // The connection itself counts here, never `X-Forwarded-For`.
    const address = peerAddress(raw.socket);
    const reason =
      address === undefined || !isTrusted(address) ? 'address' : !hasKey(raw, ownPath, forwardAuth) ? 'key' : undefined;
    if (reason === undefined) return;
    log.warn({ frontend: frontend.name, reason, address, audit: 'forward_auth_refused' }, 'request refused');
    throw problem(RouteUnknown); // as where it is off: who has no business here learns nothing
  }

  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { headers, log } = request;
    const { method, target, isBehindOurs } = originalRequest(request.raw, ownPath, frontend);
    const place = context.findPlace(frontend.host, target);
    if (place?.kind === 'ambiguous') throw problem(PathNotCanonical);
    const api = place?.kind === 'api' ? place.api : undefined;
    const authorize = api && gates.get(api);
    if (place === undefined || authorize === undefined || !api?.methods.some((taken) => taken === method))
      throw problem(ForwardAuthDenied);
    const { rawHeaders } = request.raw;
    const path = pathBelow(place.prefix, target);
    const call = { method, path, query: queryOf(target), headers, rawHeaders, log, address: request.clientAddress };
    const admission = await authorize(call);
    if (admission.kind === 'refused') {
      const { statusCode, scheme, loginHelps, loginUrl = context.loginPath } = admission.problem;
      // nginx reads headers of this answer only: what the problem’s body tells the others.
      if ((statusCode === 401 && scheme === undefined) || loginHelps === true) reply.header('x-login-url', loginUrl);
      throw admission.problem;
    }
    request.loggedCaller = loggable(admission.caller);
    const { token } = admission;
    const { idTokenHeader } = api;
    reply.header('cache-control', 'no-store');
    if (token !== undefined) reply.header('authorization', `Bearer ${token.accessToken.reveal()}`);
    if (token?.idToken !== undefined && idTokenHeader !== undefined)
      reply.header(idTokenHeader, token.idToken.reveal());
    // Envoy adds and replaces headers, but takes none away unless it is told to.
    if (isBehindOurs)
      reply.header('x-envoy-auth-headers-to-remove', token === undefined ? 'cookie, authorization' : 'cookie');
    return reply.send();
  }

  const config = { kind: 'forward-auth', frontend: frontend.name } as const;
  const asked = { config, onRequest: refuseStrangers, handler: answer };
  scope.route({ ...asked, method: 'GET', url: endpoint });
  // Envoy: the original method, and the original path behind ours.
  scope.route({ ...asked, method: routedMethods(frontend.apis), url: `${endpoint}/*` });
  // Other proxies alone forward to these: not the SPA's index.html either.
  for (const { path } of frontend.apis.filter(({ upstream }) => upstream.length === 0))
    for (const url of [path, `${path}/*`])
      scope.all(url, { config }, async () => {
        throw problem(RouteUnknown);
      });
}

/**
 * For hosts of `forwardAuth.hosts`: the host of the frontend that is asked, else `undefined`. Traefik can't send
 * another Host than that of its `address`, and nothing but this one path is served under such a name.
 */
export function buildForwardAuthHosts(frontends: Frontend[]): (host: string, target: string) => string | undefined {
  const asked = new Map<string, Frontend>();
  for (const frontend of frontends)
    for (const host of (frontend.forwardAuth?.hosts ?? []).flatMap((name) => hostSpellings(name, [80, 443])))
      asked.set(host, frontend);
  return (host, target) => {
    const frontend = asked.get(host);
    return frontend !== undefined && isBelow(target, `${frontend.basePath}${endpoint}`) ? frontend.host : undefined;
  };
}

/** The key in its header, or for proxies that can add none in our own query; not in both, and not twice. */
function hasKey({ headersDistinct, url = '' }: IncomingMessage, ownPath: string, { key }: ForwardAuthConfig): boolean {
  const query = url.startsWith(`${ownPath}?`) ? new URLSearchParams(url.slice(ownPath.length)) : undefined;
  const sent = [...(headersDistinct['x-forward-auth-key'] ?? []), ...(query?.getAll('key') ?? [])];
  return sent.length === 1 && isServerKey(key, sent[0] as string);
}

/** What the browser asked for, said in exactly one way and meaning one thing to everybody; nothing is guessed. */
function originalRequest(
  raw: IncomingMessage,
  ownPath: string,
  frontend: Frontend,
): { method: string; target: string; isBehindOurs: boolean } {
  const { headersDistinct: sent, url = '' } = raw;
  // The router decodes: /bff/forward%2Dauth came here too.
  if (!isBelow(url, ownPath)) throw problem(PathNotCanonical);
  const below = url.slice(ownPath.length);
  const named = namings.filter((names) => names.some((name) => sent[name] !== undefined));
  const ways = named.map((names) => names.map((name) => sent[name] ?? []));
  const isBehindOurs = below.startsWith('/');
  if (isBehindOurs) ways.push([[raw.method ?? ''], [below]]);
  const [[methods = [], targets = []] = []] = ways;
  const [method, target] = [methods[0], targets[0]];
  const isOneWay = ways.length === 1 && methods.length === 1 && targets.length === 1;
  if (!isOneWay || target === undefined || !apiMethods.some((known) => known === method))
    throw problem(ForwardAuthInvalid);
  const spellings = hostSpellings(frontend.host, [frontend.isSecure ? 443 : 80]);
  if (sent['x-forwarded-host']?.some((host) => !spellings.includes(host.toLowerCase()))) throw problem(HostUnknown);
  return { method: method as string, target, isBehindOurs };
}
