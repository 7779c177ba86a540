import { randomBytes } from 'node:crypto';
import type { Frontend } from '../config/config.ts';
import { redirectUriOf } from '../frontend/context.ts';
import { type Fault, KeysUnavailableError, sortFault } from '../issuer/faults.ts';
import type { KeySet } from '../issuer/key-set.ts';
import {
  type AuthorizationRequest,
  acceptAuthorizationResponse,
  loginStrength,
  redeemCode,
  startAuthorization,
} from '../oidc/authorization.ts';
import { type AuthorizationServer, createAuthorizationServer } from '../oidc/authorization-server.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import { readCertificates } from '../outbound/pem.ts';
import { type ClockedCaller, createClockedCaller } from './clocked-caller.ts';
import type { Report } from './finding.ts';
import { checkReach } from './reach.ts';
import { tellIssuerFault } from './told-fault.ts';

export interface IssuerCheck {
  /** Of the configuration, for the part that describes this issuer. */
  key: string;
  proxies: ForwardProxies;
  /** Milliseconds for one call. */
  timeout: number;
  report: Report;
}

export const silentLog = { info: () => undefined, warn: () => undefined };

/** Asks the authorization server what a login would ask, up to where a user is needed; answers are judged as there. */
export async function checkAuthorizationServer(frontend: Frontend, check: IssuerCheck): Promise<void> {
  const { key, proxies, timeout, report } = check;
  const { metadataUrl, issuer, caFile } = frontend.authorizationServer;
  const ca = caFile === undefined ? undefined : readCertificates(`${key}.caFile`, caFile);
  const where = `${key}.${metadataUrl === undefined ? 'issuer' : 'metadataUrl'}`;
  if (!(await checkReach({ key: where, target: metadataUrl ?? issuer, ca, proxies, timeout, report }))) return;
  const caller = createClockedCaller(timeout, { caFile, proxies });
  const config = { ...frontend.authorizationServer, timeout };
  const server = createAuthorizationServer(config, { caller, nowMs: Date.now, log: silentLog });
  try {
    if (!(await checkMetadata(server, check))) return;
    await checkKeys(() => server.keys, check);
    await checkLogin(server, frontend, caller, check);
  } finally {
    checkClock(caller, config.clockTolerance, check);
    await server.close();
  }
}

async function checkMetadata(server: AuthorizationServer, { key, report }: IssuerCheck): Promise<boolean> {
  try {
    const { code_challenge_methods_supported: methods } = (await server.configuration()).serverMetadata();
    const isOffered = Array.isArray(methods) && methods.includes('S256');
    const says = `the metadata is that of this issuer, ${isOffered ? 'with' : 'and is assumed to have'} PKCE S256`;
    report({ status: 'ok', key: `${key}.issuer`, says });
    return true;
  } catch (error) {
    report(tellIssuerFault(key, 'the metadata can’t be used', sortFault(error)));
    return false;
  }
}

/** That there are keys to verify signatures with; which one is needed only a token tells. */
export async function checkKeys(
  getKeys: () => KeySet | undefined | Promise<KeySet | undefined>,
  { key, report }: IssuerCheck,
): Promise<void> {
  const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid: madeUp() })).toString('base64url');
  try {
    await (await getKeys())?.verify(`${header}.e30.${madeUp()}`, {}, 'server');
  } catch (error) {
    // They were read for this token, and its key is not among them.
    if (error instanceof KeysUnavailableError && error.isUnknownKey)
      report({ status: 'ok', key: `${key}.issuer`, says: 'its signing keys can be read' });
    else report(tellIssuerFault(key, 'its signing keys can’t be read', sortFault(error)));
  }
}

async function checkLogin(
  server: AuthorizationServer,
  frontend: Frontend,
  caller: ClockedCaller,
  { key, report }: IssuerCheck,
): Promise<void> {
  const { config } = server;
  const redirectUri = redirectUriOf(frontend);
  const strength = loginStrength(config, {}) ?? { acrValues: [] };
  const started = await startAuthorization(server, redirectUri, {}, frontend.loginResources, strength);
  if (started.kind === 'unavailable') {
    report(tellIssuerFault(key, `a login with the redirect URI ${redirectUri} is refused`, started.fault, config));
    return;
  }
  const isPushed = new URL(started.url).searchParams.has('request_uri');
  if (isPushed) report(taken(key, redirectUri));
  else await checkAuthorizationEndpoint(started, redirectUri, caller, { key, report });
  await checkTokenEndpoint(server, started.request, redirectUri, { key, report });
}

