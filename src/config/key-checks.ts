import { isSameKey } from '../crypto/keys.ts';
import { Secret } from '../crypto/secret.ts';
import type { CrossProblem } from './document.ts';
import { readUrl } from './redis.ts';
import type { AuthorizationServerConfig } from './schema/authorization-server.ts';
import type { ConfigInput, FrontendInput } from './schema/schema.ts';

/** That what its method needs is there, and nothing that it has no use for. */
export function checkClientAuthentication(
  server: AuthorizationServerConfig,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  const method =
    server.clientAuthentication ?? (server.privateKey === undefined ? 'client_secret_basic' : 'private_key_jwt');
  const needed = method === 'private_key_jwt' ? 'privateKey' : 'clientSecret';
  if (server[needed] === undefined) {
    problems.push({ path: [...path, needed], message: `is required for ${method}: add it, best as \${file:PATH}` });
  }
  if (server.clientAssertionAudience !== 'issuer' && !method.endsWith('_jwt')) {
    problems.push({
      path: [...path, 'clientAssertionAudience'],
      message: `has no effect with ${method}, which makes no assertion: remove it, or set clientAuthentication`,
    });
  }
}

interface Known {
  path: PropertyKey[];
  secret: Secret;
}

/**
 * One key, one purpose. What opens every session must not also stand in a proxy's configuration, in an operator's
 * script or with the authorization server. Compared as bytes: the same key may be written in hex and in base64url.
 */
export function checkKeysApart(
  { session, ops }: ConfigInput,
  frontends: { path: PropertyKey[]; input: FrontendInput }[],
  problems: CrossProblem[],
): void {
  // A key that comes later in this list is refused when it is one of those before.
  const keys: Known[] = session.keys.map((secret, index) => ({ path: ['session', 'keys', index], secret }));
  keys.forEach(({ path, secret }, index) => {
    const twin = twinOf(secret, keys.slice(0, index));
    if (twin !== undefined) problems.push({ path, message: `is ${nameOf(twin)} once more: remove one of them` });
  });
  if (ops.adminKey !== undefined)
    keys.push(...checked({ path: ['ops', 'adminKey'], secret: ops.adminKey }, keys, problems));
  // Frontends behind one proxy may share its key; it is compared with all keys of other purposes.
  const others = [...keys];
  for (const { path, input } of frontends)
    if (input.forwardAuth !== undefined)
      keys.push(...checked({ path: [...path, 'forwardAuth', 'key'], secret: input.forwardAuth.key }, others, problems));
  for (const secret of [...redisSecrets(session), ...frontends.flatMap(clientSecrets)]) checked(secret, keys, problems);
}

/** Itself, after it was compared with the keys. */
function checked(known: Known, keys: Known[], problems: CrossProblem[]): [Known] {
  const twin = twinOf(known.secret, keys);
  if (twin !== undefined)
    problems.push({
      path: known.path,
      message: `is ${nameOf(twin)} too: use a secret of its own (for keys of Cloakroom: "cloakroom keygen")`,
    });
  return [known];
}

function twinOf(secret: Secret, keys: Known[]): Known | undefined {
  return keys.find((key) => isSameKey(key.secret, secret));
}

function redisSecrets({ redis }: ConfigInput['session']): Known[] {
  const path = ['session', 'redis'];
  return present([
    { path: [...path, 'url'], secret: readUrl(redis?.url ?? '')?.credentials.password },
    { path: [...path, 'password'], secret: redis?.password },
    { path: [...path, 'sentinel', 'password'], secret: redis?.sentinel?.password },
  ]);
}

/** What is sent to authorization servers; extra parameters go there through every browser. */
function clientSecrets({ path, input }: { path: PropertyKey[]; input: FrontendInput }): Known[] {
  const { clientSecret, extraParameters, extraLogoutParameters } = input.authorizationServer;
  const fixed = { extraParameters, extraLogoutParameters };
  return present([
    { path: [...path, 'authorizationServer', 'clientSecret'], secret: clientSecret },
    ...Object.entries(fixed).flatMap(([key, parameters]) =>
      Object.entries(parameters).map(([name, value]) => ({
        path: [...path, 'authorizationServer', key, name],
        secret: new Secret(value),
      })),
    ),
    ...Object.entries(input.bearerIssuers).map(([name, { introspection }]) => ({
      path: [...path, 'bearerIssuers', name, 'introspection', 'clientSecret'],
      secret: introspection?.clientSecret,
    })),
  ]);
}

function present(secrets: { path: PropertyKey[]; secret: Secret | undefined }[]): Known[] {
  return secrets.flatMap(({ path, secret }) => (secret === undefined ? [] : [{ path, secret }]));
}

function nameOf({ path }: Known): string {
  return path.map(String).join('.');
}
