import type { Api, Frontend } from '../config/config.ts';
import type { AttachedToken } from '../tokens/token-set.ts';
import { buildExtraHeaders, buildUpstreamHeaders } from './headers.ts';
import { forwardedPrefix } from './links.ts';

/** A request as it arrived, as far as its headers for the upstream depend on it. */
export interface Arrived {
  /** Names and values in turn. */
  rawHeaders: string[];
  via: string | undefined;
  /** Of the browser, without a port. */
  clientAddress: string;
  id: string;
  hasBody: boolean;
}

/** The headers of an API’s requests, flat: what may pass of the browser’s, and ours. */
export function buildHeadersFor(frontend: Frontend, api: Api, pseudonym: string) {
  const extra = buildExtraHeaders(api.forwardHeaders);
  const scheme = frontend.isSecure ? 'https' : 'http';
  const idTokenHeader = api.idTokenHeader ?? 'id-token';
  const ownVia = `1.1 ${pseudonym}`;
  const prefix = forwardedPrefix(`${frontend.basePath}${api.path}`, api.rewritePath);
  // As from a page of its own: webpack’s refuses WebSockets without, and every one those of strangers.
  const ownOrigin = api === frontend.devServer ? api.upstream[0] : undefined;
  return (
    { rawHeaders, via, clientAddress, id, hasBody }: Arrived,
    token: Pick<AttachedToken, 'accessToken' | 'idToken'> | undefined,
  ): string[] => {
    const replaced = [
      'x-forwarded-for',
      clientAddress,
      'x-forwarded-host',
      frontend.host,
      'x-forwarded-proto',
      scheme,
      'x-request-id',
      id,
      'via',
      via === undefined ? ownVia : `${via}, ${ownVia}`,
    ];
    if (prefix !== undefined) replaced.push('x-forwarded-prefix', prefix);
    if (ownOrigin !== undefined) replaced.push('origin', ownOrigin);
    if (token !== undefined) replaced.push('authorization', `Bearer ${token.accessToken.reveal()}`);
    if (token?.idToken !== undefined) replaced.push(idTokenHeader, token.idToken.reveal());
    return buildUpstreamHeaders(rawHeaders, { extra, hasBody, replaced });
  };
}

/** The path that the upstream gets, for what is below the API’s own. No path is no request target. */
export function upstreamPath({ rewritePath }: Api, below: string): string {
  return `${rewritePath === '/' ? '' : rewritePath}${below}` || '/';
}
