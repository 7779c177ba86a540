import type { IncomingHttpHeaders } from 'node:http';
import { isLoopbackHost } from '../config/schema/values.ts';

/** Where a request comes from, by Fetch metadata; older browsers fall back to `Origin` and `Accept`. Pure. */

/**
 * A top-level document request: the only kind that may be answered with a page or a redirect (LG15). A service worker
 * that passes one on with `fetch(event.request)` loses what it was for: then the destination is empty (W35).
 */
export function isNavigation(headers: IncomingHttpHeaders): boolean {
  const mode = headers['sec-fetch-mode'];
  const destination = headers['sec-fetch-dest'];
  if (mode !== undefined) return mode === 'navigate' && (destination === 'document' || destination === 'empty');
  return headers['x-requested-with'] === undefined && (headers.accept ?? '').includes('text/html');
}

/**
 * May the page be the answer where no file has this path? To navigations, and to programs that say nothing of what they
 * want it for (link checkers, previews of chats), unless it looks like a file: a script tag never gets HTML (W59).
 */
export function admitsPage(headers: IncomingHttpHeaders, path: string): boolean {
  if (headers['sec-fetch-mode'] !== undefined || isNavigation(headers)) return isNavigation(headers);
  const { accept = '*/*', origin } = headers;
  const isProgramOfPage =
    headers['x-requested-with'] !== undefined || headers['x-csrf'] !== undefined || origin !== undefined;
  return !isProgramOfPage && /(^|,)\s*(\*|text)\/\*/.test(accept) && !/\.\w+$/.test(path);
}

/** A frame in a page. It is no navigation, whoever opened it. */
export function isFrame(headers: IncomingHttpHeaders): boolean {
  return headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'iframe';
}

/** Did a page of our own origin ask for it? For what is done only where the browser says so. */
export function isFromOwnPage(headers: IncomingHttpHeaders): boolean {
  return headers['sec-fetch-site'] === 'same-origin' && !isPrefetch(headers);
}

/** A browser that loads a page before anyone asked for it. */
export function isPrefetch(headers: IncomingHttpHeaders): boolean {
  return /prefetch|prerender/.test(`${String(headers['sec-purpose'] ?? '')} ${String(headers.purpose ?? '')}`);
}

export type CsrfMode = 'header' | 'origin';
export type CsrfFault = 'cross-site' | 'origin-unknown' | 'header-missing';

/**
 * The CSRF defence of a route that a cookie opens (CS1–CS3). A foreign page can neither forge Fetch metadata and
 * `Origin`, nor set a custom header without a preflight, which is never granted.
 */
export function csrfFault(
  method: string,
  headers: IncomingHttpHeaders,
  origin: string,
  mode: CsrfMode,
): CsrfFault | undefined {
  const site = headers['sec-fetch-site'];
  const sentOrigin = headers.origin;
  // What says "foreign" wins over what says "ours".
  if (sentOrigin !== undefined && sentOrigin !== origin) return 'cross-site';
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return 'cross-site';

  const isSameOrigin = site === 'same-origin' || (site === undefined && sentOrigin === origin);
  const hasHeader = headers['x-csrf'] === '1';
  // Reads need one proof, so that downloads, images and EventSource of our own pages work.
  if (method === 'GET' || method === 'HEAD') return isSameOrigin || hasHeader ? undefined : 'origin-unknown';
  if (!isSameOrigin) return 'origin-unknown';
  return mode === 'origin' || hasHeader ? undefined : 'header-missing';
}

/** For developers: what of this defence is missing, what came, and what is usually the reason. */
export function csrfDetail(
  fault: CsrfFault,
  method: string,
  { origin: sent, 'sec-fetch-site': site, 'x-csrf': csrf }: IncomingHttpHeaders,
  origin: string,
): string {
  if (fault === 'header-missing')
    return `x-csrf ${csrf === undefined ? 'is missing' : 'has another value'}, expected is "1".`;
  if (sent !== undefined && sent !== origin) return foreignOriginDetail(sent, origin);
  if (site !== undefined) {
    const word = /^[a-z-]{1,20}$/.test(site) ? `"${site}"` : 'no word of it';
    return `Sec-Fetch-Site is ${word}, expected is "same-origin".`;
  }
  return method === 'GET' || method === 'HEAD'
    ? `Origin, Sec-Fetch-Site and x-csrf are missing, expected is one of Origin: ${origin} and x-csrf: 1.`
    : `Origin and Sec-Fetch-Site are missing, expected is Origin: ${origin}.`;
}

/** What is told of an `Origin` that is not ours. Only what can be one is repeated. */
export function foreignOriginDetail(sent: string | undefined, origin: string): string {
  const expected = `expected is "${origin}".`;
  if (sent === undefined) return `Origin is missing, ${expected}`;
  if (!/^([a-z][a-z0-9+.-]*:\/\/[a-z0-9.:[\]_-]+|null)$/i.test(sent) || sent.length > 200)
    return `Origin is no origin, ${expected}`;
  const isLocal = [sent, origin].every((each) => URL.canParse(each) && isLoopbackHost(new URL(each).hostname));
  const hint =
    ' Behind a development server’s proxy publicUrl is the address in the browser, and the proxy leaves Host as it is (changeOrigin: false).';
  return `Origin is "${sent}", ${expected}${isLocal ? hint : ''}`;
}

/** May a login begin here? Our own pages, the address bar and bookmarks; not another site's image or frame (LG10, T7). */
export function isOwnStart(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  return (site === undefined || site === 'same-origin' || site === 'none') && !isPrefetch(headers);
}
