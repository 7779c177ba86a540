import { readFileSync } from 'node:fs';
import { buildRoutes, buildRules, evaluatePolicy, isPublic, takesGuests } from '../admission/policy.ts';
import { buildBearerIdentity } from '../bearer/claims.ts';
import type { Api, Config, Frontend, RequireConfig } from '../config/config.ts';
import { apiMethods } from '../config/schema/values.ts';
import { loginStrength } from '../oidc/authorization.ts';
import {
  BearerRequired,
  MethodNotAllowed,
  PathNotCanonical,
  PolicyDenied,
  type ProblemType,
  RouteUnknown,
  SessionRequired,
  StepUpFailed,
  StepUpRequired,
} from '../problems/errors.ts';
import { buildFindPlace, type Place } from '../routing/places.ts';
import { asRoutable, pathBelow } from '../routing/request-path.ts';
import { buildIdentity } from '../session/session.ts';
import { grantOf } from '../tokens/grant.ts';
import {
  describeCsrf,
  describeForwarding,
  describePolicy,
  describeToken,
  type ExplainedCaller,
  type Judged,
  type Lines,
} from './parts.ts';

export interface Question {
  method: string;
  /** As the browser asks for it, with the query. */
  target: string;
  /** Which frontend, where there are several hosts. */
  host?: string;
  /** Of the ID token and UserInfo of whoever is logged in; absent: nobody is. */
  claims?: Claims;
}

/** `scope`: what the token was granted; without it, what is asked for. */
export type Claims = Record<string, unknown> & { sub: string };

export interface Explanation {
  isAllowed: boolean;
  text: string;
}

type Refusal = { type: ProblemType; why: string };

/** The question can't be answered: it is not about a call that could arrive. */
export class UnclearQuestionError extends Error {}

/** The claims of an ID token, from a file. */
export function readClaims(file: string): Claims {
  const cure = `write the claims of an ID token, such as {"sub": "alice", "roles": ["admin"]}`;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw new UnclearQuestionError(`${file} can’t be read (${code}): name a file with --as`);
  }
  let claims: unknown;
  try {
    claims = JSON.parse(text);
  } catch {
    throw new UnclearQuestionError(`${file} is no JSON: ${cure}`);
  }
  if (typeof claims !== 'object' || claims === null || Array.isArray(claims))
    throw new UnclearQuestionError(`${file} is no JSON object: ${cure}`);
  const { sub, acr, auth_time: authTime, scope } = claims as Record<string, unknown>;
  const wrong =
    typeof sub !== 'string'
      ? 'sub must be a text'
      : acr !== undefined && typeof acr !== 'string'
        ? 'acr must be a text'
        : authTime !== undefined && typeof authTime !== 'number'
          ? 'auth_time must be a number, in seconds since 1970'
          : scope !== undefined && typeof scope !== 'string'
            ? 'scope must be a text with spaces in it'
            : undefined;
  if (wrong !== undefined) throw new UnclearQuestionError(`${file}: ${wrong}: ${cure}`);
  return claims as Claims;
}

/**
 * What would become of a call, and why: decided by the functions of the proxy itself, so that it can't say anything
 * else than what happens. Sessions, tokens and upstreams are taken to be there; nothing is asked of anybody.
 */
export function explainCall(config: Config, question: Question, nowMs = Date.now()): Explanation {
  const { target } = question;
  const method = question.method.toUpperCase();
  if (!apiMethods.some((known) => known === method))
    throw new UnclearQuestionError(`${method} is no method of an API: use one of ${apiMethods.join(', ')}`);
  if (!target.startsWith('/'))
    throw new UnclearQuestionError(`${target} is no path: give it as browsers ask for it, such as /api/orders/7`);
  const head = { method, target };
  const place = buildFindPlace(config.frontends)(chooseHost(config, question), asRoutable(target));
  if (place === undefined) return refused(head, { type: RouteUnknown, why: 'it is under no frontend’s publicUrl' });
  if (place.kind === 'ambiguous') return refused(head, { type: PathNotCanonical, why: place.fault });
  const { frontend } = place;
  const lines: Lines = [['frontend', `${frontend.name}, ${frontend.origin}${frontend.basePath}`]];
  return place.kind === 'api'
    ? explainApiCall(config, frontend, place.api, { ...question, method }, lines, nowMs)
    : outsideApis(place, head, lines);
}

function explainApiCall(
  config: Config,
  frontend: Frontend,
  api: Api,
  { method, target, claims }: Question,
  lines: Lines,
  nowMs: number,
): Explanation {
  const head = { method, target };
  const below = pathBelow(`${frontend.basePath}${api.path}`, target);
  lines.push(['API', `${api.name}, ${frontend.basePath}${api.path}`]);
  if (!api.methods.some((allowed) => allowed === method))
    return refused(head, { type: MethodNotAllowed, why: `methods: ${api.methods.join(', ')}` }, lines);

  const routes = buildRoutes(api)?.(method, below) ?? [];
  lines.push(['routes', routes.length === 0 ? 'none' : routes.map(({ path }) => path).join(', ')]);
  const rules = buildRules(api)(method, below);
  const caller = callerOf(api, rules, claims);
  lines.push(['caller', callers[caller]]);
  if (caller === 'session') lines.push(['claims', claimSources[frontend.authorizationServer.userInfo]]);
  const judgedAs = judge(frontend, api, caller, claims, nowMs);

  lines.push([
    'CSRF',
    caller === 'public' || caller === 'bearer' ? 'nothing: no cookie opens it' : describeCsrf(method, frontend, api),
  ]);
  for (const text of describePolicy(rules, judgedAs, caller)) lines.push(['policy', text]);
  lines.push(['token', describeToken(frontend, api, caller)]);
  lines.push(...describeForwarding(config, frontend, api, { method, target, below, caller }));

  const refusal =
    caller === 'nobody'
      ? { type: api.accept.includes('session') ? SessionRequired : BearerRequired, why: 'nobody is logged in' }
      : refusalByPolicy(frontend, rules, judgedAs);
  return refusal === undefined
    ? { isAllowed: true, text: format(`${method} ${target}: allowed`, lines) }
    : refused(head, refusal, lines);
}

