import type { VerifiedBearer } from '../bearer/bearer.ts';
import type { BearerIdentity } from '../bearer/claims.ts';
import type { Api, RequireConfig } from '../config/config.ts';
import { Secret } from '../crypto/secret.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { limitedAs } from '../http/client-address.ts';
import { cookieValues } from '../http/cookies.ts';
import {
  BearerBound,
  BearerInvalid,
  BearerMalformed,
  BearerRequired,
  BearerTooWeak,
  BearerUnavailable,
  CredentialsAmbiguous,
  PolicyDenied,
  type Problem,
  type ProblemType,
  problem,
  RateLimited,
} from '../problems/errors.ts';
import type { AttachedToken } from '../tokens/token-set.ts';
import { evaluatePolicy } from './policy.ts';
import { buildChallenge } from './step-up.ts';

/** What a request says about who calls. */
export interface Presented {
  headers: { cookie?: string | undefined };
  /** Of the client; undefined when it has gone already. */
  address: string | undefined;
  /** As Node read them: only here are two `Authorization` lines two. */
  rawHeaders: string[];
  /** Without the question mark. */
  query: string;
  log: { info(facts: object, message: string): void; warn(facts: object, message: string): void };
}

export type BearerAdmission =
  | { kind: 'admitted'; identity: BearerIdentity; token: AttachedToken }
  | { kind: 'refused'; problem: Problem };

export type AdmitBearer = (call: Presented, rules: RequireConfig[]) => Promise<BearerAdmission | undefined>;

/**
 * Decides about callers of one API that bring a token of their own, where the API accepts them. `undefined` leaves the
 * call to the session. A token in a header is nothing that another site's page could send, so there is no CSRF to look
 * for; and no session is read, because a cookie beside a token is refused (BV5).
 */
export function buildBearer(context: FrontendContext, api: Api): AdmitBearer {
  const { frontend, bearer, metrics, nowMs } = context;
  const own = [api.resource, api.audience].filter((name) => name !== undefined);
  const tolerances = new Map(
    frontend.bearerIssuers.map(({ name, clockTolerance }) => [name, clockTolerance / 1000] as const),
  );
  const facts = { frontend: frontend.name, api: api.name };

  /** The rules that match, against what the token says. */
  const judge = (call: Presented, rules: RequireConfig[], identity: BearerIdentity): Problem | undefined => {
    if (rules.length === 0) return undefined;
    const moment = { now: nowMs() / 1000, tolerance: tolerances.get(identity.issuer) ?? 0 };
    const verdict = evaluatePolicy(rules, identity, identity.scope, moment);
    if (verdict.kind === 'allowed') return undefined;
    const reason = verdict.kind === 'denied' ? verdict.reason : verdict.kind;
    metrics.policyDenials.inc(facts);
    const subject = identity.handle.slice(0, 12);
    call.log.info({ ...facts, reason, caller: 'bearer', subject, audit: 'policy_denied' }, 'request refused');
    // Whoever brought the token can get another one; there is no login of ours to send them to.
    if (verdict.kind === 'step-up') return refusal(BearerTooWeak, buildChallenge(verdict.strength));
    return verdict.reason === 'scopes' ? refusal(PolicyDenied, 'error="insufficient_scope"') : problem(PolicyDenied);
  };

  return async (call, rules) => {
    const read = readBearer(call, frontend.cookieName);
    if (read === undefined) {
      return api.accept.includes('session') ? undefined : { kind: 'refused', problem: refusal(BearerRequired) };
    }
    if (read.kind === 'refused') return read;
    const verified = await bearer.verify(read.token, own, clientOf(call));
    metrics.bearerTokens.inc({ frontend: frontend.name, issuer: verified.issuer, outcome: verified.kind });
    if (verified.kind !== 'valid') return refuse(call, verified, facts);
    const { identity } = verified;
    const denial = judge(call, rules, identity);
    if (denial !== undefined) return { kind: 'refused', problem: denial };
    const { scope, expiresAt } = identity;
    const token = { accessToken: new Secret(read.token), scope, obtainedAt: nowMs() / 1000, expiresAt };
    return { kind: 'admitted', identity, token };
  };
}

