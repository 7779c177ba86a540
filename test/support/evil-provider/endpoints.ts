import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { answerAuthorizationRequest, answerEndSession, answerPushedRequest } from './authorize-endpoint.ts';
import { authenticateClient } from './client-check.ts';
import { type JwksFault, parameterValues, type TokenFault, takeFault } from './faults.ts';
import { type Answer, sendAnswer } from './faulty-answer.ts';
import { type Jwk, signJwt, toJwk } from './jwt.ts';
import type { ProviderState } from './provider-state.ts';
import { answerTokenRequest } from './token-endpoint.ts';
import { revokeFamily, secretOf } from './token-issuer.ts';

/** One request in the provider's log. */
export interface RecordedRequest {
  /** `unknown` for any other path, such as one an attacker's redirect points to. */
  endpoint: Endpoint | 'unknown';
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingHttpHeaders;
  /** The form of a POST, else the query. */
  params: URLSearchParams;
  body: string;
  /** Epoch milliseconds of the provider's clock. */
  at: number;
}

export type Endpoint = keyof typeof PATHS;

/** Below the issuer. `forged-jwks` has the forger's key: nobody may ever fetch it. */
export const PATHS = {
  discovery: '/.well-known/openid-configuration',
  jwks: '/jwks',
  authorize: '/authorize',
  par: '/par',
  token: '/token',
  revocation: '/revoke',
  endSession: '/end_session',
  userinfo: '/userinfo',
  'forged-jwks': '/forged-jwks',
} as const;

/** Answers one request. */
export async function serve(state: ProviderState, request: RecordedRequest, response: ServerResponse): Promise<void> {
  const { params, headers } = request;
  switch (request.endpoint) {
    case 'discovery': {
      const fault = takeFault(state.faults, 'discovery');
      return sendAnswer(response, { json: metadata(state, fault?.issuer) }, fault);
    }
    case 'jwks': {
      const fault = takeFault(state.faults, 'jwks');
      return sendAnswer(response, { json: jwks(state, fault) }, fault);
    }
    case 'authorize': {
      const fault = takeFault(state.faults, 'authorize');
      return sendAnswer(response, answerAuthorizationRequest(state, params, fault), fault);
    }
    case 'par': {
      const clientId = await authenticateClient(state, headers.authorization, params, '/par');
      const answer = clientId ? answerPushedRequest(state, clientId, params) : INVALID_CLIENT;
      return sendAnswer(response, answer, takeFault(state.faults, 'par'));
    }
    case 'token':
      return serveToken(state, request, response);
    case 'revocation': {
      const fault = takeFault(state.faults, 'revocation');
      const clientId = await authenticateClient(state, headers.authorization, params, '/revoke');
      if (clientId !== undefined && fault === undefined) revoke(state, params.get('token') ?? '');
      return sendAnswer(response, clientId ? { html: '' } : INVALID_CLIENT, fault);
    }
    case 'endSession': {
      const fault = takeFault(state.faults, 'endSession');
      const states = parameterValues(fault?.state, params.get('state') ?? undefined);
      return sendAnswer(response, answerEndSession(params, states), fault);
    }
    case 'userinfo':
      return sendAnswer(response, userinfo(state, headers.authorization), takeFault(state.faults, 'userinfo'));
    case 'forged-jwks':
      return sendAnswer(response, { json: { keys: [toJwk(state.keys.forger())] } });
    default:
      return sendAnswer(response, { status: 404, html: 'not found' });
  }
}

const INVALID_CLIENT: Answer = { status: 401, json: { error: 'invalid_client' } };

async function serveToken(state: ProviderState, request: RecordedRequest, response: ServerResponse): Promise<void> {
  if (request.method !== 'POST') return sendAnswer(response, { status: 405, html: '' });
  const { params, headers } = request;
  const isRefresh = params.get('grant_type') === 'refresh_token' && state.faults.refreshResponse !== undefined;
  const fault = takeFault(state.faults, isRefresh ? 'refreshResponse' : 'tokenResponse');
  const proof = headers.dpop;
  const tokenRequest = { params, authorization: headers.authorization, proof: Array.isArray(proof) ? proof[0] : proof };
  const answer = commits(fault) ? await answerTokenRequest(state, tokenRequest) : { json: { error: 'server_error' } };
  return sendAnswer(response, answer, fault);
}

