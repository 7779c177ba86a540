import * as oidc from 'openid-client';
import type { ExchangeConfig } from '../config/config.ts';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, sortFault, UntrustedAnswerError } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { acceptTokenResponse, type TokenResponse } from './token-response.ts';

/** What a token is asked for (RFC 8707, RFC 8693 §2.1, RFC 6749 §3.3). */
export interface GrantTarget {
  resource?: string;
  audience?: string;
  /** Space-separated. */
  scope?: string;
}

export type Granted = { kind: 'granted'; response: TokenResponse } | { kind: 'failed'; fault: Fault };

const tokenType = (name: ExchangeConfig['requestedTokenType'] | ExchangeConfig['subjectToken']) =>
  `urn:ietf:params:oauth:token-type:${name}`;

/** Exchanges a token of the session for one that is made for an API (RFC 8693, or Microsoft's on-behalf-of). */
export async function exchangeGrant(
  server: AuthorizationServer,
  subjectToken: Secret,
  target: GrantTarget,
  { form, subjectToken: subjectType, requestedTokenType }: ExchangeConfig,
): Promise<Granted> {
  const wanted = tokenType(requestedTokenType);
  return ask(server, async (configuration) => {
    if (form === 'on-behalf-of') {
      return oidc.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:jwt-bearer', {
        assertion: subjectToken.reveal(),
        requested_token_use: 'on_behalf_of',
        ...target,
      });
    }
    const response = await oidc.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:token-exchange', {
      subject_token: subjectToken.reveal(),
      subject_token_type: tokenType(subjectType),
      requested_token_type: wanted,
      ...target,
    });
    // Required (RFC 8693 §2.2.1), and the only sign that this is a token for an API at all (DT4).
    if (response.issued_token_type !== wanted) throw new UntrustedAnswerError('another issued_token_type');
    return response;
  });
}

/** The application's own token (RFC 6749 §4.4). */
export async function clientCredentialsGrant(server: AuthorizationServer, target: GrantTarget): Promise<Granted> {
  return ask(server, (configuration) => oidc.clientCredentialsGrant(configuration, { ...target }));
}

async function ask(
  server: AuthorizationServer,
  request: (configuration: oidc.Configuration) => Promise<oidc.TokenEndpointResponse>,
): Promise<Granted> {
  try {
    return { kind: 'granted', response: acceptTokenResponse(await request(await server.configuration())) };
  } catch (error) {
    return { kind: 'failed', fault: sortFault(error) };
  }
}

/**
 * Does the server refuse this token alone, and not us altogether? Then asking again soon brings nothing. A 401 is about
 * our credentials, whatever code comes with it (RFC 6749 §5.2, W46).
 */
export function isRefusal(fault: Fault): fault is Extract<Fault, { kind: 'rejected' | 'misconfigured' }> {
  if (fault.kind === 'rejected') return true;
  return fault.kind === 'misconfigured' && fault.code !== 'invalid_client' && fault.said?.status !== 401;
}
