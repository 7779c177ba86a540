import { shownKey } from '../crypto/shown.ts';
import type { ForwardProxies, ForwardProxy } from '../outbound/forward-proxy.ts';
import type { CrossProblem } from './document.ts';
import type { ApiConfig } from './schema/api.ts';
import { type AuthorizationServerConfig, logoutParameters } from './schema/authorization-server.ts';
import { isOriginWide, isReserved, isSteering, requestHeaders } from './schema/headers.ts';

/** The checks of a frontend's APIs that concern several keys. */
export function checkApis(
  apis: Record<string, ApiConfig>,
  path: PropertyKey[],
  problems: CrossProblem[],
  hasForwardAuth: boolean,
): void {
  const taken: { name: string; path: string }[] = [];
  for (const [name, api] of Object.entries(apis)) {
    const clash = taken.find((other) => api.path === other.path);
    if (clash !== undefined) {
      problems.push({
        path: [...path, name, 'path'],
        message: `is that of ${shownKey(clash.name)} too: give each API a path of its own`,
      });
    }
    if (isWithin(api.path, '/bff') || isWithin('/bff', api.path)) {
      problems.push({
        path: [...path, name, 'path'],
        message: 'overlaps /bff, where Cloakroom’s own endpoints are: choose another path',
      });
    }
    checkHeaders(api, [...path, name], problems);
    checkToken(api, [...path, name], problems);
    checkUpstream(api, [...path, name], problems);
    if (api.upstream.length === 0 && !hasForwardAuth)
      problems.push({
        path: [...path, name, 'upstream'],
        message:
          'is required: add it, such as http://orders:8080, or set forwardAuth if another proxy forwards the calls',
      });
    if (api.websocket !== undefined && !api.methods.includes('GET'))
      problems.push({
        path: [...path, name, 'websocket'],
        message: 'needs GET, which a WebSocket begins with: add it to methods',
      });
    taken.push({ name, path: api.path });
  }
}

function checkHeaders(
  { forwardHeaders, returnHeaders }: ApiConfig,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  for (const [key, headers] of Object.entries({ forwardHeaders, returnHeaders })) {
    for (const header of headers.filter(isReserved))
      problems.push({
        path: [...path, key],
        message: `${shownKey(header)} is set or withheld by Cloakroom itself: remove it`,
      });
  }
  for (const header of returnHeaders.filter((name) => isSteering(name) && !isReserved(name)))
    problems.push({
      path: [...path, 'returnHeaders'],
      message: `${shownKey(header)} tells caches or a proxy in front what to do with an answer, and could give it to another caller: remove it, and set cache: true if browsers may keep answers`,
    });
  for (const header of returnHeaders.filter((name) => isOriginWide(name) && !isReserved(name) && !isSteering(name)))
    problems.push({
      path: [...path, 'returnHeaders'],
      message: `${shownKey(header)} is about the whole origin, the SPA and all other APIs: remove it, and let the TLS terminator in front set it if you want it`,
    });
}

/** What the token modes need of each other. */
function checkToken(api: ApiConfig, path: PropertyKey[], problems: CrossProblem[]): void {
  const { token, resource, audience, scopes, idTokenHeader, forwardHeaders } = api;
  for (const [key, value] of Object.entries({ resource, audience, scopes, idTokenHeader })) {
    if (token === 'none' && value !== undefined)
      problems.push({ path: [...path, key], message: 'has no effect with token: none: remove one of them' });
  }
  if (token === 'exchange' && resource === undefined && audience === undefined && scopes === undefined)
    problems.push({
      path: [...path, 'token'],
      message: 'exchange needs a target: add resource, audience or scopes, as the authorization server wants it',
    });
  if (idTokenHeader === undefined) return;
  if (token === 'client')
    problems.push({
      path: [...path, 'idTokenHeader'],
      message: 'has no effect with token: client, which sends nothing of the user: remove one of them',
    });
  const isOpen = forwardHeaders.some(
    (name) => name === idTokenHeader || (name.endsWith('*') && idTokenHeader.startsWith(name.slice(0, -1))),
  );
  if (isReserved(idTokenHeader) || requestHeaders.has(idTokenHeader) || idTokenHeader.endsWith('*') || isOpen)
    problems.push({
      path: [...path, 'idTokenHeader'],
      message:
        'must be a header of its own, such as x-id-token: no reserved or standard name, no *, and not in forwardHeaders',
    });
}

