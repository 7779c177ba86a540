import type { Middleware } from 'koa';
import type Provider from 'oidc-provider';
import type { KoaContextWithOIDC } from 'oidc-provider';

/** One request at the token endpoint, without the secrets in it. */
export interface TokenRequest {
  /** `authorization_code`, `refresh_token`, or undefined when the request was too broken to tell. */
  grantType: string | undefined;
  clientId: string | undefined;
  /** The status the relying party is about to see. */
  status: number;
  /** The OAuth error code, such as `invalid_grant`. */
  error: string | undefined;
}

/** Shows each token request to the observer once the provider has dealt with it; see `onTokenRequest`. */
export function tokenRequestObserver(
  provider: Provider,
  observe: ((request: TokenRequest) => void | Promise<void>) | undefined,
): Middleware {
  const path = provider.pathFor('token');
  return async (ctx, next) => {
    await next();
    if (!observe || ctx.path !== path || ctx.method !== 'POST') return;
    // oidc-provider ran inside next() and left its own context on Koa's.
    const { oidc } = ctx as unknown as Partial<Pick<KoaContextWithOIDC, 'oidc'>>;
    const grantType = oidc?.params?.grant_type;
    const body: unknown = ctx.body;
    await observe({
      grantType: typeof grantType === 'string' ? grantType : undefined,
      clientId: oidc?.client?.clientId,
      status: ctx.status,
      error: isErrorBody(body) ? body.error : undefined,
    });
  };
}

function isErrorBody(body: unknown): body is { error: string } {
  return typeof body === 'object' && body !== null && 'error' in body && typeof body.error === 'string';
}
