import * as oidc from 'openid-client';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, type Said, saidIn, sortFault, UntrustedAnswerError } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { type IdTokenClaims, verifyIdToken } from './id-token.ts';
import { type Authentication, isStrongEnough, mergeStrengths, type Strength } from './strength.ts';
import { acceptTokenResponse, type TokenResponse, unusedIn, unusedOf } from './token-response.ts';
import { askUserInfo, type UserInfoClaims } from './userinfo.ts';

/** One login attempt, with its secrets and what is asked of it; kept by the browser that started it, sealed. */
export interface AuthorizationRequest extends Strength {
  state: string;
  nonce: string;
  codeVerifier: string;
  issuer: string;
  /** Does the server promise `iss` in its answer (RFC 9207)? Then one without it is refused. */
  expectsIss: boolean;
}

export type StartedAuthorization =
  | { kind: 'started'; url: string; request: AuthorizationRequest }
  | { kind: 'unavailable'; fault: Fault };

/**
 * Builds an authorization request: code flow, PKCE S256, state and nonce of 256 bits each, pushed when the server
 * offers it (RFC 9126). `extra` comes from an allow-list and can't replace a parameter that is set here (LG9).
 * `strength`: see `loginStrength`.
 */
export async function startAuthorization(
  server: AuthorizationServer,
  redirectUri: string,
  extra: Record<string, string>,
  resources: string[],
  strength: Strength,
): Promise<StartedAuthorization> {
  const { config } = server;
  try {
    const configuration = await server.configuration();
    const metadata = configuration.serverMetadata();
    const request: AuthorizationRequest = {
      state: oidc.randomState(),
      nonce: oidc.randomNonce(),
      codeVerifier: oidc.randomPKCECodeVerifier(),
      issuer: config.issuer,
      expectsIss: metadata.authorization_response_iss_parameter_supported === true,
      ...strength,
    };
    const parameters = new URLSearchParams({
      ...config.extraParameters,
      ...extra,
      redirect_uri: redirectUri,
      scope: config.scopes.join(' '),
      state: request.state,
      nonce: request.nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(request.codeVerifier),
      code_challenge_method: 'S256',
      ...(config.responseMode === 'form_post' ? { response_mode: 'form_post' } : {}),
      ...(request.acrValues.length > 0 ? { acr_values: request.acrValues.join(' ') } : {}),
      ...(request.maxAge === undefined ? {} : { max_age: String(request.maxAge) }),
    });
    for (const resource of resources) parameters.append('resource', resource);

    const isPushed =
      config.pushedAuthorizationRequests === 'always' ||
      (config.pushedAuthorizationRequests === 'auto' && metadata.pushed_authorization_request_endpoint !== undefined) ||
      metadata.require_pushed_authorization_requests === true;
    const url = isPushed
      ? await oidc.buildAuthorizationUrlWithPAR(configuration, parameters)
      : oidc.buildAuthorizationUrl(configuration, parameters);
    return { kind: 'started', url: url.href, request };
  } catch (error) {
    return { kind: 'unavailable', fault: sortFault(error) };
  }
}

/**
 * How strong and recent the authentication must be: what the configuration says, else what an allowed parameter asks.
 * A step-up comes on top and takes nothing away; `undefined` when no authentication could satisfy both. Whatever is
 * asked is verified in the ID token (CB7).
 */
export function loginStrength(
  { acrValues, maxAge, extraParameters }: AuthorizationServer['config'],
  extra: Record<string, string>,
  stepUp?: Strength,
): Strength | undefined {
  const { acr_values: acr = '', max_age: age = '' } = { ...extraParameters, ...extra };
  const seconds = maxAge === undefined ? (/^\d{1,9}$/.test(age) ? Number(age) : undefined) : Math.ceil(maxAge / 1000);
  const usual: Strength = {
    acrValues: acrValues.length > 0 ? acrValues : acr.split(' ').filter(Boolean),
    ...(seconds === undefined ? {} : { maxAge: seconds }),
  };
  return stepUp === undefined ? usual : mergeStrengths([usual, stepUp]);
}

export type AuthorizationResponse =
  | { kind: 'code'; parameters: URLSearchParams }
  /** The server says no, in an answer that belongs to this login. */
  | { kind: 'refused'; error: string; said: Said }
  | { kind: 'invalid'; reason: string };

/** Parameters that no code-flow answer has; with them it is another flow's, or forged (CB4, T20). */
const foreignParameters = ['id_token', 'access_token', 'refresh_token', 'response'];