function taken(key: string, redirectUri: string) {
  const says = `the client, its redirect URI ${redirectUri} and its scopes are taken`;
  return { status: 'ok', key: `${key}.clientId`, says } as const;
}

/** Without pushed requests: what would a browser be answered that nobody is logged in with (Core §3.1.2.6)? */
async function checkAuthorizationEndpoint(
  { url, request }: { url: string; request: AuthorizationRequest },
  redirectUri: string,
  caller: ClockedCaller,
  { key, report }: Pick<IssuerCheck, 'key' | 'report'>,
): Promise<void> {
  const silent = new URL(url);
  silent.searchParams.set('prompt', 'none');
  silent.searchParams.delete('response_mode'); // an answer in a redirect can be read
  const response = await caller.fetch(silent.href, { headers: { accept: 'text/html' } }).catch(() => undefined);
  const location = response?.headers.get('location') ?? '';
  if (!location.startsWith(`${redirectUri}?`)) {
    const came = response === undefined ? 'no answer' : `status ${response.status}`;
    report({
      status: 'warn',
      key: `${key}.clientId`,
      says: `the authorization endpoint does not come back to ${redirectUri} (${came})`,
      cure: 'register that as a redirect URI, exactly, and compare clientId; if both are right, log in once by hand: some servers answer prompt=none with a page',
    });
    return;
  }
  const answer = acceptAuthorizationResponse(request, new URL(location).searchParams);
  if (answer.kind === 'refused' && !needsUser.test(answer.error)) {
    const fault: Fault = { kind: 'misconfigured', code: answer.error, said: answer.said };
    report(tellIssuerFault(key, 'a login is refused', fault));
  } else if (answer.kind === 'invalid') {
    report({
      status: 'FAIL',
      key: `${key}.issuer`,
      says: `the authorization response is not one of this server: ${answer.reason}`,
      cure: 'look whether a proxy or another tenant answers; the metadata promises what the answer does not have',
    });
  } else report(taken(key, redirectUri));
}

/** The request is right; only nobody is logged in, or somebody must be asked. */
const needsUser = /^(login_required|interaction_required|consent_required|account_selection_required|access_denied)$/;

/** A code that was made up: whoever is told that it is no good is known by the server, and may redeem codes. */
async function checkTokenEndpoint(
  server: AuthorizationServer,
  request: AuthorizationRequest,
  redirectUri: string,
  { key, report }: Pick<IssuerCheck, 'key' | 'report'>,
): Promise<void> {
  const answer = new URLSearchParams({ code: madeUp(), state: request.state, iss: request.issuer });
  const redeemed = await redeemCode(server, request, redirectUri, answer);
  if (redeemed.kind !== 'failed') {
    report({
      status: 'FAIL',
      key: `${key}.issuer`,
      says: 'the token endpoint gave tokens for a code that was made up',
      cure: 'use another authorization server: this one lets anybody in',
    });
    return;
  }
  const { fault } = redeemed;
  if (fault.kind === 'rejected') {
    report({ status: 'ok', key: `${key}.clientId`, says: 'the token endpoint knows the client and its credentials' });
  } else if (fault.said?.error === 'invalid_request') {
    const finding = tellIssuerFault(key, 'the token endpoint does not say whether it knows the client', fault);
    report({ ...finding, status: 'warn', cure: 'log in once by hand: it may only object to a code that was made up' });
  } else report(tellIssuerFault(key, 'the token endpoint refuses the client', fault, server.config));
}

/** Tokens of a server whose clock differs are refused as old, or as not valid yet. */
function checkClock({ clockOffsets }: ClockedCaller, tolerance: number, { key, report }: IssuerCheck): void {
  const offset = clockOffsets.at(-1);
  if (offset === undefined) return;
  const by = `${Math.round(Math.abs(offset) / 1000)} s ${offset > 0 ? 'ahead of' : 'behind'} ours`;
  if (Math.abs(offset) <= tolerance)
    report({ status: 'ok', key: `${key}.clockTolerance`, says: `its clock is ${offset === 0 ? 'ours' : by}` });
  else
    report({
      status: 'warn',
      key: `${key}.clockTolerance`,
      says: `its clock is ${by}: its tokens will be refused as not valid`,
      cure: 'set both clocks by NTP; a larger clockTolerance is the second best',
    });
}

function madeUp(): string {
  return `check-${randomBytes(24).toString('base64url')}`;
}
