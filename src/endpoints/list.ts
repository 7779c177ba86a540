import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Frontend } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { callback } from '../login/callback.ts';
import { login } from '../login/login.ts';
import { backchannelLogout } from '../logout/backchannel-logout.ts';
import { continueLogout } from '../logout/end-session.ts';
import { frontchannelLogout } from '../logout/frontchannel-logout.ts';
import { logout, logoutByLink } from '../logout/logout.ts';
import { clearCookies } from './clear-cookies.ts';
import { streamEvents } from './events.ts';
import { checkSession, refresh } from './session.ts';
import { endMySession, endMySessions, listMySessions } from './sessions.ts';
import { anonymousShape, authenticatedShape, endedShape, logoutShape, sessionsShape } from './shapes.ts';

export interface Endpoint {
  method: 'GET' | 'POST' | 'DELETE';
  /** Below `/bff` of a frontend. */
  path: string;
  handler(context: FrontendContext, request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
  /** `page`: with the browser's session. `provider`: the authorization server; `anyone`: both without a session. */
  caller: 'page' | 'provider' | 'anyone';
  /** `header`: same-origin and `x-csrf: 1`. `read`: not from another site. `own`: the endpoint has its own proof. */
  csrf: 'header' | 'read' | 'own';
  isLimited?: boolean;
  takesAnyCookies?: boolean;
  answer?: z.ZodType;
  /** Only some frontends have it. */
  isOffered?(frontend: Frontend): boolean;
}

const session = z.union([anonymousShape, authenticatedShape]);
const takesForms = ({ authorizationServer }: Frontend) => authorizationServer.responseMode === 'form_post';

/**
 * The one list of what is under `/bff`: routes, docs and tests are made from it. `/bff/forward-auth` alone is not here:
 * it is no endpoint for browsers, but another door to the decision about a call (`proxy/forward-auth.ts`).
 */
export const endpoints: Endpoint[] = [
  { method: 'GET', path: '/login', handler: login, caller: 'page', csrf: 'own', isLimited: true },
  {
    method: 'POST',
    path: '/login',
    handler: login,
    caller: 'page',
    csrf: 'own',
    isLimited: true,
    isOffered: ({ authorizationServer }) => authorizationServer.thirdPartyInitiatedLogin,
  },
  {
    method: 'GET',
    path: '/callback',
    handler: callback,
    caller: 'page',
    csrf: 'own',
    isLimited: true,
    isOffered: (frontend) => !takesForms(frontend),
  },
  {
    method: 'POST',
    path: '/callback',
    handler: callback,
    caller: 'page',
    csrf: 'own',
    isLimited: true,
    isOffered: takesForms,
  },
  { method: 'GET', path: '/session', handler: checkSession, caller: 'page', csrf: 'read', answer: session },
  { method: 'POST', path: '/refresh', handler: refresh, caller: 'page', csrf: 'header', answer: session },
  { method: 'POST', path: '/logout', handler: logout, caller: 'page', csrf: 'header', answer: logoutShape },
  { method: 'GET', path: '/logout', handler: logoutByLink, caller: 'page', csrf: 'own' },
  { method: 'GET', path: '/end-session', handler: continueLogout, caller: 'anyone', csrf: 'own' },
  { method: 'GET', path: '/events', handler: streamEvents, caller: 'page', csrf: 'read' },
  { method: 'GET', path: '/sessions', handler: listMySessions, caller: 'page', csrf: 'read', answer: sessionsShape },
  { method: 'DELETE', path: '/sessions', handler: endMySessions, caller: 'page', csrf: 'header', answer: endedShape },
  {
    method: 'DELETE',
    path: '/sessions/:id',
    handler: endMySession,
    caller: 'page',
    csrf: 'header',
    answer: endedShape,
  },
  {
    method: 'POST',
    path: '/clear-cookies',
    handler: clearCookies,
    caller: 'anyone',
    csrf: 'own',
    takesAnyCookies: true,
  },
  { method: 'POST', path: '/backchannel-logout', handler: backchannelLogout, caller: 'provider', csrf: 'own' },
  { method: 'GET', path: '/frontchannel-logout', handler: frontchannelLogout, caller: 'provider', csrf: 'own' },
];

export function endpointsOf(frontend: Frontend, caller: Endpoint['caller']): Endpoint[] {
  return endpoints.filter((endpoint) => endpoint.caller === caller && endpoint.isOffered?.(frontend) !== false);
}
