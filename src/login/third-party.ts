import { parse } from 'node:querystring';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { isOwnStart, isPrefetch } from '../http/request-source.ts';
import { acceptTarget } from '../http/return-to.ts';
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
  { frontend }: FrontendContext,
  parameters: Record<string, unknown>,
): Initiation | undefined {
  const { issuer, thirdPartyInitiatedLogin } = frontend.authorizationServer;
  if (!thirdPartyInitiatedLogin || parameters.iss !== issuer) return undefined;
  const { target_link_uri: target = parameters.return_to, login_hint: loginHint } = parameters;
  return {
    returnTo: acceptTarget(target, frontend.origin, frontend.basePath),
    ...(typeof loginHint === 'string' ? { loginHint } : {}),
  };
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
