import type { FastifyReply, FastifyRequest } from 'fastify';
import { hashId } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { openStepUp } from '../frontend/step-up-link.ts';
import { isNavigation, isOwnStart } from '../http/request-source.ts';
import { acceptReturnTo } from '../http/return-to.ts';
import { tellFault } from '../issuer/mistakes.ts';
import { loginStrength, startAuthorization } from '../oidc/authorization.ts';
import {
  AuthorizationServerUnavailable,
  LoginCrossSite,
  LoginNotNavigation,
  LoginStepUpInvalid,
  problem,
} from '../problems/errors.ts';
import type { Session } from '../session/session.ts';
import { readTicket } from '../session/ticket.ts';
import { beginSilently, isSilentFrame } from './silent.ts';
import { bringAgain, comesFromElsewhere, readInitiation, readParameters } from './third-party.ts';
import {
  evictFor,
  sealTransaction,
  sortTransactions,
  transactionCookieAttributes,
  transactionCookieName,
  transactionCookiePrefix,
  transactionCookieSeconds,
} from './transaction.ts';

/**
 * `GET /bff/login?return_to=/x`, perhaps with a `step_up`: starts a login. A page, not a fetch. With `iss`, also by POST,
 * for another site that may ask for one.
 */
export async function login(context: FrontendContext, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { frontend, keys, server, metrics, nowMs } = context;
  const count = (outcome: string) => metrics.loginStarts.inc({ frontend: frontend.name, outcome });
  const query = readParameters(request);
  const isFrame = isSilentFrame(context, request, query);
  if (!isFrame && !isNavigation(request.headers)) {
    count('not-navigation');
    throw problem(LoginNotNavigation);
  }
  const initiation = isFrame ? undefined : readInitiation(context, query);
  if (initiation !== undefined && comesFromElsewhere(request, query)) {
    count('third-party');
    return bringAgain(context, reply, initiation);
  }
  if (!isOwnStart(request.headers) || request.method === 'POST') {
    count('cross-site');
    throw problem(LoginCrossSite);
  }
  if (initiation !== undefined && request.session.current !== undefined) {
    count('logged-in-already');
    return reply.redirect(initiation.returnTo, 303);
  }

  const returnTo = initiation?.returnTo ?? acceptReturnTo(query.return_to, frontend.origin, frontend.basePath);
  const isStepUp = query.step_up !== undefined && initiation === undefined;
  const stepUp = isStepUp ? openStepUp(context, query.step_up) : undefined;
  // What Core §4 has passed on in any case is all that another site may choose.
  const chosen = allowedParameters(query, initiation === undefined ? allowedHere(context) : { login_hint: ['*'] });
  const isSilent = { ...server.config.extraParameters, ...chosen }.prompt === 'none';
  if (isSilent) beginSilently(context, request, { returnTo, isFrame });
  if (stepUp !== undefined) {
    // Nothing to choose with a step-up: it might not accept what the browser asks for.
    delete chosen.acr_values;
    delete chosen.max_age;
  }
  const strength = loginStrength(server.config, chosen, stepUp);
  if ((isStepUp && stepUp === undefined) || strength === undefined) {
    count('step-up-invalid');
    // Not taken for an ordinary login: that would replace the session and leave the call as it was.
    throw problem(LoginStepUpInvalid, { loginUrl: `${context.loginPath}?return_to=${encodeURIComponent(returnTo)}` });
  }
  const started = await startAuthorization(server, context.redirectUri, chosen, frontend.loginResources, strength);
  if (started.kind === 'unavailable') {
    count('unavailable');
    request.log.warn({ frontend: frontend.name, ...tellFault(started.fault) }, 'login could not start');
    throw problem(AuthorizationServerUnavailable, {
      retryAfterSeconds: 5, // metadata mend themselves when somebody mends them
      isPermanent: started.fault.kind !== 'unavailable',
    });
  }

  const ticket = readTicket(request.headers.cookie, frontend.cookieName, context.signer);
  const prefix = transactionCookiePrefix(frontend.cookieName);
  const name = transactionCookieName(prefix, started.request.state);
  const value = sealTransaction(keys.transaction, name, {
    request: started.request,
    issuer: server.config.issuer,
    client: server.config.clientId,
    returnTo,
    ...(isStepUp ? { isStepUp } : {}),
    ...(isSilent ? { silent: { ...(isFrame ? { isFrame } : {}), ...subjectOf(request.session.current) } } : {}),
    ...(initiation === undefined ? {} : { isForeign: true }),
    createdAt: nowMs(),
    replaces: ticket.kind === 'valid' ? [hashId(ticket.sessionId)] : [],
  });
  const { live, dead } = sortTransactions(request.cookies, prefix, keys.transaction, server.config, nowMs());
  const evicted = evictFor(live, name.length + value.length, initiation !== undefined);
  if (evicted === undefined) {
    count('no-room');
    throw problem(LoginCrossSite);
  }
  const attributes = transactionCookieAttributes(context);
  for (const gone of [...dead, ...evicted]) reply.clearCookie(gone, attributes);
  reply.setCookie(name, value, { ...attributes, maxAge: transactionCookieSeconds });
  count('started');
  return reply.redirect(started.url, 303);
}

/** Whose session no silent login replaces by another user's. */
export function subjectOf(session: Session | undefined): { subject?: string } {
  return session === undefined ? {} : { subject: session.identity.subject };
}

function allowedHere({ frontend }: FrontendContext): Record<string, string[]> {
  const { loginParameters, silentLoginFrame } = frontend.authorizationServer;
  return silentLoginFrame
    ? { ...loginParameters, prompt: [...(loginParameters.prompt ?? []), 'none'] }
    : loginParameters;
}

const longestParameter = 256;

/** Only parameters that the configuration lists, with values that it allows, once each (LG9, T8). */
function allowedParameters(query: Record<string, unknown>, allowed: Record<string, string[]>): Record<string, string> {
  const chosen: Record<string, string> = {};
  for (const [name, values] of Object.entries(allowed)) {
    const value = Object.hasOwn(query, name) ? query[name] : undefined;
    if (typeof value !== 'string' || value.length > longestParameter || !/^[\x20-\x7e]+$/.test(value)) continue;
    if (values.includes(value) || values.includes('*')) chosen[name] = value;
  }
  return chosen;
}
