import type { Page } from './browser/page.ts';
import type { NavigateOptions } from './browser/request-options.ts';
import type { Browser } from './browser.ts';

/** A login that stands at the authorization server: what the attacks on its way back need. */
export interface PendingLogin {
  /** The authorization request that the browser was sent to. */
  authorizationUrl: URL;
  /** The authorization response, not yet delivered. */
  callbackUrl: string;
}

/** The page starts a login and the browser is held before the redirect. */
export async function startLogin(browser: Browser, returnTo = '/', path = '/bff/login'): Promise<URL> {
  const query = `${path.includes('?') ? '&' : '?'}return_to=${encodeURIComponent(returnTo)}`;
  const page = await browser.navigate(path + query, {
    from: browser.origin,
    followRedirects: false,
  });
  const location = page.header('location');
  if (page.status !== 303 || location === undefined)
    throw new Error(`login did not start: ${page.status} ${page.text}`);
  return new URL(location);
}

/** The user logs in at the authorization server; the answer is held before it reaches the browser. */
export async function answerOf(authorizationUrl: URL | string): Promise<string> {
  const response = await fetch(authorizationUrl, { redirect: 'manual' });
  await response.arrayBuffer();
  const location = response.headers.get('location');
  if (location === null) throw new Error(`no authorization response: ${response.status}`);
  return location;
}

export async function pendingLogin(browser: Browser, returnTo = '/', path = '/bff/login'): Promise<PendingLogin> {
  const authorizationUrl = await startLogin(browser, returnTo, path);
  return { authorizationUrl, callbackUrl: await answerOf(authorizationUrl) };
}

/** The authorization server sends the browser to this URL; what Cloakroom answers is the result. */
export function deliver(browser: Browser, callbackUrl: string, options: NavigateOptions = {}) {
  return browser.navigate(callbackUrl, { from: 'http://127.0.0.1', followRedirects: false, ...options });
}

/** A URL with some of its query parameters replaced, or removed with `null`. */
export function withParameters(url: string | URL, changes: Record<string, string | null>): string {
  const changed = new URL(url);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) changed.searchParams.delete(name);
    else changed.searchParams.set(name, value);
  }
  return changed.href;
}

export async function isLoggedIn(browser: Browser, path = '/bff/session'): Promise<boolean> {
  return (await browser.fetch(path)).json<{ authenticated: boolean }>().authenticated;
}

/** Who the browser is logged in as. */
export async function userOf(browser: Browser, path = '/bff/session'): Promise<string | undefined> {
  return (await browser.fetch(path)).json<{ user?: { sub: string } }>().user?.sub;
}

/** Where an error page leads by itself. */
export function leadsTo(page: Page): string | undefined {
  return /^0; url=(.+)$/.exec(page.header('refresh') ?? '')?.[1];
}

/** Where "Start again" on an error page leads. */
export function startAgainOf(page: Page): string | undefined {
  return /<a href="([^"]*)">Start again</.exec(page.text)?.[1]?.replaceAll('&#38;', '&');
}
