import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import type { ProviderState } from './provider-state.ts';

/** The authenticated client of a request to the token, PAR or revocation endpoint; `undefined` when refused. */
export async function authenticateClient(
  state: ProviderState,
  authorization: string | undefined,
  params: URLSearchParams,
  /** The path below the issuer that it came to. */
  called: '/token' | '/par' | '/revoke',
): Promise<string | undefined> {
  if (authorization?.startsWith('Basic ')) {
    const [id = '', secret = ''] = Buffer.from(authorization.slice(6), 'base64').toString().split(':').map(formDecode);
    return state.clients.has(id) && state.clients.get(id) === secret ? id : undefined;
  }
  const assertion = params.get('client_assertion');
  if (assertion !== null) return verifyAssertion(state, assertion, called);
  const id = params.get('client_id') ?? '';
  // A public client has no secret and must not send one.
  const secret = params.get('client_secret') ?? undefined;
  return state.clients.has(id) && state.clients.get(id) === secret ? id : undefined;
}

async function verifyAssertion(state: ProviderState, assertion: string, called: string): Promise<string | undefined> {
  const one = { issuer: '', token: '/token', called };
  const wanted = state.settings.assertionAudience;
  const audience = (wanted === undefined ? ['', '/token', '/par'] : [one[wanted]]).map((path) => state.issuer + path);
  try {
    const claims = JSON.parse(Buffer.from(assertion.split('.')[1] ?? '', 'base64url').toString()) as { sub?: string };
    const secret = state.clients.get(claims.sub ?? '');
    if (state.clientJwks.length > 0) {
      const keys = createLocalJWKSet({ keys: state.clientJwks } as unknown as JSONWebKeySet);
      await jwtVerify(assertion, keys, { audience, currentDate: new Date(state.now()) });
    } else {
      await jwtVerify(assertion, Buffer.from(secret ?? ''), { audience, currentDate: new Date(state.now()) });
    }
    return state.clients.has(claims.sub ?? '') ? claims.sub : undefined;
  } catch {
    return undefined;
  }
}

/** RFC 6749 section 2.3.1: both halves are form-encoded before Basic. */
function formDecode(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '));
}
