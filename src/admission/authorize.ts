import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyBaseLogger } from 'fastify';
import type { BearerIdentity } from '../bearer/claims.ts';
import type { Api, RequireConfig } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { limitedAs } from '../http/client-address.ts';
import { csrfDetail, csrfFault } from '../http/request-source.ts';
import {
  CsrfRejected,
  PolicyDenied,
  type Problem,
  problem,
  SessionRequired,
  TokenRefused,
  TokenUnavailable,
} from '../problems/errors.ts';
import type { Session } from '../session/session.ts';
import { readTicket } from '../session/ticket.ts';
import type { AccessToken, AttachedToken } from '../tokens/token-set.ts';
import { buildBearer } from './bearer-caller.ts';
import { buildRules, evaluatePolicy, isPublic, takesGuests } from './policy.ts';
import { answerStepUp } from './step-up.ts';

/** One request as its decision needs it: from the matched route, never from a forwarded header (PO2). */
export interface Call {
  method: string;
  /** Below the API’s own path, raw and without the query. */
  path: string;
  headers: IncomingHttpHeaders;
  /** Of the client, as limits count it. Undefined: it has gone already. */
  address: string | undefined;
  /** As Node read them, names and values in turn. */
  rawHeaders: string[];
  /** Without the question mark. */
  query: string;
  log: FastifyBaseLogger;
  /** The handshake of a WebSocket, whose `Origin` is on the list: it has no other proof of where it comes from. */
  isForgeryRuledOut?: true;
}

/** On whose behalf a call goes on. */
export type Caller =
  /** Nobody was asked: the API is public. */
  | { kind: 'public' }
  /** Nobody is logged in, and the application itself calls. */
  | { kind: 'guest' }
  | { kind: 'session'; session: Session }
  /** A program, or somebody by it, with an access token of its own: there is no session. */
  | { kind: 'bearer'; identity: BearerIdentity };

/** Names who calls from one call to the next, and is no secret. Undefined: nobody knows. */
export function handleOf(caller: Caller): string | undefined {
  switch (caller.kind) {
    case 'session':
      return caller.session.handle;
    case 'bearer':
      return caller.identity.handle;
    default:
      return undefined;
  }
}

/** Whose calls meet the same target, where the API wants that: those of who calls, else of the address. */
export function affinityOf({ affinity }: Api, caller: Caller, address: string): string | undefined {
  return affinity === undefined ? undefined : (handleOf(caller) ?? limitedAs(address));
}

export interface Admitted {
  kind: 'admitted';
  caller: Caller;
  token?: AttachedToken;
}

export type Admission = Admitted | { kind: 'refused'; problem: Problem };

/** A promise only where something has to be waited for: most calls need none. */
export type Authorize = (call: Call) => Admission | Promise<Admission>;

/**
 * Decides about the calls of one API, from its configuration alone: by the caller's own token where the API accepts one
 * and there is one; else cookie, CSRF, session, token, policy, in this order. Store trouble is thrown as it is (503),
 * never taken for "nobody is logged in".
 */
export function buildAuthorize(context: FrontendContext, api: Api): Authorize {
  const { frontend, signer, sessions, accessTokens } = context;
  const rulesFor = buildRules(api);
  const admitBearer = api.accept.includes('bearer') ? buildBearer(context, api) : undefined;

  const bySession = (call: Call, rules: RequireConfig[]): Admission | Promise<Admission> => {
    const ticket = readTicket(call.headers.cookie, frontend.cookieName, signer);
    // Only who has no session cookie at all is a guest: a session that is lost or unreadable never becomes one (DT8).
    const isGuest = ticket.kind === 'none' && takesGuests(api, rules);
    if (ticket.kind !== 'valid' && !isGuest) return { kind: 'refused', problem: problem(SessionRequired) };
    // Guests too: the application's token must not be lent to another site's pages.
    const csrf = refuseForgery(context, api, call);
    if (csrf !== undefined) return { kind: 'refused', problem: csrf };
    if (ticket.kind !== 'valid')
      return accessTokens.ofApplication(api).then((answer) => attach(answer, () => ({ kind: 'guest' })));

    const session = sessions.remembered(ticket.sessionId);
    if (session !== undefined) return admit(context, api, call.log, rules, session);
    return sessions.use(ticket.sessionId).then((read) =>
      // The cookie is left alone: a call that was slow would otherwise clear that of a login which came meanwhile (SE13).
      read === undefined
        ? { kind: 'refused', problem: problem(SessionRequired) }
        : admit(context, api, call.log, rules, read),
    );
  };

  return (call) => {
    const rules = rulesFor(call.method, call.path);
    // Public: no cookie opens it, so there is nothing to forge, no session to read and no token to attach (PO3).
    if (isPublic(api, rules)) return { kind: 'admitted', caller: { kind: 'public' } };
    if (admitBearer === undefined) return bySession(call, rules);
    return admitBearer(call, rules).then((brought) => {
      if (brought === undefined) return bySession(call, rules);
      if (brought.kind === 'refused') return brought;
      const { identity, token } = brought;
      return { kind: 'admitted', caller: { kind: 'bearer', identity }, ...(api.token === 'user' ? { token } : {}) };
    });
  };
}

