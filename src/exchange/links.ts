// Addresses in the headers of an answer (PX16). An API may know itself by its target's address, by ours (from
// `X-Forwarded-Host`), or by its path alone; and it may know of the path that is stripped in front of it, or not.

import type { Upstream } from '../upstream/upstreams.ts';

export interface LinkOptions {
  targets: readonly Pick<Upstream['targets'][number], 'origin'>[];
  /** Of the frontend. */
  origin: string;
  /** The API's path for browsers, and what stands in its place at the upstream. */
  prefix: string;
  rewritePath: string;
}

/** What was asked, as the API saw it (the path with its query), and the status of its answer. */
export interface Asked {
  method: string;
  path: string;
  status: number;
}

/** The value of a header with each address in it that is the API's own made one that browsers can follow. */
export type RewriteLinks = (name: string, value: string, asked: Asked) => string;

/**
 * What is missing in front of the path that the API gets to make it the browser's: `X-Forwarded-Prefix`. Undefined when
 * nothing is, and when `rewritePath` puts something else there: no prefix is true then, and APIs would build on it (W52).
 */
export function forwardedPrefix(prefix: string, rewritePath: string): string | undefined {
  const inside = insideOf(rewritePath);
  const stripped = prefix.endsWith(inside) ? prefix.slice(0, prefix.length - inside.length) : '';
  return stripped === '' || stripped === '/' ? undefined : stripped;
}

/** Pure: nothing that the API names as another place becomes ours, and nothing of ours another place (no open redirect). */
export function buildLinkRewriter({ targets, origin, prefix, rewritePath }: LinkOptions): RewriteLinks {
  const origins = targets.map((target) => target.origin);
  const isTarget = hostsOf(origins, true);
  const isOurs = hostsOf([origin], false);
  const base = origins[0];
  const inside = insideOf(rewritePath);
  const isTold = forwardedPrefix(prefix, rewritePath) !== undefined;

  /** Whether the address is taken at its word, although it is at our own and not under the API's path. */
  function leavesApi({ pathname, search }: URL, { method, path, status }: Asked, isRefresh: boolean): boolean {
    const isRedirect = status >= 300 && status <= 399;
    // Of what it made (201) or links to, an API names its own. Redirects lead users back to the SPA, too.
    if (!isRefresh && !isRedirect) return false;
    // Sent back to itself a GET would go round for ever: what has the same path in the SPA is meant.
    if (isRedirect && (method === 'GET' || method === 'HEAD') && path === `${pathname}${search}`) return true;
    if (inside !== '' && isWithin(pathname, inside)) return false;
    return withoutSlash(pathname) !== withoutSlash(path.split('?', 1)[0] as string); // a missing slash, another query
  }

  function rewrite(link: string, isLeaving: (url: URL) => boolean): string {
    const isAbsolute = /^([/\\]|[a-z][a-z0-9+.-]*:)/i.test(link);
    const ascii = asBytes(link);
    if (!isAbsolute || !URL.canParse(ascii, base)) return link;
    const url = new URL(ascii, base);
    const { pathname, search, hash } = url;
    const isAtOurs = isOurs(url) && !/^[/\\](?![/\\])/.test(link); // a path alone is at the target
    if (!isAtOurs && !isTarget(url)) return link;
    const isPublic = (isAtOurs || isTold) && prefix !== '' && isWithin(pathname, prefix);
    if (isAtOurs && !isPublic && isLeaving(url)) return link;
    const path = isPublic || !isWithin(pathname, inside) ? pathname : `${prefix}${pathname.slice(inside.length)}`;
    // One slash in front: a path that begins with two would be another host.
    return `${path.replace(/^\/*/, '/')}${search}${hash}`;
  }

  return (name, value, asked) => {
    switch (name) {
      case 'location':
        return rewrite(value, (url) => leavesApi(url, asked, false));
      case 'refresh':
        return value.replace(refresh, (_, before: string, quote: string, link: string) => {
          const end = quote === '' || !link.includes(quote) ? link.length : link.indexOf(quote);
          return `${before}${rewrite(link.slice(0, end), (url) => leavesApi(url, asked, true))}`;
        });
      case 'link':
        return value.replace(linkTarget, (all, link?: string) =>
          link === undefined ? all : `<${rewrite(link.trim(), () => false)}>`,
        );
      default:
        return rewrite(value, () => false);
    }
  };
}

/** `5; url=/x`, in all the ways that browsers take it (HTML, shared declarative refresh steps). */
const refresh = /^(\s*[\d.]+\s*[;,\s]\s*(?:url\s*=\s*)?)(["']?)(.*)$/i;

/** A target of a Link (RFC 8288 §3), or a quoted parameter, in which anything may stand. What has no end is read once. */
const linkTarget = /<([^<>]*)>|"(?:[^"\\]|\\.)*"?/g;

/** Headers are read as latin1, and hold UTF-8 as a rule: a URL of the text would be one of other bytes (RFC 9110 §5.5). */
function asBytes(link: string): string {
  return link.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}

function insideOf(rewritePath: string): string {
  return rewritePath === '/' ? '' : rewritePath;
}

function isWithin(pathname: string, path: string): boolean {
  return pathname === path || pathname.startsWith(`${path}/`);
}

function withoutSlash(path: string): string {
  return path.replace(/\/$/, '');
}

/**
 * Whether an address has the host and port of one of these, with either scheme. `isPortless`: or no port, from an API that
 * knows its name from elsewhere (W51).
 */
function hostsOf(origins: string[], isPortless: boolean): (url: URL) => boolean {
  const hosts = new Set(
    origins.flatMap((each) => {
      const { hostname, host, protocol, port } = new URL(each);
      const explicit = `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`;
      return isPortless ? [host, explicit, hostname] : [host, explicit];
    }),
  );
  return ({ protocol, host }) => hosts.has(host) && /^https?:$/.test(protocol);
}
