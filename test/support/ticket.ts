import { hashId } from '../../src/crypto/keys.ts';
import type { Browser } from './browser.ts';
import type { World } from './world.ts';

/** The value of the session cookie; empty when there is none. */
export function ticketOf(browser: Browser): string {
  return browser.cookie('cloakroom')?.value ?? '';
}

/** The secret half of the ticket, which nothing but the cookie may show. */
export function sessionIdOf(browser: Browser): string {
  return ticketOf(browser).split('.')[0] ?? '';
}

/** What the session is called in Redis. */
export function handleOf(browser: Browser): string {
  return hashId(sessionIdOf(browser));
}

/** The same session through another replica. */
export function onReplica(world: World, replica: number, browser: Browser): Browser {
  const other = world.browser(replica);
  other.setCookie(`cloakroom=${ticketOf(browser)}; Path=/`, { force: true });
  return other;
}
