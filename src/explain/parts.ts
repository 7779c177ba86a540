import { claimAt, evaluatePolicy, type Subject } from '../admission/policy.ts';
import type { Api, Config, Frontend, RequireConfig } from '../config/config.ts';
import { Secret } from '../crypto/secret.ts';
import { buildHeadersFor, upstreamPath } from '../exchange/upstream-request.ts';
import { buildPseudonym } from '../frontend/context.ts';
import { csrfFault } from '../http/request-source.ts';
import type { Moment } from '../oidc/strength.ts';
import { grantOf } from '../tokens/grant.ts';

export type Lines = [label: string, text: string][];

/** Who calls. */
export type ExplainedCaller = 'nobody' | 'public' | 'guest' | 'session' | 'bearer';

/** What the rules are held against. */
export interface Judged {
  subject?: Subject;
  /** Of the token. */
  scope: string;
  moment: Moment;
}

/** What the request must prove about where it comes from, found out by trying. */
export function describeCsrf(method: string, { origin }: Frontend, { csrf }: Api): string {
  const isEnough = (headers: Record<string, string>) => csrfFault(method, headers, origin, csrf) === undefined;
  const byPage = isEnough({ 'sec-fetch-site': 'same-origin' });
  const byHeader = isEnough({ 'x-csrf': '1' });
  if (byPage && byHeader) return 'a page of this site, or the header "x-csrf: 1"';
  return byPage ? 'a page of this site' : 'a page of this site, and the header "x-csrf: 1"';
}

/** Each single requirement, and whether it is met: judged one by one. */
export function describePolicy(
  rules: RequireConfig[],
  { subject, scope, moment }: Judged,
  caller: ExplainedCaller,
): string[] {
  if (rules.length === 0)
    return [caller === 'public' || caller === 'guest' ? 'nothing is required' : 'nothing but to be logged in'];
  return rules.flatMap(singleRules).map((rule) => {
    const text = describeRule(rule);
    if (subject === undefined) return text;
    const isMet = evaluatePolicy([rule], subject, scope, moment).kind === 'allowed';
    return `${text}: ${isMet ? 'met' : `missing, has ${actual(rule, subject, scope, moment)}`}`;
  });
}

function singleRules({ claims, ...others }: RequireConfig): RequireConfig[] {
  return [
    ...Object.entries(others).map(([name, value]) => ({ [name]: value }) as RequireConfig),
    ...Object.entries(claims ?? {}).map(([path, value]) => ({ claims: { [path]: value } })),
  ];
}

function describeRule({ roles, scopes, claims, acr, maxAge }: RequireConfig): string {
  if (roles !== undefined) return `role ${roles.join(' or ')}`;
  if (scopes !== undefined) return `scope ${scopes.join(' and ')}`;
  if (acr !== undefined) return `acr ${acr.join(' or ')}`;
  if (maxAge !== undefined) return `authenticated in the last ${maxAge / 1000} s`;
  return Object.entries(claims ?? {})
    .map(([path, value]) => `claim ${path} ${JSON.stringify(value)}`)
    .join();
}

function actual(
  { roles, scopes, claims, acr }: RequireConfig,
  subject: Subject,
  scope: string,
  { now }: Moment,
): string {
  const show = (value: unknown) => (value === undefined ? 'none' : JSON.stringify(value));
  if (roles !== undefined) return show(subject.claims.roles);
  if (scopes !== undefined) return show(scope);
  if (acr !== undefined) return show(subject.acr);
  if (claims !== undefined) return show(claimAt(subject.claims, Object.keys(claims)[0] ?? ''));
  return subject.authTime === undefined ? 'no auth_time' : `${Math.round(now - subject.authTime)} s`;
}

