import type { FastifyRequest } from 'fastify';
import type { Api } from '../config/config.ts';
import type { Secret } from '../config/secret.ts';
import type { FrontendContext } from '../frontend/context.ts';
import {
  CsrfRejected,
  PolicyDenied,
  type Problem,
  problem,
  SessionRequired,
  TokenUnavailable,
} from '../http/errors.ts';
import { csrfFault } from '../http/request-source.ts';
import type { Session } from '../session/session.ts';
import { readTicket } from '../session/ticket.ts';
import { parseTokenSet } from '../tokens/token-set.ts';
import { evaluatePolicy } from './policy.ts';

export type Admission =
  | { kind: 'admitted'; accessToken?: Secret; handle?: string }
  | { kind: 'refused'; problem: Problem; clearCookie?: true };

/**
 * Decides about one API call, from the matched route's configuration alone: cookie, CSRF, session, token, policy, in
 * this order. Store trouble is thrown as it is (503), never taken for "nobody is logged in".
 */
export async function authorize(context: FrontendContext, api: Api, request: FastifyRequest): Promise<Admission> {
  const { frontend, signer, sessions, accessTokens, metrics } = context;
  // Public: no cookie opens it, so there is nothing to forge, no session to read and no token to attach (PO3).
  if (api.token === 'none' && api.require === undefined) return { kind: 'admitted' };

  const ticket = readTicket(request.headers.cookie, frontend.cookieName, signer);
  if (ticket.kind !== 'valid') {
    return {
      kind: 'refused',
      problem: problem(SessionRequired),
      ...(ticket.kind === 'ambiguous' ? { clearCookie: true } : {}),
    };
  }

  const fault = csrfFault(request.method, request.headers, frontend.origin, api.csrf);
  if (fault !== undefined) {
    metrics.csrfRejections.inc({ frontend: frontend.name, reason: fault });
    request.log.info(
      { frontend: frontend.name, api: api.name, reason: fault, audit: 'csrf_rejected' },
      'request refused',
    );
    return { kind: 'refused', problem: problem(CsrfRejected) };
  }

  const session = await sessions.use(ticket.sessionId);
  // The cookie is left alone: a call that was slow would otherwise clear that of a login which came meanwhile (SE13).
  if (session === undefined) return { kind: 'refused', problem: problem(SessionRequired) };

  if (api.token === 'none') return judge(context, api, request, session);

  const answer = await accessTokens.get(session);
  switch (answer.kind) {
    case 'token':
      // After the refresh that this may have been: roles and scopes that it took away count no more (RF15).
      return judge(context, api, request, answer.session, answer.accessToken);
    case 'ended':
      return { kind: 'refused', problem: problem(SessionRequired) };
    case 'unavailable':
      return { kind: 'refused', problem: problem(TokenUnavailable, { retryAfterSeconds: answer.retryAfterMs / 1000 }) };
  }
}

/** The route's `require` against what the session is now. */
function judge(
  { frontend, metrics }: FrontendContext,
  api: Api,
  request: FastifyRequest,
  session: Session,
  accessToken?: Secret,
): Admission {
  const verdict =
    api.require === undefined
      ? ({ kind: 'allowed' } as const)
      : evaluatePolicy(api.require, session.identity, parseTokenSet(session.tokens).scope);
  if (verdict.kind === 'allowed') {
    return { kind: 'admitted', handle: session.handle, ...(accessToken === undefined ? {} : { accessToken }) };
  }
  metrics.policyDenials.inc({ frontend: frontend.name, api: api.name });
  request.log.info(
    {
      frontend: frontend.name,
      api: api.name,
      reason: verdict.reason,
      session: session.handle.slice(0, 12),
      audit: 'policy_denied',
    },
    'request refused',
  );
  return { kind: 'refused', problem: problem(PolicyDenied) };
}
