import * as oidc from 'openid-client';
import type { Secret } from '../crypto/secret.ts';
import { type Fault, sortFault } from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';

/** What the end-session page is told about the logout, besides what the configuration says. */
export interface LogoutAtServer {
  postLogoutRedirectUri: string;
  /** Comes back to `postLogoutRedirectUri`; nothing waits for it: docs/adr/0008-nothing-happens-on-return-from-logout.md. */
  state: string;
  hint?: LogoutHint;
}

/** Who logs out. */
export interface LogoutHint {
  /** A name for the user or the session that the authorization server gave us. */
  logoutHint: string;
  /** Only where `idTokenHint` is on (docs/adr/0003-no-id-token-hint-by-default.md). */
  idToken?: Secret;
}

/** Where a browser goes to log out at the authorization server (RP-Initiated Logout §2). */
export interface EndSession {
  /** Complete, but for an ID token that goes by form. */
  url: string;
  state: string;
  /** The same with the ID token, with `idTokenHint: post`. */
  form?: EndSessionForm;
}

export interface EndSessionForm {
  action: string;
  fields: Record<string, string>;
}

/**
 * `undefined` when the authorization server has no such page, or its metadata was never readable: the local logout does
 * not wait for it.
 */
export async function buildEndSession(
  server: AuthorizationServer,
  { postLogoutRedirectUri, state, hint }: LogoutAtServer,
): Promise<EndSession | undefined> {
  const { clientId, idTokenHint, logoutParameterNames, extraLogoutParameters } = server.config;
  const endpoint = await endSessionEndpoint(server);
  if (endpoint === undefined) return undefined;
  const standard = {
    client_id: clientId,
    post_logout_redirect_uri: postLogoutRedirectUri,
    state,
    logout_hint: hint?.logoutHint,
    id_token_hint: hint?.idToken?.reveal(),
  };
  const isByForm = idTokenHint === 'post' && standard.id_token_hint !== undefined;
  const url = new URL(endpoint);
  const fields: Record<string, string> = {};
  const add = (name: string, value: string, isInUrl = true) => {
    fields[name] = value;
    if (isInUrl) url.searchParams.set(name, value);
  };
  for (const [name, value] of Object.entries(extraLogoutParameters)) add(name, value);
  for (const [name, value] of Object.entries(standard)) {
    const theirName = logoutParameterNames[name as keyof typeof standard] ?? name;
    if (theirName !== false && value !== undefined) add(theirName, value, !isByForm || name !== 'id_token_hint');
  }
  return { url: url.href, state, ...(isByForm ? { form: { action: endpoint, fields } } : {}) };
}

async function endSessionEndpoint(server: AuthorizationServer): Promise<string | undefined> {
  const { endSessionEndpoint: configured } = server.config;
  if (configured !== undefined || !server.isKnown()) return configured;
  const configuration = await server.configuration().catch(() => undefined);
  return configuration?.serverMetadata().end_session_endpoint;
}

export type Revoked = { kind: 'revoked' | 'not-offered' } | { kind: 'failed'; fault: Fault };

/** Revokes a refresh token (RFC 7009). "Unknown token" is success there. */
export async function revokeRefreshToken(server: AuthorizationServer, refreshToken: Secret): Promise<Revoked> {
  try {
    const configuration = await server.configurationFor({});
    if (configuration.serverMetadata().revocation_endpoint === undefined) return { kind: 'not-offered' };
    await oidc.tokenRevocation(configuration, refreshToken.reveal(), { token_type_hint: 'refresh_token' });
    return { kind: 'revoked' };
  } catch (error) {
    return { kind: 'failed', fault: sortFault(error) };
  }
}
