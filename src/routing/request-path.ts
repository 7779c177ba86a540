/** Plain characters of a path (RFC 3986 §3.3), as nearly all requests have them: no further look is needed. */
const plainPath = /^(?:\/[\w.~!$&'()*+,;=:@-]*)+$/;

/**
 * What is wrong with a request target, or `undefined` if it means one thing to everybody. The same string is matched
 * and sent, so a path that routers, proxies and upstreams read differently is refused (PX2, S3–S5, T77–T79).
 */
export function targetFault(target: string): string | undefined {
  const queryAt = target.indexOf('?');
  const path = queryAt === -1 ? target : target.slice(0, queryAt);
  if (!path.startsWith('/')) return 'not an absolute path';
  if (queryAt !== -1 && /[^\x21-\x7e]|#/.test(target))
    return 'a fragment, space, control or non-ASCII character in the query';
  // To those that drop parameters, /;x/admin is //admin, and that is /admin.
  if (path.includes('//') || path.includes('/;')) return 'an empty segment';
  if (plainPath.test(path)) return /\/\.\.?[/;]|\/\.\.?$/.test(path) ? 'a dot segment' : undefined;

  if (/[^\x21-\x7e]|[#\\]/.test(path)) return 'a fragment, backslash, space, control or non-ASCII character';
  if (/%(?![0-9a-f]{2})/i.test(path)) return 'a malformed escape';
  if (/%(2f|5c|[01][0-9a-f]|7f)/i.test(path)) return 'an encoded slash, backslash or control character';
  if (/\/%3b/i.test(path)) return 'an empty segment';
  // To whom a proxy sends what it decoded, the path ends at %3f and %23.
  if (/\/(\.|%2e){1,2}(?=[/;]|%(3b|3f|23)|$)/i.test(path)) return 'a dot segment';
  try {
    // Whoever decodes twice would find what was refused above: %252e, and also %25%32%65.
    return /%[0-9a-f]{2}/i.test(decodeURIComponent(path)) ? 'a doubly encoded character' : undefined;
  } catch {
    return 'not UTF-8';
  }
}

/**
 * A target whose path no router can decode (`/caf%E9`, `/50%`) would be answered by Fastify itself, before any hook. Each
 * percent sign becomes one that stands for itself even when it is decoded twice: routers take that, and no API does (W59).
 */
export function asRoutable(target: string): string {
  if (!target.includes('%')) return target;
  const queryAt = target.indexOf('?');
  const path = queryAt === -1 ? target : target.slice(0, queryAt);
  try {
    decodeURI(path);
    return target;
  } catch {
    return path.replaceAll('%', '%2525') + (queryAt === -1 ? '' : target.slice(queryAt));
  }
}

/** `[host, path]` of an absolute-form target (RFC 9112 §3.2.2): its authority, without its scheme's own port, replaces the Host header. */
export function splitAbsoluteForm(target: string): [string, string] | undefined {
  const match = /^(?:http:\/\/([^/?#@\\]+?)(?::80)?|https:\/\/([^/?#@\\]+?)(?::443)?)(\/.*)?$/is.exec(target);
  const host = match?.[1] ?? match?.[2];
  return host === undefined ? undefined : [host, match?.[3] ?? '/'];
}

/**
 * All that may stand in a Host header for this host. A default port may be written, left out or empty (RFC 9110 §4.2.3,
 * RFC 3986 §3.2.3), and some balancers write it; any other port is another place.
 *
 * @param host in lower case, as a URL has it.
 */
export function hostSpellings(host: string, defaultPorts: number[]): string[] {
  const written = defaultPorts.map((port) => `:${port}`);
  const own = written.find((port) => host.endsWith(port));
  const bare = own === undefined ? host : host.slice(0, -own.length);
  return /:\d+$/.test(bare) ? [host] : [bare, ...written.map((port) => bare + port), `${bare}:`];
}

/** Is the path of a target this one, or below it? Literally and on whole segments. */
export function isBelow(target: string, prefix: string): boolean {
  const next = target.charAt(prefix.length);
  return target.startsWith(prefix) && (next === '' || next === '/' || next === '?');
}

/** What is left of a request target below the API's prefix, without the query. */
export function pathBelow(prefix: string, target: string): string {
  const queryAt = target.indexOf('?');
  return target.slice(prefix.length, queryAt === -1 ? undefined : queryAt);
}

/** The query of a request target, without the question mark. */
export function queryOf(target: string): string {
  const queryAt = target.indexOf('?');
  return queryAt === -1 ? '' : target.slice(queryAt + 1);
}
