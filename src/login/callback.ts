import type { FastifyReply, FastifyRequest } from 'fastify';
import { hashId } from '../crypto/keys.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { stepUpId } from '../frontend/step-up-link.ts';
import type { Fault } from '../issuer/faults.ts';
import { tellFault } from '../issuer/mistakes.ts';
import { acceptAuthorizationResponse, type Redeemed, redeemCode } from '../oidc/authorization.ts';
import { signingAlgorithmOf } from '../oidc/id-token.ts';
import {
  AuthorizationServerUnavailable,
  LoginAnswerInvalid,
  LoginNotStrongEnough,
  LoginOtherUser,
  LoginRefused,
  LoginResponseInvalid,
  LoginTooManySessions,
  LoginTransactionMissing,
  type ProblemType,
  problem,
  StoreUnavailable,
} from '../problems/errors.ts';
import { buildIdentity } from '../session/session.ts';
import { buildTokenSet, hardEnd, serializeTokenSet } from '../tokens/token-set.ts';
import { subjectOf } from './login.ts';
import { sendReloadInFrame } from './pages.ts';
import { offerRestart, rememberLogin, restartCookieName } from './restart.ts';
import { endSilently, isBroughtIntoFrame, isPersonNeeded, sendFrameMessage, silentCookieName } from './silent.ts';
import {
  type LoginTransaction,
  openTransaction,
  sealTransaction,
  sortTransactions,
  transactionCookieAttributes,
  transactionCookieName,
  transactionCookiePrefix,
  transactionCookieSeconds,
  transactionLifeMs,
} from './transaction.ts';
import { describeDevice } from './user-agent.ts';

const mostParameters = 20;
const longestResponse = 16 * 1024;

