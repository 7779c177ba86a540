import { randomBytes } from 'node:crypto';
import { type AuthorizeFault, parameterValues } from './faults.ts';
import type { Answer } from './faulty-answer.ts';
import { epochSeconds, issueSecret, type ProviderState } from './provider-state.ts';

const CODE_LIFETIME_MS = 60_000;

/** Answers an authorization request at once, as if the user had logged in: redirect or auto-submitting form. */
export function answerAuthorizationRequest(
  state: ProviderState,
  query: URLSearchParams,
  fault: AuthorizeFault = {},
): Answer {
  const request = resolvePushed(state, query);
  if (request === undefined) return page(400, 'unknown request_uri');
  const redirectUri = request.get('redirect_uri') ?? '';
  const allowed = state.settings.redirectUris;
  if (!state.clients.has(request.get('client_id') ?? '')) return page(400, 'unknown client_id');
  if (!URL.canParse(redirectUri) || (allowed && !allowed.includes(redirectUri)))
    return page(400, 'unknown redirect_uri');

  const error = fault.error ?? findError(state, request, request !== query);
  const code = error === undefined ? issueCode(state, request) : undefined;
  const single: [string, string | undefined][] = [
    ['error', error],
    ['error_description', fault.errorDescription],
    ['error_uri', fault.errorUri],
  ];
  const params = single.filter((entry): entry is [string, string] => entry[1] !== undefined);
  const regular = { code, state: request.get('state') ?? undefined, iss: state.issuer };
  for (const name of ['code', 'state', 'iss'] as const) {
    for (const value of parameterValues(fault[name], regular[name])) params.push([name, value]);
  }
  params.push(...(fault.extra ?? []));
  const answer = deliver(redirectUri, params, request.get('response_mode') ?? 'query');
  if (fault.isByScript !== true) return answer;
  return { html: `<!doctype html><script>location.replace(${JSON.stringify(answer.headers?.location)})</script>` };
}

/** RFC 9126. */
export function answerPushedRequest(state: ProviderState, clientId: string, params: URLSearchParams): Answer {
  const requestUri = `urn:ietf:params:oauth:request_uri:${randomBytes(12).toString('base64url')}`;
  const pushed = new URLSearchParams(params);
  pushed.set('client_id', clientId);
  state.pushed.set(requestUri, pushed);
  return { status: 201, json: { request_uri: requestUri, expires_in: 60 } };
}

/** RP-initiated logout: back to the registered page with the state. */
export function answerEndSession(params: URLSearchParams, stateValues: string[]): Answer {
  const target = params.get('post_logout_redirect_uri');
  if (target === null || !URL.canParse(target)) return page(200, 'logged out');
  const url = new URL(target);
  for (const value of stateValues) url.searchParams.append('state', value);
  return { status: 303, headers: { location: url.href }, html: '' };
}

function resolvePushed(state: ProviderState, query: URLSearchParams): URLSearchParams | undefined {
  const requestUri = query.get('request_uri');
  if (requestUri === null) return query;
  const pushed = state.pushed.get(requestUri);
  state.pushed.delete(requestUri);
  return pushed?.get('client_id') === query.get('client_id') ? pushed : undefined;
}

function findError(state: ProviderState, request: URLSearchParams, pushed: boolean): string | undefined {
  const wantsPkce = state.settings.requirePkce;
  const prompts = (request.get('prompt') ?? '').split(' ');
  if (state.settings.par === 'required' && !pushed) return 'invalid_request';
  if (request.get('response_type') !== 'code') return 'unsupported_response_type';
  if (wantsPkce && request.get('code_challenge_method') !== 'S256') return 'invalid_request';
  if (wantsPkce && !/^[\w-]{43}$/.test(request.get('code_challenge') ?? '')) return 'invalid_request';
  if (prompts.includes('none') && state.login === null) return 'login_required';
  return undefined;
}

function issueCode(state: ProviderState, request: URLSearchParams): string {
  const code = issueSecret(state, 'code');
  const who = state.login ?? { sub: 'alice' };
  const acr = who.acr ?? request.get('acr_values')?.split(' ')[0];
  const login = {
    ...who,
    sid: who.sid ?? `sid-${randomBytes(8).toString('hex')}`,
    authTime: who.authTime ?? epochSeconds(state),
    ...(acr === undefined ? {} : { acr }),
  };
  state.lastLogin = login;
  state.codes.set(code, {
    clientId: request.get('client_id') ?? '',
    redirectUri: request.get('redirect_uri') ?? '',
    challenge: request.get('code_challenge') ?? undefined,
    nonce: request.get('nonce') ?? undefined,
    scope: request.get('scope') ?? 'openid',
    resources: request.getAll('resource'),
    login,
    expiresAt: state.now() + CODE_LIFETIME_MS,
    used: false,
    family: undefined,
  });
  return code;
}

function deliver(redirectUri: string, params: [string, string][], mode: string): Answer {
  if (mode === 'form_post') {
    const inputs = params.map(
      ([name, value]) => `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`,
    );
    const form = `<form method="post" action="${escapeHtml(redirectUri)}">${inputs.join('')}</form>`;
    return { html: `<!doctype html><body onload="document.forms[0].submit()">${form}</body>` };
  }
  const url = new URL(redirectUri);
  if (mode === 'fragment') url.hash = new URLSearchParams(params).toString();
  else for (const [name, value] of params) url.searchParams.append(name, value);
  return { status: 302, headers: { location: url.href }, html: '' };
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
}

function page(status: number, text: string): Answer {
  return { status, html: `<!doctype html><p>${text}</p>` };
}
