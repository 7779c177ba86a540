/** Who causes a request: the user (address bar, bookmark), or a page by its origin. */
export type Initiator = 'user' | (string & {});

export type FetchSite = 'none' | 'same-origin' | 'same-site' | 'cross-site';

/** Scheme and registrable domain. The last two labels stand for the public suffix list; `app.localhost` is a site. */
export function siteOf(url: string): string {
  const { protocol, hostname } = new URL(url);
  const isAddress = /^[\d.]+$/.test(hostname) || hostname.startsWith('[');
  return `${protocol}//${isAddress ? hostname : hostname.split('.').slice(-2).join('.')}`;
}

export function isSameSite(a: string, b: string): boolean {
  return siteOf(a) === siteOf(b);
}

/** `Sec-Fetch-Site` of a request that went through all of `urls` (redirects included, the current one last). */
export function fetchSite(initiator: Initiator, urls: string[]): FetchSite {
  if (initiator === 'user') return 'none';
  const origin = new URL(initiator).origin;
  if (urls.every((url) => new URL(url).origin === origin)) return 'same-origin';
  return urls.every((url) => isSameSite(url, origin)) ? 'same-site' : 'cross-site';
}

/** Browsers treat loopback as secure: Secure cookies and fetch metadata work there over plain http. */
export function isTrustworthy(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || isLoopback(hostname);
}

export function isLoopback(hostname: string): boolean {
  return /^(localhost|.+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
}