/** `GET /bff/callback` (or POST with form_post): the authorization response. */
export async function callback(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const { frontend, keys, store, metrics, nowMs } = context;
  const refuse = (
    type: ProblemType,
    outcome: string,
    details: { retryAfterSeconds?: number; isPermanent?: boolean } = {},
  ) => {
    metrics.logins.inc({ frontend: frontend.name, outcome });
    request.log.info({ frontend: frontend.name, outcome, audit: 'login_refused' }, 'login refused');
    return problem(type, details);
  };

  if (isBroughtIntoFrame(context, request)) return sendReloadInFrame(reply, request.url);
  // 1. The response, and the login of this browser that it claims to belong to. No network yet (CB1).
  const parameters = responseParameters(request);
  if (parameters === undefined) throw refuse(LoginResponseInvalid, 'malformed');
  const states = parameters.getAll('state');
  const [state = ''] = states;
  const prefix = transactionCookiePrefix(frontend.cookieName);
  const name = transactionCookieName(prefix, state);
  const cookie = request.cookies[name];
  const transaction =
    cookie === undefined ? undefined : openTransaction(keys.transaction, name, cookie, context.server.config);
  if (transaction === undefined || states.length !== 1) throw refuse(LoginTransactionMissing, 'no-transaction');
  rememberLogin(context, request, transaction);
  const forget = () => reply.clearCookie(name, transactionCookieAttributes(context));

  // 2. It must be of this login, this server, and in time. A late one is started again, once.
  if (transaction.createdAt + transactionLifeMs < nowMs()) {
    forget();
    throw offerRestart(context, request, reply, refuse(LoginTransactionMissing, 'late'));
  }
  const response = acceptAuthorizationResponse(transaction.request, parameters);
  if (response.kind === 'invalid') {
    forget();
    throw refuse(LoginResponseInvalid, 'invalid-response');
  }

  // 3. Consumed once, over all replicas, before the token endpoint hears of it (CB2, T15). While the store can't be
  // asked the code is not used and the cookie stays, so that a reload finishes the login.
  const [isFirst, startedAt] = await Promise.all([
    store.markUsed(hashId('state', frontend.name, state), transactionCookieSeconds),
    store.now(),
  ]);
  forget();
  if (!isFirst) throw offerRestart(context, request, reply, refuse(LoginTransactionMissing, 'replayed'));
  if (response.kind === 'refused') {
    const { error, said } = response;
    const isPermanent = isAboutUs.test(error);
    const refusal: Fault = isPermanent ? { kind: 'misconfigured', code: error, said } : { kind: 'rejected', said };
    const facts = { frontend: frontend.name, code: error, ...askedOf(transaction), ...tellFault(refusal) };
    request.log[isPermanent ? 'warn' : 'info'](facts, 'the authorization server refused the login');
    if (request.silentLogin !== undefined && isPersonNeeded(error)) {
      metrics.logins.inc({ frontend: frontend.name, outcome: 'nobody' });
      return endSilently(context, request, reply, error);
    }
    // Its own faults, for which there are no status codes in a redirect (RFC 6749 §4.1.2.1). Keycloak says so, too, when
    // its page was open for too long.
    if (error === 'temporarily_unavailable' || error === 'server_error') {
      const unavailable = refuse(AuthorizationServerUnavailable, 'unavailable', { retryAfterSeconds: 5 });
      throw offerRestart(context, request, reply, unavailable);
    }
    if (error === 'unmet_authentication_requirements') throw refuse(LoginNotStrongEnough, 'not-strong-enough');
    throw refuse(LoginRefused, 'refused', { isPermanent });
  }

  // 4. Redeem the code and verify everything that comes.
  const redeemed = await redeemCode(context.server, transaction.request, context.redirectUri, response.parameters);
  if (redeemed.kind !== 'redeemed' && redeemed.unused !== undefined) context.coordinator.revoke(redeemed.unused);
  if (redeemed.kind === 'not-strong-enough') {
    const { acr, authTime } = redeemed.received;
    const received = { acr: acr?.slice(0, 100), authTime };
    const facts = { frontend: frontend.name, ...askedOf(transaction), received };
    request.log.warn(
      facts,
      'the user did not authenticate as asked: the authorization server must know these acr values',
    );
    throw refuse(LoginNotStrongEnough, 'not-strong-enough');
  }
  if (redeemed.kind === 'failed') {
    const facts = { frontend: frontend.name, ...tellFault(redeemed.fault) };
    request.log.warn(facts, redeemed.isUserInfo ? 'UserInfo could not be had' : 'the code could not be redeemed');
    throw refuse(...problemOf(redeemed.fault, facts.mistake !== undefined));
  }

  // A page that logs in by itself may not make one user another; a person may (W28).
  const { silent } = transaction;
  if (silent !== undefined && isOtherUser(redeemed.claims.sub, [silent, subjectOf(request.session.current)])) {
    if (redeemed.response.refreshToken !== undefined) context.coordinator.revoke(redeemed.response.refreshToken);
    throw refuse(LoginOtherUser, 'other-user');
  }

  if (redeemed.withoutUserInfo !== undefined)
    request.log.warn(
      { frontend: frontend.name, ...tellFault(redeemed.withoutUserInfo) },
      'UserInfo could not be had: the session begins with the claims of the ID token alone',
    );

  // 5. A new session under a new id; what this login replaces is ended (CB11, T11, T22).
  await startSession(context, request, transaction, redeemed, startedAt).catch((error: unknown) => {
    refuse(StoreUnavailable, 'not-started');
    throw error;
  });
  renamePending(context, request, reply, name);
  for (const marker of [restartCookieName(frontend.cookieName), silentCookieName(frontend.cookieName)])
    reply.clearCookie(marker, transactionCookieAttributes(context));
  metrics.logins.inc({ frontend: frontend.name, outcome: 'ok' });
  request.log.info(
    { frontend: frontend.name, session: request.session.current?.handle.slice(0, 12), audit: 'login' },
    'logged in',
  );
  if (request.silentLogin?.isFrame === true) return sendFrameMessage(reply, frontend.origin, { outcome: 'logged_in' });
  return reply.redirect(transaction.returnTo, 303);
}

/** What may be the reason when somebody is not logged in, if anything was asked for (W42). */
function askedOf({ request: { acrValues, maxAge } }: LoginTransaction): { asked?: object } {
  return acrValues.length === 0 && maxAge === undefined ? {} : { asked: { acrValues, maxAge } };
}

function isOtherUser(subject: string, known: { subject?: string }[]): boolean {
  return known.some((one) => one.subject !== undefined && one.subject !== subject);
}

/** What an authorization server says to a request that is wrong, or not allowed to this client: it always will be. */
const isAboutUs =
  /^(invalid_(request|scope|target|request_uri|request_object)|unauthorized_client|unsupported_response_type|(request|request_uri|registration)_not_supported)$/;

function responseParameters(request: FastifyRequest): URLSearchParams | undefined {
  const target = request.raw.url ?? '';
  const queryAt = target.indexOf('?');
  const text = request.method === 'POST' ? String(request.body ?? '') : queryAt === -1 ? '' : target.slice(queryAt + 1);
  if (text.length > longestResponse) return undefined;
  const parameters = new URLSearchParams(text);
  return parameters.size > mostParameters ? undefined : parameters;
}

