import { parse } from 'node:querystring';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config, Frontend } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isOwnStart, isPrefetch } from '../http/request-source.ts';
import { acceptTarget, asRouted } from '../http/return-to.ts';
import { isBelow } from '../routing/request-path.ts';
import { sendReload } from './pages.ts';

/** What a login is asked to be: the query, or the form of a POST. */
export function readParameters({ method, query, body }: FastifyRequest): Record<string, unknown> {
  return method === 'POST' ? parse(typeof body === 'string' ? body : '') : (query as Record<string, unknown>);
}

/** A login that another site asks for (OpenID Connect Core §4): a portal's tile. All that it may choose. */
export interface Initiation {
  returnTo: string;
  loginHint?: string;
}

/** `undefined` when nobody asks so, may ask so, or means our authorization server. */
export function readInitiation(
  { frontend, config }: FrontendContext,
  parameters: Record<string, unknown>,
): Initiation | undefined {
  const { issuer, thirdPartyInitiatedLogin } = frontend.authorizationServer;
  if (!thirdPartyInitiatedLogin || parameters.iss !== issuer) return undefined;
  const { target_link_uri: target = parameters.return_to, login_hint: loginHint } = parameters;
  const path = acceptTarget(target, frontend.origin, frontend.basePath);
  return {
    returnTo: isPage(config, frontend, path) ? path : `${frontend.basePath}/`,
    ...(typeof loginHint === 'string' ? { loginHint } : {}),
  };
}

/**
 * Who is logged in already gets there from a page of ours, with the Strict cookie. So it is no way to call what another
 * site can't call: an API, or an endpoint of ours, of whatever frontend on this host.
 */
function isPage({ frontends }: Pick<Config, 'frontends'>, { host }: Frontend, path: string): boolean {
  const { pathname } = new URL(path, `http://${host}`);
  return !frontends
    .filter((one) => one.host === host)
    .flatMap(({ basePath, apis }) => ['/bff', ...apis.map((api) => api.path)].map((below) => basePath + below))
    .some((prefix) => isBelow(asRouted(pathname), prefix));
}

/**
 * Does it come from elsewhere, so that our Strict cookie stayed behind and nobody knows yet who is logged in? Then it
 * comes again from a page of ours; not twice, whatever a browser makes of that page.
 */
export function comesFromElsewhere({ method, headers }: FastifyRequest, parameters: Record<string, unknown>): boolean {
  if (isPrefetch(headers)) return false;
  return method === 'POST' || (!isOwnStart(headers) && parameters.again === undefined);
}

/** Nothing of what was sent comes along but what was accepted. */
export function bringAgain(
  { loginPath, frontend }: FrontendContext,
  reply: FastifyReply,
  { returnTo, loginHint }: Initiation,
): FastifyReply {
  const parameters = new URLSearchParams({
    iss: frontend.authorizationServer.issuer,
    return_to: returnTo,
    ...(loginHint === undefined ? {} : { login_hint: loginHint }),
    again: '1',
  });
  return sendReload(reply, `${loginPath}?${parameters}`);
}
