import { decodeProtectedHeader, errors } from 'jose';
import * as oidc from 'openid-client';
import type { Secret } from '../crypto/secret.ts';
import { CallFailedError } from '../issuer/call.ts';
import {
  difference,
  type Fault,
  faultOfStatus,
  KeysUnavailableError,
  saidIn,
  sortFault,
  UntrustedAnswerError,
} from '../issuer/faults.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { deepestClaim, isDeeperThan } from './id-token.ts';

export type UserInfoClaims = Record<string, unknown>;

/** What UserInfo said about the user of an access token. */
export type UserInfo =
  | { kind: 'claims'; claims: UserInfoClaims }
  /** About somebody else than the ID token, as is the access token then; or it does not say about whom (Core §5.3.2). */
  | { kind: 'foreign' | 'nameless'; fault: Fault & { reason: string } }
  | { kind: 'failed'; fault: Fault };

/**
 * Asks UserInfo about the user of this access token (Core §5.3): JSON or a signed JWT, about `subject` and nobody else.
 * Time and size are limited as for every call to the authorization server. Throws nothing.
 */
export async function askUserInfo(
  server: AuthorizationServer,
  accessToken: Secret,
  subject: string,
): Promise<UserInfo> {
  try {
    const response = await ask(server, accessToken);
    if (response.status !== 200) return { kind: 'failed', fault: told(await refusalOf(response)) };
    const claims = readClaims(await readAnswer(server, response));
    const { sub } = claims;
    if (sub === subject) return { kind: 'claims', claims };
    return typeof sub === 'string'
      ? { kind: 'foreign', fault: { kind: 'untrusted', reason: 'UserInfo: sub is not that of the ID token' } }
      : { kind: 'nameless', fault: { kind: 'untrusted', reason: 'UserInfo: no sub' } };
  } catch (error) {
    return { kind: 'failed', fault: told(sortFault(error)) };
  }
}

/** Says what the fault is about. */
function told(fault: Fault): Fault {
  return 'reason' in fault ? { ...fault, reason: `UserInfo: ${fault.reason}` } : fault;
}

/** With the token in the Authorization header, never in a URL (RFC 6750 §2). */
async function ask(server: AuthorizationServer, accessToken: Secret): Promise<Response> {
  const configuration = await server.configuration();
  // Not openid-client's fetchUserInfo: it verifies no signature of a JWT, and does not hand the JWT out.
  return oidc
    .fetchProtectedResource(
      configuration,
      accessToken.reveal(),
      new URL(configuration.serverMetadata().userinfo_endpoint ?? ''),
      'GET',
      undefined,
      new Headers({ accept: 'application/json, application/jwt' }),
    )
    .catch((error: unknown) => {
      if (error instanceof oidc.WWWAuthenticateChallengeError) return error.response;
      throw error;
    });
}

async function refusalOf(response: Response): Promise<Fault> {
  const { status, headers } = response;
  const challenge = headers.get('www-authenticate') ?? '';
  const body: unknown = await response.json().catch(() => undefined);
  const say = (name: 'error' | 'error_description') => {
    const inBody = (body as Record<string, unknown> | null | undefined)?.[name];
    return typeof inBody === 'string' ? inBody : new RegExp(`\\b${name}="?([^",]*)`).exec(challenge)?.[1];
  };
  const said = { status, ...saidIn(say('error') ?? '', say('error_description')) };
  return faultOfStatus(response, said, status === 401 || status === 403 ? 'userinfo-token' : undefined);
}

async function readAnswer(server: AuthorizationServer, response: Response): Promise<unknown> {
  const text = (await response.text()).trim();
  // The header of a JWT begins with `{"`, in base64url; some servers call it something else than application/jwt.
  if (isOfType(response, 'application/jwt') || /^eyJ[\w-]*\./.test(text)) return verifyJwt(server, text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UntrustedAnswerError('it is neither JSON nor a JWT', cause);
  }
}

function isOfType(response: Response, type: string): boolean {
  return response.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase() === type;
}

/** Signed by the issuer for this client: one that says neither could be a JWT that was made for something else. */
async function verifyJwt({ config, keys, nowMs }: AuthorizationServer, jwt: string): Promise<unknown> {
  if (jwt.split('.').length === 5)
    throw new UntrustedAnswerError('it is encrypted', undefined, { mistake: 'userinfo-encrypted' });
  const algorithms = config.idTokenSigningAlgorithms;
  const rules = {
    issuer: config.issuer,
    audience: config.clientId,
    algorithms,
    clockTolerance: config.clockTolerance / 1000,
    currentDate: new Date(nowMs()),
  };
  const { payload } = await keys.verify(jwt, rules, 'server').catch((error: unknown) => {
    if (error instanceof CallFailedError || error instanceof KeysUnavailableError) throw error;
    if (error instanceof errors.JOSEAlgNotAllowed)
      throw new UntrustedAnswerError('its JWT has an algorithm that is not taken', error, {
        mistake: 'userinfo-algorithm',
        ...difference(algorithms, decodeProtectedHeader(jwt).alg),
      });
    throw new UntrustedAnswerError(jwtFault(error), error);
  });
  return payload;
}

function jwtFault(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'its JWT has expired';
  if (error instanceof errors.JWTClaimValidationFailed) return `its JWT has no fitting ${error.claim}`;
  return error instanceof errors.JOSEError ? `its JWT: ${error.code}` : 'its JWT';
}

function readClaims(answer: unknown): UserInfoClaims {
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer))
    throw new UntrustedAnswerError('it is no JSON object');
  if (isDeeperThan(deepestClaim, answer)) throw new UntrustedAnswerError('its claims are nested too deeply');
  return answer as UserInfoClaims;
}