function checkUpstream(
  { upstream, balance, affinity, forwardProxy, caFile, clientCertificate }: ApiConfig,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  upstream.forEach((target, index) => {
    if (upstream.indexOf(target) < index)
      problems.push({ path: [...path, 'upstream', index], message: 'is in the list twice: remove one of them' });
  });
  if (affinity !== undefined && upstream.length === 0)
    problems.push({ path: [...path, 'affinity'], message: 'has no effect without an upstream: remove it' });
  if (affinity !== undefined && balance !== 'round-robin')
    problems.push({
      path: [...path, 'balance'],
      message: 'has no effect with affinity, which finds the target by the session: remove one of them',
    });
  if (forwardProxy && upstream.every((target) => target.startsWith('unix:')))
    problems.push({
      path: [...path, 'forwardProxy'],
      message: 'has no effect: no upstream is reached over the network. Remove it',
    });
  if (upstream.some((target) => target.startsWith('https:'))) return;
  for (const [key, value] of Object.entries({ caFile, clientCertificate })) {
    if (value !== undefined)
      problems.push({
        path: [...path, key],
        message: 'has no effect: no upstream is https. Write https://, or remove it',
      });
  }
}

/** Each parameter of a logout says one thing. */
export function checkLogout(
  { idTokenHint, logoutParameterNames: names, extraLogoutParameters }: AuthorizationServerConfig,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  if (idTokenHint !== false && names.id_token_hint === false)
    problems.push({
      path: [...path, 'logoutParameterNames', 'id_token_hint'],
      message: 'is false, and idTokenHint is not: remove one of them',
    });
  for (const name of logoutParameters) {
    const theirName = names[name] ?? name;
    if (theirName === false) continue;
    const twin = logoutParameters.find((other) => other !== name && (names[other] ?? other) === theirName);
    if (twin !== undefined && names[name] !== undefined)
      problems.push({
        path: [...path, 'logoutParameterNames', name],
        message: `is the name of ${twin} too: give each its own`,
      });
    if (Object.hasOwn(extraLogoutParameters, theirName))
      problems.push({
        path: [...path, 'extraLogoutParameters', theirName],
        message: 'is a parameter that Cloakroom sets itself: remove it here, or give that another name or false',
      });
  }
}

/** A login brings one acr: where two lists have none in common, nobody would ever get in. */
export function checkStrength(
  server: Pick<AuthorizationServerConfig, 'acrValues'>,
  apis: Record<string, ApiConfig>,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  const check = (acr: string[] = [], others: string[] = [], where: PropertyKey[], name: string) => {
    if (acr.length > 0 && others.length > 0 && !acr.some((value) => others.includes(value)))
      problems.push({
        path: [...path, ...where],
        message: `has none of ${name}: no login satisfies both, add one there`,
      });
  };
  for (const [name, { accept, require: own, routes }] of Object.entries(apis)) {
    // Who brings a token has logged in elsewhere.
    const login = accept.includes('session') ? server.acrValues : [];
    check(own?.acr, login, [name, 'require', 'acr'], 'authorizationServer.acrValues');
    routes.forEach(({ require: { acr } }, index) => {
      const where = [name, 'routes', index, 'require', 'acr'];
      check(acr, login, where, 'authorizationServer.acrValues');
      check(acr, own?.acr, where, 'the API’s own require.acr');
    });
  }
}

/** Is the first path the second or below it? */
export function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(`${outer}/`);
}

/** The resources that the user's own grant is asked for. */
export function userResources(apis: Record<string, ApiConfig>): string[] {
  return Object.values(apis)
    .filter(({ token, accept }) => accept.includes('session') && (token === 'user' || token === 'user-or-client'))
    .flatMap(({ resource }) => resource ?? []);
}

/** The file asks for a proxy that the environment does not name: right where there is none to pass, a mistake elsewhere. */
export function forwardProxyWarnings(
  frontend: string,
  apis: Record<string, ApiConfig>,
  { http, https }: ForwardProxies,
): string[] {
  return Object.entries(apis).flatMap(([name, { forwardProxy, upstream }]) => {
    const isMissing = (scheme: string, proxy: ForwardProxy | undefined) =>
      forwardProxy && proxy === undefined && upstream.some((target) => target.startsWith(scheme));
    const missing = [
      ...(isMissing('https:', https) ? ['HTTPS_PROXY'] : []),
      ...(isMissing('http:', http) ? ['HTTP_PROXY'] : []),
    ];
    return missing.map(
      (variable) => `frontend ${frontend}: apis.${name}.forwardProxy has no effect: ${variable} is not set`,
    );
  });
}

/** One token for two APIs lets each of them call the other as the user (RFC 9700 §2.3, DT1). */
export function sharedTokenWarnings(frontend: string, apis: Record<string, ApiConfig>): string[] {
  const sharing = Object.entries(apis)
    .filter(([, api]) => api.token === 'user' || api.token === 'user-or-client')
    .filter(([, { resource, audience, scopes }]) => (resource ?? audience ?? scopes) === undefined)
    .map(([name]) => name);
  return sharing.length < 2
    ? []
    : [
        `frontend ${frontend}: ${sharing.join(' and ')} get the same token, so each of them could call the other with it. Give each its resource, audience or scopes`,
      ];
}