function commits(fault: TokenFault | undefined): boolean {
  if (fault === undefined || fault.commitThenCut) return true;
  const { status, body, redirectTo, reset, hang } = fault;
  return fault.commit ?? !(status !== undefined || body !== undefined || redirectTo !== undefined || reset || hang);
}

function metadata(state: ProviderState, issuer = state.issuer): Record<string, unknown> {
  const url = (endpoint: Endpoint) => `${state.issuer}${PATHS[endpoint]}`;
  const { par, idTokenAlgorithms } = state.settings;
  return {
    issuer,
    authorization_endpoint: url('authorize'),
    token_endpoint: url('token'),
    jwks_uri: url('jwks'),
    userinfo_endpoint: url('userinfo'),
    revocation_endpoint: url('revocation'),
    end_session_endpoint: url('endSession'),
    ...(par ? { pushed_authorization_request_endpoint: url('par') } : {}),
    ...(par === 'required' ? { require_pushed_authorization_requests: true } : {}),
    response_types_supported: ['code'],
    response_modes_supported: ['query', 'form_post'],
    grant_types_supported: [
      'authorization_code',
      'refresh_token',
      'client_credentials',
      'urn:ietf:params:oauth:grant-type:token-exchange',
    ],
    subject_types_supported: ['public'],
    scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
    id_token_signing_alg_values_supported: idTokenAlgorithms,
    token_endpoint_auth_methods_supported: [
      'client_secret_basic',
      'client_secret_post',
      'client_secret_jwt',
      'private_key_jwt',
      'none',
    ],
    token_endpoint_auth_signing_alg_values_supported: ['HS256', 'RS256', 'PS256', 'ES256', 'EdDSA'],
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    dpop_signing_alg_values_supported: ['ES256', 'RS256', 'EdDSA'],
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
    frontchannel_logout_supported: true,
    frontchannel_logout_session_supported: true,
  };
}

/** The key set, with decoys in front when the fault asks for them. */
export function jwks(state: ProviderState, { keys: count, duplicateKid, noKid }: JwksFault = {}): { keys: Jwk[] } {
  const { idToken, refreshIdToken, userinfoJwt } = state.faults;
  const used = [idToken, refreshIdToken, userinfoJwt].flat().map((fault) => fault?.alg);
  const withElliptic = [...used, ...state.settings.idTokenAlgorithms].includes('ES256');
  const real = state.keys.publicKeys(withElliptic);
  const decoys = Array.from({ length: Math.max(0, (count ?? 0) - real.length) }, (_, index) => ({
    kty: 'RSA',
    // A modulus nobody knows the factors of verifies no signature.
    n: Buffer.concat([Buffer.from([0xc1]), randomBytes(254), Buffer.from([1])]).toString('base64url'),
    e: 'AQAB',
    use: 'sig',
    alg: 'RS256',
    kid: duplicateKid ? real.at(-1)?.kid : `decoy-${index}`,
  }));
  const keys: Jwk[] = [...decoys, ...real];
  return { keys: noKid ? keys.map(({ kid: _, ...key }) => key) : keys };
}

function revoke(state: ProviderState, token: string): void {
  state.revoked.push(token);
  const accessToken = state.accessTokens.get(token);
  if (accessToken) accessToken.active = false;
  for (const family of state.families)
    if (family.valid.has(token) || family.used.has(token)) revokeFamily(state, family);
}

function userinfo(state: ProviderState, authorization = ''): Answer {
  const token = state.accessTokens.get(authorization.replace(/^(Bearer|DPoP) /i, ''));
  if (!token?.active || token.login === undefined) {
    return {
      status: 401,
      headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      json: { error: 'invalid_token' },
    };
  }
  const { sub, claims, userInfo } = token.login;
  const json = { sub, email: `${sub}@example.com`, ...claims, ...userInfo };
  const fault = takeFault(state.faults, 'userinfoJwt');
  if (fault === undefined) return { json };
  const { clientId } = token;
  const signed = { iss: state.issuer, aud: clientId, ...json };
  const jwt = signJwt({ keys: state.keys, clientSecret: secretOf(state, clientId), claims: signed, typ: 'JWT', fault });
  return { headers: { 'content-type': 'application/jwt' }, html: jwt ?? '' };
}
