import type { Fault, Mistake } from './faults.ts';

const cures: Record<Mistake, string> = {
  'client-credentials':
    'the authorization server does not take our credentials: compare clientId, clientSecret or privateKey, and clientAuthentication with the registration',
  'client-not-allowed':
    'the authorization server does not know this client, has it disabled or allows it no such grant: compare clientId with the registration, enable the client and its authorization code and refresh grants',
  'redirect-uri':
    'the authorization server does not take our redirect URI: register publicUrl and /bff/callback, exactly, as a redirect URI of this client',
  scope: 'the authorization server does not give these scopes to this client: correct scopes, or allow them there',
  'sender-constrained':
    'the authorization server wants sender-constrained tokens (DPoP) of this client: turn that off in its registration',
  'id-token-encrypted':
    'the ID token is encrypted: remove id_token_encrypted_response_alg from the registration, or its encryption key',
  'id-token-algorithm':
    'the ID token is signed with an algorithm that is not taken: register an asymmetric one (id_token_signed_response_alg: RS256, PS256 or ES256), or list it in idTokenSigningAlgorithms if it is asymmetric',
  'issuer-differs':
    'the metadata is that of another issuer: write issuer exactly as the metadata has it, with or without a slash at its end',
  'metadata-missing':
    'there is no metadata where issuer leads to: correct the name of the realm or tenant in issuer, or set metadataUrl',
  'userinfo-missing':
    'the metadata has no userinfo_endpoint: set userInfo to never, and have the claims put into the ID token',
  'userinfo-token':
    'UserInfo does not take the access token of the login: ask for the scope openid, and for no resource, audience or scope of an API in the login itself; else set userInfo to never',
  'userinfo-encrypted':
    'UserInfo is encrypted: remove userinfo_encrypted_response_alg from the registration, or its encryption key',
  'userinfo-algorithm':
    'UserInfo is signed with an algorithm that is not taken: register an asymmetric one (userinfo_signed_response_alg: RS256, PS256 or ES256) or none at all, or list it in idTokenSigningAlgorithms if it is asymmetric',
};

/** A fault for the log, and what it tells of. Nothing is decided by it: a server's words are only read for a hint. */
export function tellFault(fault: Fault): { fault: Fault; mistake?: Mistake; cure?: string } {
  const mistake = mistakeOf(fault);
  return mistake === undefined ? { fault } : { fault, mistake, cure: cures[mistake] };
}

function mistakeOf(fault: Fault): Mistake | undefined {
  if (fault.kind === 'untrusted') return fault.mistake;
  if (fault.kind === 'unavailable') return undefined;
  const { status, error = '', description = '' } = fault.said ?? {};
  if (/dpop/i.test(`${error} ${description}`)) return 'sender-constrained';
  if (/redirect/i.test(`${error} ${description}`)) return 'redirect-uri';
  if (error === 'invalid_scope' || /\bscopes?\b/i.test(description)) return 'scope';
  if (/^(unauthorized|unknown|disabled|deleted)_client$/.test(error) || saysNoSuchClient(description))
    return 'client-not-allowed';
  return error === 'invalid_client' || status === 401 ? 'client-credentials' : undefined;
}

const noSuchClient =
  /\b(client|application)(_id| id)?\b.*\b(unknown|not (found|exist|registered|enabled|known)|disabled|inactive|deleted)\b|\b(unknown|no such|unregistered|disabled|inactive) (oauth2? )?(client|application)/i;

/** Not what RFC 6749 §5.2 gives as examples, which many servers copy for a wrong secret too. */
function saysNoSuchClient(description: string): boolean {
  return noSuchClient.test(description.replace(/\(?e\.g\..*/i, ''));
}