/** Milliseconds; a timer that is longer would go off at once. */
const longestTimer = 2 ** 31 - 1;

/**
 * Ends a connection that was authorized once, and would go on for ever, when its token does, and without a reason when
 * this process stops. Returns how to stop watching.
 */
export function watchToken(
  { streams, nowMs }: FrontendContext,
  identity: BearerIdentity,
  onEnd: (reason?: 'expired') => void,
): () => void {
  const stop = () => {
    clearTimeout(timer);
    leave();
  };
  const end = (reason?: 'expired') => {
    stop();
    onEnd(reason);
  };
  const timer = setTimeout(
    () => end('expired'),
    Math.min(Math.max(identity.expiresAt * 1000 - nowMs(), 0), longestTimer),
  );
  const leave = streams.enter(`api/${identity.handle}`, () => end());
  return stop;
}

/** Whose failures count together. */
function clientOf({ address = '' }: Presented): string {
  return limitedAs(address);
}

type ReadBearer = { kind: 'token'; token: string } | { kind: 'refused'; problem: Problem };

/** The one place of a token is one `Authorization` line; anything that two parties could read in two ways is 400 (BV4). */
function readBearer({ rawHeaders, headers, query }: Presented, cookieName: string): ReadBearer | undefined {
  const refused = (type: ProblemType): ReadBearer => ({
    kind: 'refused',
    problem: refusal(type, type === BearerMalformed ? 'error="invalid_request"' : undefined),
  });
  if (query !== '' && new URLSearchParams(query).has('access_token')) return refused(BearerMalformed);
  const lines: string[] = [];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if ((rawHeaders[index] as string).toLowerCase() === 'authorization') lines.push(rawHeaders[index + 1] as string);
  }
  const [line] = lines;
  if (line === undefined) return undefined;
  if (cookieValues(headers.cookie, cookieName).length > 0) return refused(CredentialsAmbiguous);
  if (lines.length > 1) return refused(BearerMalformed);
  if (!/^bearer( |$)/i.test(line)) return refused(BearerRequired);
  // b64token (RFC 6750 §2.1); the scheme has no case (RFC 9110 §11.1).
  const token = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i.exec(line)?.[1];
  return token === undefined ? refused(BearerMalformed) : { kind: 'token', token };
}

function refuse(
  call: Presented,
  verified: Exclude<VerifiedBearer, { kind: 'valid' }>,
  facts: { frontend: string; api: string },
): BearerAdmission {
  const { kind, issuer } = verified;
  if (verified.kind === 'limited') {
    const { retryAfterSeconds } = verified;
    call.log.info({ ...facts, issuer, reason: 'too many bad tokens', audit: 'bearer_refused' }, 'request refused');
    return { kind: 'refused', problem: problem(RateLimited, { retryAfterSeconds }) };
  }
  if (verified.kind === 'unavailable') {
    const { fault } = verified;
    call.log.warn({ ...facts, issuer, fault }, 'a token can’t be verified: its issuer gives no keys or no answer');
    const retryAfterSeconds = fault.kind === 'unavailable' ? (fault.retryAfterSeconds ?? 1) : 1;
    return { kind: 'refused', problem: problem(BearerUnavailable, { retryAfterSeconds }) };
  }
  const reason = verified.kind === 'invalid' ? verified.reason : kind;
  call.log.info({ ...facts, issuer, reason, audit: 'bearer_refused' }, 'request refused');
  return {
    kind: 'refused',
    problem: refusal(verified.kind === 'bound' ? BearerBound : BearerInvalid, 'error="invalid_token"'),
  };
}

/** With its challenge (RFC 6750 §3). */
function refusal(type: ProblemType, challenge?: string): Problem {
  return problem(type, { scheme: 'Bearer', ...(challenge === undefined ? {} : { challenge }) });
}
