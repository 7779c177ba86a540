import { isBelow } from '../routing/request-path.ts';

/** Before and after encoding: it travels in a cookie, which may have 4096 bytes (LG11). */
const maximumLength = 2048;

/**
 * Accepts where a login or logout sends the browser afterwards: a path of our own origin, or the default (LG8). Every
 * advisory in this place came from a value that a browser reads otherwise than the server, so what is returned is what
 * `URL` made of it, in ASCII, checked once more.
 */
export function acceptReturnTo(value: unknown, origin: string, basePath = ''): string {
  const fallback = `${basePath}/`;
  if (typeof value !== 'string' || value.length > maximumLength || !isOwnPath(value)) return fallback;
  if (!URL.canParse(value, origin)) return fallback;
  const url = new URL(value, origin);
  const path = `${url.pathname}${url.search}${url.hash}`;
  if (url.origin !== origin || path.length > maximumLength || !isOwnPath(path)) return fallback;
  return isOwnEndpoint(url.pathname, basePath) ? fallback : path;
}

/** The same for a URL of our own origin too, as `target_link_uri` is one (OpenID Connect Core §4). */
export function acceptTarget(value: unknown, origin: string, basePath = ''): string {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined;
  const path = url?.origin === origin ? `${url.pathname}${url.search}${url.hash}` : value;
  return acceptReturnTo(path, origin, basePath);
}

/** Our own endpoints are no place to land: a login would loop, a logout would undo it (T6). */
function isOwnEndpoint(pathname: string, basePath: string): boolean {
  return isBelow(asRouted(pathname), `${basePath}/bff`);
}

/** A path as the router reads it. */
export function asRouted(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname; // what is not UTF-8 matches no route of ours
  }
}

function isOwnPath(value: string): boolean {
  return (
    /^\/(?![/\\])/.test(value) &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what browsers strip out of URLs
    !/[\x00-\x1f\x7f\\]/.test(value) &&
    !/%([01][0-9a-f]|7f|5c)/i.test(value) &&
    !/^\/%2f/i.test(value)
  );
}