/** Checks the authorization response against the login it claims to belong to, before anything is sent (CB1–CB4, T16, T17). */
export function acceptAuthorizationResponse(
  request: AuthorizationRequest,
  parameters: URLSearchParams,
): AuthorizationResponse {
  const names = [...parameters.keys()];
  if (new Set(names).size !== names.length) return { kind: 'invalid', reason: 'a parameter appears twice' };
  if (foreignParameters.some((name) => parameters.has(name)))
    return { kind: 'invalid', reason: 'a token came through the browser' };
  if (parameters.get('state') !== request.state) return { kind: 'invalid', reason: 'state' };
  const iss = parameters.get('iss');
  // Exact comparison, for error answers too (RFC 9207 §2.4).
  if (iss === null ? request.expectsIss : iss !== request.issuer) return { kind: 'invalid', reason: 'iss' };
  const error = parameters.get('error');
  if (error !== null) {
    const said = saidIn(error, parameters.get('error_description'));
    return { kind: 'refused', error: said.error ?? 'other', said };
  }
  const code = parameters.get('code');
  if (code === null || !/^[\x21-\x7e]{1,4096}$/.test(code)) return { kind: 'invalid', reason: 'code' };
  return { kind: 'code', parameters };
}

/** `unused`: a refresh token that came although the login is refused. Nobody will use it: revoke it. */
export type Redeemed =
  | {
      kind: 'redeemed';
      response: TokenResponse;
      claims: IdTokenClaims;
      userInfo?: UserInfoClaims;
      /** Why there is none although it was asked for: `userInfoRequired` is off. */
      withoutUserInfo?: Fault;
    }
  /** Authenticated, but not as strongly or recently as asked (CB7). */
  | { kind: 'not-strong-enough'; received: Authentication; unused?: Secret }
  /** `isUserInfo`: the code was redeemed, and that failed. */
  | { kind: 'failed'; fault: Fault; isUserInfo?: true; unused?: Secret };

/** Redeems the code and verifies everything; no token leaves here before all checks passed (CB8). */
export async function redeemCode(
  server: AuthorizationServer,
  request: AuthorizationRequest,
  redirectUri: string,
  parameters: URLSearchParams,
): Promise<Redeemed> {
  let response: TokenResponse | undefined;
  let text = '';
  try {
    const configuration = await server.configurationFor({
      onAnswer: (answer) => {
        text = answer;
      },
    });
    // openid-client takes redirect_uri from this URL, so it is the configured one, never one that a Host header made (LG7).
    const currentUrl = new URL(redirectUri);
    for (const name of ['code', 'state', 'iss']) {
      const value = parameters.get(name);
      if (value !== null) currentUrl.searchParams.set(name, value);
    }
    const grant = await oidc.authorizationCodeGrant(configuration, currentUrl, {
      pkceCodeVerifier: request.codeVerifier,
      expectedState: request.state,
      expectedNonce: request.nonce,
      idTokenExpected: true,
    });
    response = acceptTokenResponse(grant);
    const claims = await verifyIdToken(server, response);
    if (claims === undefined) throw new UntrustedAnswerError('no ID token');
    // What was asked for must be in the ID token, whatever the server thought of the request (T40).
    const received = authenticationIn(claims);
    const isStrong = isStrongEnough(request, received, {
      now: server.nowMs() / 1000,
      tolerance: server.config.clockTolerance / 1000,
    });
    if (!isStrong) return { kind: 'not-strong-enough', received, ...unusedOf(response) };
    const redeemed = { kind: 'redeemed', response, claims } as const;
    if (server.config.userInfo === 'never') return redeemed;
    const answer = await askUserInfo(server, response.accessToken, claims.sub);
    if (answer.kind === 'claims') return { ...redeemed, userInfo: answer.claims };
    // Only whether it could be had is a matter of configuration, not whom it may be about.
    return answer.kind === 'failed' && !server.config.userInfoRequired
      ? { ...redeemed, withoutUserInfo: answer.fault }
      : { kind: 'failed', isUserInfo: true, fault: answer.fault, ...unusedOf(response) };
  } catch (error) {
    return { kind: 'failed', fault: sortFault(error), ...unusedIn(text) };
  }
}

/** With the types that they must have: a list of acr values is no acr (T40). */
function authenticationIn({ acr, auth_time: authTime }: IdTokenClaims): Authentication {
  return {
    ...(typeof acr === 'string' ? { acr } : {}),
    ...(typeof authTime === 'number' ? { authTime } : {}),
  };
}