function callerOf(api: Api, rules: RequireConfig[], claims: Claims | undefined): ExplainedCaller {
  if (isPublic(api, rules)) return 'public';
  if (claims !== undefined) return api.accept.includes('session') ? 'session' : 'bearer';
  return takesGuests(api, rules) ? 'guest' : 'nobody';
}

const callers: Record<ExplainedCaller, string> = {
  nobody: 'nobody is logged in',
  public: 'anybody: the path is public, and no session is looked at',
  guest: 'a guest: nobody is logged in',
  session: 'the session of a user with these claims',
  bearer: 'whoever brings a token with these claims: no session is accepted',
};

/** Where the claims of a session come from. */
const claimSources: Record<Frontend['authorizationServer']['userInfo'], string> = {
  never: 'of the ID token; UserInfo is not asked',
  login: 'of the ID token, and those that it lacks from UserInfo, as of the login',
  always: 'of the ID token, and those that it lacks from UserInfo, as of the login or the last refresh',
};

function refusalByPolicy(
  frontend: Frontend,
  rules: RequireConfig[],
  { subject, scope, moment }: Judged,
): Refusal | undefined {
  if (subject === undefined) return undefined;
  const verdict = evaluatePolicy(rules, subject, scope, moment);
  if (verdict.kind === 'allowed') return undefined;
  if (verdict.kind === 'denied') return { type: PolicyDenied, why: verdict.reason };
  const strength = loginStrength(frontend.authorizationServer, {}, verdict.strength);
  if (strength === undefined)
    return { type: StepUpFailed, why: 'authorizationServer.acrValues has none of the acr values that are needed' };
  const { acrValues, maxAge } = strength;
  const asked = [
    ...(acrValues.length === 0 ? [] : [`acr_values=${acrValues.join(' ')}`]),
    ...(maxAge === undefined ? [] : [`max_age=${maxAge}`]),
  ];
  return { type: StepUpRequired, why: `a login with ${asked.join(' and ')} brings it` };
}

/** What the rules are held against: as a login or a token with these claims would be understood. */
function judge(
  frontend: Frontend,
  api: Api,
  caller: ExplainedCaller,
  claims: Claims | undefined,
  nowMs: number,
): Judged {
  const { authorizationServer, bearerIssuers } = frontend;
  const now = nowMs / 1000;
  const issuer = bearerIssuers.find((one) => one.issuer === claims?.iss) ?? bearerIssuers[0];
  if (claims !== undefined && caller === 'bearer' && issuer !== undefined) {
    const subject = buildBearerIdentity(claims, issuer);
    return { subject, scope: subject.scope, moment: { now, tolerance: issuer.clockTolerance / 1000 } };
  }
  // Taken to be granted as they are asked for.
  const asked = grantOf(api)?.scope ?? (api.token === 'client' ? '' : authorizationServer.scopes.join(' '));
  return {
    ...(claims === undefined ? {} : { subject: buildIdentity(claims, authorizationServer.issuer) }),
    scope: typeof claims?.scope === 'string' ? claims.scope : asked,
    moment: { now, tolerance: authorizationServer.clockTolerance / 1000 },
  };
}

function chooseHost({ frontends }: Config, { host }: Question): string {
  const hosts = [...new Set(frontends.map((frontend) => frontend.host))];
  if (host === undefined && hosts.length > 1)
    throw new UnclearQuestionError(`there are frontends on several hosts: add --host with one of ${hosts.join(', ')}`);
  const wanted = (host ?? hosts[0] ?? '').toLowerCase();
  if (!hosts.includes(wanted))
    throw new UnclearQuestionError(`no frontend is on the host ${wanted}: use one of ${hosts.join(', ')}`);
  return wanted;
}

function outsideApis({ kind, frontend }: Place, head: Head, lines: Lines): Explanation {
  if (kind !== 'files')
    throw new UnclearQuestionError(`${head.target} is Cloakroom’s own: what it answers is in docs/endpoints.md`);
  const { devServer } = frontend;
  if (devServer?.methods.some((method) => method === head.method)) {
    lines.push([
      'devServer',
      `${devServer.upstream.join()}: whatever is no API’s, from this machine, without cookie and token`,
    ]);
    return { isAllowed: true, text: format(`${head.method} ${head.target}: allowed`, lines) };
  }
  if (frontend.files === undefined || !['GET', 'HEAD'].includes(head.method))
    return refused(head, { type: RouteUnknown, why: 'no API of the frontend has this path' }, lines);
  lines.push([
    'files',
    `${frontend.files.folder}: a file of the page, or index.html; without a session, and never forwarded`,
  ]);
  return { isAllowed: true, text: format(`${head.method} ${head.target}: allowed`, lines) };
}

interface Head {
  method: string;
  target: string;
}

function refused({ method, target }: Head, { type: Type, why }: Refusal, lines: Lines = []): Explanation {
  const { statusCode, code } = new Type();
  return { isAllowed: false, text: format(`${method} ${target}: refused, ${statusCode} ${code} (${why})`, lines) };
}

function format(first: string, lines: Lines): string {
  const rows = lines.map(
    ([label, text], index) => `${(lines[index - 1]?.[0] === label ? '' : label).padEnd(10)}${text}`,
  );
  return [first, ...(rows.length === 0 ? [] : ['', ...rows])].join('\n');
}
