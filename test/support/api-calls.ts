import type { Browser } from './browser.ts';
import type { World } from './world.ts';

const csrf = { headers: { 'x-csrf': '1' } };

/** The page calls the API. */
export function call(browser: Browser, signal?: AbortSignal) {
  return browser.fetch('/api/orders/1', { ...csrf, ...(signal ? { signal } : {}) });
}

/** The page asks for new tokens now. */
export function forceRefresh(browser: Browser) {
  return browser.fetch('/bff/refresh', { method: 'POST', ...csrf });
}

export function logOut(browser: Browser) {
  return browser.fetch('/bff/logout', { method: 'POST', ...csrf });
}

/** The bearer tokens that reached the API, in order. */
export function bearers(world: World): (string | undefined)[] {
  return world.upstream.requests.map((request) => request.header('authorization'));
}

export interface SessionView {
  authenticated: boolean;
  user: Record<string, unknown>;
  token: { expiresInSeconds: number; refreshable: boolean; scope: string };
}

export async function sessionOf(browser: Browser): Promise<SessionView> {
  return (await browser.fetch('/bff/session')).json<SessionView>();
}

/** A promise to hold an answer back with, and what lets it go. */
export function createGate(): { opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}