function problemOf(
  fault: Fault,
  isMistake: boolean,
): [ProblemType, string, { retryAfterSeconds?: number; isPermanent?: boolean }?] {
  switch (fault.kind) {
    case 'rejected': // somebody else's code, or one that is used up (T14)
      return [LoginResponseInvalid, 'code-rejected', { isPermanent: isMistake }];
    case 'unavailable':
      return [AuthorizationServerUnavailable, 'unavailable', { retryAfterSeconds: fault.retryAfterSeconds ?? 5 }];
    case 'misconfigured':
      return [LoginAnswerInvalid, 'misconfigured', { isPermanent: true }];
    case 'untrusted':
      return [LoginAnswerInvalid, 'untrusted', { isPermanent: true }];
  }
}

async function startSession(
  context: FrontendContext,
  request: FastifyRequest,
  transaction: LoginTransaction,
  { response, claims, userInfo }: Extract<Redeemed, { kind: 'redeemed' }>,
  startedAt: number,
): Promise<void> {
  const { sessions, store, coordinator, tokenDefaults, server } = context;
  let isStarted = false;
  try {
    const now = await store.now(); // the clock by which all replicas judge the token (T53)
    const tokenSet = buildTokenSet(response, now, tokenDefaults);
    const endsAt = hardEnd(response, now, claims);
    // Over before it began: a session of no length would send the browser round in circles.
    if (endsAt !== undefined && endsAt <= now) throw problem(LoginRefused);
    // Ends the session of the cookie that came along. Without one the id is new already, whatever cookie was sent.
    if (request.session.current !== undefined) {
      await sessions.end(request.session.current.handle, 'replaced');
      await request.session.regenerate();
    }
    // First the end, then the beginning: a store that dies between leaves no session behind that was answered with 503.
    for (const handle of transaction.replaces) await sessions.end(handle, 'replaced');
    await makeRoom(context, claims.sub);
    const { sessionId } = request.session;
    const session = await sessions.create(
      sessionId,
      {
        ...buildIdentity(claims, server.config.issuer, userInfo),
        issuedAt: claims.iat,
        ...(response.idToken === undefined ? {} : { idTokenAlgorithms: [signingAlgorithmOf(response.idToken)] }),
        device: describeDevice(request.headers['user-agent']),
        ...(transaction.isStepUp === true ? { stepUp: stepUpId(transaction.request) } : {}),
      },
      serializeTokenSet(tokenSet),
      { now, ...(endsAt === undefined ? {} : { mostSeconds: endsAt - now }) },
    );
    if (session === undefined) throw problem(StoreUnavailable);
    // When that can't be asked it counts as ended: nobody has the ticket yet.
    const begunAt = transaction.createdAt / 1000;
    const wasEnded = await sessions
      .wasEndedSince(session.identity, { begunAt, startedAt })
      .catch((error: unknown) => error);
    if (wasEnded !== false) {
      await sessions.end(session.handle, 'back-channel-logout');
      throw wasEnded === true ? problem(LoginRefused) : wasEnded;
    }
    request.session.current = session;
    isStarted = true;
  } finally {
    // Nobody will ever use these tokens (T23).
    if (!isStarted && response.refreshToken !== undefined) coordinator.revoke(response.refreshToken);
  }
}

/** The user's sessions in this frontend stay within `session.perUser`. Logins in the same instant may overshoot by one. */
async function makeRoom({ config, sessions, server }: FrontendContext, subject: string): Promise<void> {
  const { max, whenFull } = config.session.perUser;
  if (max === undefined) return;
  const oldestFirst = await sessions.list({ issuer: server.config.issuer, subject });
  const tooMany = oldestFirst.slice(0, Math.max(0, oldestFirst.length - max + 1));
  if (tooMany.length > 0 && whenFull === 'deny') throw problem(LoginTooManySessions);
  for (const { handle } of tooMany) await sessions.end(handle, 'evicted');
}

/**
 * Two tabs log in at the same time: the second callback comes without the Strict cookie of the first one's session.
 * So the logins that are still under way are told now that they will replace it (SE13).
 */
function renamePending(context: FrontendContext, request: FastifyRequest, reply: FastifyReply, finished: string): void {
  const { frontend, keys, server, nowMs } = context;
  const { current } = request.session;
  if (current === undefined) return;
  const { live, dead } = sortTransactions(
    request.cookies,
    transactionCookiePrefix(frontend.cookieName),
    keys.transaction,
    server.config,
    nowMs(),
  );
  const attributes = transactionCookieAttributes(context);
  for (const name of dead) reply.clearCookie(name, attributes);
  for (const { name, transaction } of live) {
    if (name === finished) continue;
    const value = sealTransaction(keys.transaction, name, {
      ...transaction,
      replaces: [current.handle],
      ...(transaction.silent === undefined ? {} : { silent: { ...transaction.silent, ...subjectOf(current) } }),
    });
    reply.setCookie(name, value, { ...attributes, maxAge: transactionCookieSeconds });
  }
}