/** Decides again about a call that was admitted for this session and goes on. It counts as no use of the session. */
export type Review = (sessionId: string) => Promise<Admission>;

/** For calls that stay open. `undefined` where no rule could decide otherwise. */
export function buildReview(
  context: FrontendContext,
  api: Api,
): (call: Pick<Call, 'method' | 'path' | 'log'>) => Review | undefined {
  const rulesFor = buildRules(api);
  return ({ method, path, log }) => {
    const rules = rulesFor(method, path);
    if (rules.length === 0) return undefined;
    return async (sessionId) => {
      const session = await context.sessions.peek(sessionId);
      return session === undefined
        ? { kind: 'refused', problem: problem(SessionRequired) }
        : admit(context, api, log, rules, session);
    };
  };
}

/** Token and policy, for a session that is there. */
function admit(
  context: FrontendContext,
  api: Api,
  log: FastifyBaseLogger,
  rules: RequireConfig[],
  session: Session,
): Admission | Promise<Admission> {
  const judged = (admission: Admission) =>
    admission.kind === 'admitted' && rules.length > 0 ? judge(context, api, log, rules, admission) : admission;
  const caller = { kind: 'session', session } as const;
  if (api.token === 'none') return judged({ kind: 'admitted', caller });
  const token = context.accessTokens.atHand(session, api);
  if (token !== undefined) return judged({ kind: 'admitted', caller, token });
  // After the refresh that this may be: roles and scopes that it took away count no more (RF15).
  return context.accessTokens
    .get(session, api)
    .then((answer) => judged(attach(answer, (now) => ({ kind: 'session', session: now ?? session }))));
}

function attach(answer: AccessToken, callerOf: (session?: Session) => Caller): Admission {
  return answer.kind === 'token'
    ? { kind: 'admitted', caller: callerOf(answer.session), token: answer.token }
    : { kind: 'refused', problem: refusalOf(answer) };
}

/** What the caller is told when there is no token. */
export function refusalOf(answer: Exclude<AccessToken, { kind: 'token' }>): Problem {
  switch (answer.kind) {
    case 'ended':
      return problem(SessionRequired);
    case 'refused':
      return problem(TokenRefused);
    case 'unavailable':
      return problem(TokenUnavailable, {
        retryAfterSeconds: answer.retryAfterMs / 1000,
        loginHelps: answer.loginHelps === true,
      });
  }
}

function refuseForgery({ frontend, metrics }: FrontendContext, api: Api, call: Call): Problem | undefined {
  if (call.isForgeryRuledOut === true) return undefined;
  const fault = csrfFault(call.method, call.headers, frontend.origin, api.csrf);
  if (fault === undefined) return undefined;
  metrics.csrfRejections.inc({ frontend: frontend.name, reason: fault });
  const detail = csrfDetail(fault, call.method, call.headers, frontend.origin);
  const facts = { frontend: frontend.name, api: api.name, reason: fault, detail };
  call.log.info({ ...facts, audit: 'csrf_rejected' }, 'request refused');
  return problem(CsrfRejected, { detail });
}

/** The rules that match against what the caller is now. */
function judge(
  context: FrontendContext,
  api: Api,
  log: FastifyBaseLogger,
  rules: RequireConfig[],
  admission: Admitted,
): Admission {
  const { caller, token } = admission;
  if (caller.kind !== 'session') return { kind: 'refused', problem: problem(SessionRequired) };
  const { frontend, metrics, accessTokens } = context;
  const { session } = caller;
  const scope = token?.scope ?? accessTokens.scopeOf(session);
  const verdict = evaluatePolicy(rules, session.identity, scope, {
    now: session.now,
    tolerance: frontend.authorizationServer.clockTolerance / 1000,
  });
  if (verdict.kind === 'allowed') return admission;
  if (verdict.kind === 'step-up')
    return { kind: 'refused', problem: answerStepUp(context, api, verdict.strength, 'rule', session, log) };
  metrics.policyDenials.inc({ frontend: frontend.name, api: api.name });
  log.info(
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
