import type { CrossProblem } from './document.ts';
import type { ApiConfig } from './schema/api.ts';
import type { BearerIssuerConfig } from './schema/bearer.ts';
import type { FrontendInput } from './schema/schema.ts';

/** What callers with a token of their own need of an API, of the issuers, and of both together. */
export function checkBearer(
  { apis, bearerIssuers, authorizationServer }: FrontendInput,
  path: PropertyKey[],
  problems: CrossProblem[],
): void {
  const issuers = Object.entries(bearerIssuers);
  for (const [name, api] of Object.entries(apis)) {
    if (api.accept.includes('bearer'))
      checkApi(
        api,
        issuers.map(([, issuer]) => issuer),
        [...path, 'apis', name],
        problems,
      );
  }
  issuers.forEach(([name, issuer], index) => {
    const at = (...keys: PropertyKey[]) => [...path, 'bearerIssuers', name, ...keys];
    const before = issuers.slice(0, index);
    const twin = before.find(([, other]) => other.issuer === issuer.issuer);
    if (twin !== undefined)
      problems.push({ path: at('issuer'), message: `is also that of ${twin[0]}: describe each issuer once` });
    const asked = before.find(([, other]) => other.introspection !== undefined);
    if (issuer.introspection !== undefined && asked !== undefined)
      problems.push({
        path: at('introspection'),
        message: `${asked[0]} has it already, and an opaque token does not say whose it is: keep one of the two`,
      });
    // What `bearer/issuer.ts` needs no metadata for.
    const { introspection, jwksUri } = issuer;
    if (
      issuer.metadataUrl !== undefined &&
      (introspection === undefined ? jwksUri : introspection.endpoint) !== undefined
    )
      problems.push({
        path: at('metadataUrl'),
        message: `has no effect, because ${introspection === undefined ? 'jwksUri' : 'introspection.endpoint'} says all that is needed: remove one of them`,
      });
    const isOwn = issuer.issuer === authorizationServer.issuer;
    // Nothing but the audience would tell the ID token of a login from an access token then.
    if (isOwn && issuer.types.includes('JWT') && issuer.audiences.includes(authorizationServer.clientId))
      problems.push({
        path: at('audiences'),
        message: `has the clientId of authorizationServer, so ID tokens would pass for access tokens: give the API an audience of its own, or leave JWT out of types`,
      });
  });
}

function checkApi(api: ApiConfig, issuers: BearerIssuerConfig[], path: PropertyKey[], problems: CrossProblem[]): void {
  const accept = [...path, 'accept'];
  if (issuers.length === 0)
    problems.push({
      path: accept,
      message: 'bearer needs an issuer to believe: add one under bearerIssuers, or remove bearer',
    });
  if (api.token !== 'user' && api.token !== 'none')
    problems.push({
      path: accept,
      message: `bearer does not go with token: ${api.token} yet, because a caller’s own token is passed on as it is and never turned into another: use token: user or none, or remove bearer`,
    });
  if (api.idTokenHeader !== undefined)
    problems.push({
      path: [...path, 'idTokenHeader'],
      message: 'a caller with a token of its own has no ID token: remove it, or bearer from accept',
    });
  if (api.token === 'none' && api.require === undefined && api.routes.length === 0)
    problems.push({
      path: accept,
      message:
        'has no effect on a public API (token: none without require): add require: {} to let in only who has a session or valid token, or remove accept',
    });
  const own = [api.resource, api.audience].filter((audience) => audience !== undefined);
  const isKnown = issuers.some(({ audiences }) => own.some((audience) => audiences.includes(audience)));
  if (own.length > 0 && issuers.length > 0 && !isKnown)
    problems.push({
      path: [...path, api.resource === undefined ? 'audience' : 'resource'],
      message: 'is no audience of any bearerIssuer: add it to the audiences of the one that makes tokens for this API',
    });
}

export function bearerWarnings(frontend: string, { apis, bearerIssuers }: FrontendInput): string[] {
  const warnings: string[] = [];
  const issuers = Object.entries(bearerIssuers);
  if (issuers.length > 0 && !Object.values(apis).some(({ accept }) => accept.includes('bearer')))
    warnings.push(`frontend ${frontend}: bearerIssuers has no effect, because no API has bearer in accept`);
  for (const [name, { issuer }] of issuers) {
    if (issuer.startsWith('http:'))
      warnings.push(`frontend ${frontend}: the bearer issuer ${name} is plain http on loopback: for development only`);
  }
  return warnings;
}