/** What the API gets, and what it is asked for with. */
export function describeToken(frontend: Frontend, api: Api, caller: ExplainedCaller): string {
  if (api.token === 'none') return 'none';
  if (caller === 'bearer') return 'the one that was brought';
  const grant = grantOf(api);
  const { resource, audience, scope, exchange } = grant ?? {};
  const asked = Object.entries({ resource, audience, scope }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  const by = asked.length === 0 ? '' : `, for ${asked.join(', ')}`;
  const idToken = api.idTokenHeader === undefined ? '' : `; the ID token in ${api.idTokenHeader}`;
  if (api.token === 'client' || caller === 'guest') return `the application’s own (client credentials)${by}`;
  if (exchange !== undefined)
    return `one that the session’s ${exchange.subjectToken} is exchanged for (${exchange.form})${by}${idToken}`;
  return grant === undefined
    ? `the user’s, of the login, for scope=${frontend.authorizationServer.scopes.join(' ')}${idToken}`
    : `the user’s, made for this API${by}${idToken}`;
}

/** What browsers send, and what some try to. */
const browserHeaders = [
  ...['accept', 'accept-encoding', 'accept-language'],
  ...['cookie', 'origin', 'referer', 'user-agent', 'sec-fetch-site', 'sec-fetch-mode', 'sec-fetch-dest', 'sec-ch-ua'],
  ...['x-csrf', 'authorization', 'forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'traceparent'],
];

/** Whose calls meet one target, where an API wants that. */
const companies: Record<ExplainedCaller, string> = {
  session: 'the session',
  bearer: 'the token’s subject',
  nobody: 'a session',
  guest: 'the browser’s address',
  public: 'the browser’s address',
};

/** Where it goes, and which headers cross. */
export function describeForwarding(
  config: Config,
  frontend: Frontend,
  api: Api,
  { method, target, below, caller }: { method: string; target: string; below: string; caller: ExplainedCaller },
): Lines {
  if (api.upstream.length === 0) return [['upstream', 'none: another proxy forwards it (forwardAuth)']];
  const { idTokenHeader } = api;
  const hasBody = ['POST', 'PUT', 'PATCH'].includes(method);
  const names = [
    ...new Set([
      ...browserHeaders,
      ...(hasBody ? ['content-length', 'content-type'] : []),
      ...api.forwardHeaders,
      ...(idTokenHeader === undefined ? [] : [idTokenHeader]),
    ]),
  ];
  const fromBrowser = (name: string) => `the browser’s ${name}`;
  const withToken = api.token !== 'none' && caller !== 'nobody';
  const accessToken = new Secret('<the access token>');
  const sent = buildHeadersFor(
    frontend,
    api,
    buildPseudonym(config),
  )(
    {
      rawHeaders: names.flatMap((name) => [name, fromBrowser(name)]),
      via: undefined,
      clientAddress: '<the browser’s address>',
      id: '<the request’s id>',
      hasBody,
    },
    withToken
      ? {
          accessToken,
          ...(idTokenHeader === undefined || caller !== 'session' ? {} : { idToken: new Secret('<the ID token>') }),
        }
      : undefined,
  );
  const pairs = sent.flatMap((name, index) => (index % 2 === 0 ? [[name, sent[index + 1] ?? ''] as const] : []));
  const passed = pairs.filter(([name, value]) => value === fromBrowser(name)).map(([name]) => name);
  const added = pairs.filter(([name, value]) => value !== fromBrowser(name)).sort(([a], [b]) => (a < b ? -1 : 1));
  const query = target.slice(`${frontend.basePath}${api.path}${below}`.length);
  return [
    ['upstream', `${api.upstream.join(' or ')}, ${method} ${upstreamPath(api, below)}${query}`],
    ...(api.affinity === undefined || api.upstream.length === 1
      ? []
      : [['affinity', `one of these for all calls of ${companies[caller]}`] as [string, string]]),
    ['passed', passed.join(', ')],
    ['removed', names.filter((name) => !passed.includes(name)).join(', ')],
    ...added.map(([name, value]): [string, string] => ['added', `${name}: ${value}`]),
  ];
}
