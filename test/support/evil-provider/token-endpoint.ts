import { createHash } from 'node:crypto';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { authenticateClient } from './client-check.ts';
import type { Answer } from './faulty-answer.ts';
import { type CodeGrant, type Family, issueSecret, type ProviderState } from './provider-state.ts';
import { issueAccessToken, issueIdToken, issueRefreshToken, revokeFamily, startFamily } from './token-issuer.ts';

export interface TokenRequest {
  params: URLSearchParams;
  authorization: string | undefined;
  /** The DPoP proof, if any. */
  proof: string | undefined;
}

interface Authenticated extends TokenRequest {
  clientId: string;
  thumbprint: string | undefined;
}

/** Processes a grant as a strict provider does. */
export async function answerTokenRequest(state: ProviderState, request: TokenRequest): Promise<Answer> {
  const { params } = request;
  const verifier = params.get('code_verifier');
  if (verifier) issueSecret(state, 'code_verifier', verifier);
  const clientId = await authenticateClient(state, request.authorization, params, '/token');
  if (clientId === undefined) {
    const headers: Record<string, string> = request.authorization
      ? { 'www-authenticate': 'Basic realm="provider"' }
      : {};
    return { status: 401, headers, json: { error: 'invalid_client' } };
  }
  const proof = decodeProof(request.proof);
  const nonce = state.faults.dpopNonce;
  if (proof && nonce !== undefined && proof.nonce !== nonce) {
    return { status: 400, headers: { 'dpop-nonce': nonce }, json: { error: 'use_dpop_nonce' } };
  }
  const thumbprint = proof ? await calculateJwkThumbprint(proof.jwk) : undefined;
  const authenticated = { ...request, clientId, thumbprint };
  switch (params.get('grant_type')) {
    case 'authorization_code':
      return redeemCode(state, authenticated);
    case 'refresh_token':
      return refresh(state, authenticated);
    case 'client_credentials':
      return {
        json: issueAccessToken(state, {
          clientId,
          scope: params.get('scope') ?? '',
          audience: audienceOf(params),
          thumbprint,
        }),
      };
    case 'urn:ietf:params:oauth:grant-type:token-exchange':
      return exchange(state, authenticated, 'subject_token');
    case 'urn:ietf:params:oauth:grant-type:jwt-bearer':
      return params.get('requested_token_use') === 'on_behalf_of'
        ? exchange(state, authenticated, 'assertion')
        : refused('invalid_request');
    default:
      return refused('unsupported_grant_type');
  }
}

function redeemCode(state: ProviderState, { params, clientId, thumbprint }: Authenticated): Answer {
  const code = state.codes.get(params.get('code') ?? '');
  if (code === undefined || code.clientId !== clientId || code.expiresAt < state.now())
    return refused('invalid_grant', 'unknown code');
  if (code.used) {
    // RFC 6749 section 4.1.2: a second use revokes what the first one gave.
    if (code.family) revokeFamily(state, code.family);
    return refused('invalid_grant', 'code already used');
  }
  code.used = true;
  if (code.redirectUri !== params.get('redirect_uri')) return refused('invalid_grant', 'other redirect_uri');
  if (!verifierFits(code, params.get('code_verifier'))) return refused('invalid_grant', 'code_verifier does not fit');
  const family = startFamily(state, code);
  code.family = family;
  const audience = params.has('resource') || params.has('audience') ? audienceOf(params) : code.resources;
  const tokens = issueAccessToken(state, {
    clientId,
    scope: code.scope,
    audience,
    login: code.login,
    family,
    thumbprint,
  });
  return {
    json: {
      ...tokens,
      refresh_token: state.settings.issueRefreshToken ? issueRefreshToken(state, family) : undefined,
      id_token: issueIdToken(state, family, String(tokens.access_token), 'idToken'),
    },
  };
}

function refresh(state: ProviderState, { params, clientId, thumbprint }: Authenticated): Answer {
  const token = params.get('refresh_token') ?? '';
  const family = state.families.find((each) => each.valid.has(token) || each.used.has(token));
  if (family === undefined || family.clientId !== clientId) return refused('invalid_grant', 'unknown refresh token');
  if (family.revoked) return refused('invalid_grant', 'revoked refresh token');
  if (!family.valid.has(token) && !withinGrace(state, family, token)) {
    family.reuseDetected += 1;
    revokeFamily(state, family);
    return refused('invalid_grant', 'refresh token reuse detected');
  }
  const scope = params.get('scope') ?? family.scope;
  if (scope.split(' ').some((each) => !family.scope.split(' ').includes(each))) return refused('invalid_scope');
  const next = rotate(state, family, token);
  const tokens = issueAccessToken(state, {
    clientId,
    scope,
    audience: audienceOf(params),
    login: family.login,
    family,
    thumbprint,
  });
  const idToken = state.settings.refreshIdToken
    ? issueIdToken(state, { ...family, nonce: undefined }, String(tokens.access_token), 'refreshIdToken')
    : undefined;
  return { json: { ...tokens, refresh_token: next, id_token: idToken } };
}

function rotate(state: ProviderState, family: Family, token: string): string | undefined {
  if (state.settings.rotation === 'omit') return undefined;
  if (state.settings.rotation === 'same') return token;
  if (family.valid.delete(token)) family.used.set(token, state.now());
  family.rotations += 1;
  return issueRefreshToken(state, family);
}

function withinGrace(state: ProviderState, family: Family, token: string): boolean {
  const usedAt = family.used.get(token) ?? 0;
  return state.now() < usedAt + state.settings.reuseGraceSeconds * 1000;
}

/** RFC 8693, or Microsoft's on-behalf-of, whose answer names no `issued_token_type`. */
function exchange(
  state: ProviderState,
  { params, clientId, thumbprint }: Authenticated,
  parameter: 'subject_token' | 'assertion',
): Answer {
  const subject = state.accessTokens.get(params.get(parameter) ?? '');
  if (!subject?.active || subject.login === undefined) return refused('invalid_request', 'unknown subject_token');
  const scope = params.get('scope') ?? '';
  const token = issueAccessToken(state, {
    clientId,
    scope,
    audience: audienceOf(params),
    login: subject.login,
    thumbprint,
    ...(subject.family ? { family: subject.family } : {}),
  });
  const type = { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' };
  return { json: parameter === 'assertion' ? token : { ...token, ...type } };
}

function verifierFits(code: CodeGrant, verifier: string | null): boolean {
  if (code.challenge === undefined) return verifier === null;
  return (
    createHash('sha256')
      .update(verifier ?? '')
      .digest('base64url') === code.challenge
  );
}

function audienceOf(params: URLSearchParams): string[] {
  return [...params.getAll('resource'), ...params.getAll('audience')];
}

function decodeProof(proof: string | undefined): { jwk: JWK; nonce: unknown } | undefined {
  if (proof === undefined) return undefined;
  const [header = {}, payload = {}] = proof
    .split('.', 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>);
  return { jwk: header.jwk as JWK, nonce: payload.nonce };
}

function refused(error: string, description?: string): Answer {
  return { status: 400, json: { error, error_description: description } };
}
