import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createContext, runInContext } from 'node:vm';
import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';
import type { Browser } from '../browser.ts';
import type { World } from '../world.ts';

/** What a page of the frontend has to reach its APIs with: for client libraries, which use nothing else. */
export interface ClientPage {
  /** Same-origin: with the cookies, `Origin` and Fetch metadata that no page can choose. Relative addresses too. */
  fetch: typeof globalThis.fetch;
  WebSocket: new (url: string | URL, protocols?: string | string[]) => WebSocket;
  EventSource: new (url: string | URL) => EventSource;
  location: { href: string; origin: string; host: string; pathname: string; assign(url: string): void };
  /** Where the page was sent: a browser would leave it there. */
  left: string[];
  /** The statuses that `fetch` and `EventSource` got, in order. */
  statuses: number[];
  /** The header lines that a browser adds by itself to what this page sends. */
  headers(method?: string): Record<string, string>;
}

/** A page in this browser, at `/app`. */
export function openPage(world: World, browser: Browser): ClientPage {
  const { origin } = world;
  const { host } = new URL(origin);
  const left: string[] = [];
  const statuses: number[] = [];
  const cookie = () =>
    browser
      .cookies()
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
  const headersOf = (method = 'GET'): Record<string, string> => ({
    cookie: cookie(),
    'sec-fetch-site': 'same-origin',
    ...(method === 'GET' || method === 'HEAD' ? {} : { origin }),
  });
  const fetchAsPage: typeof globalThis.fetch = async (input, init = {}) => {
    const headers = new Headers(init.headers);
    for (const [name, value] of Object.entries(headersOf(init.method))) headers.set(name, value);
    // A browser has nothing of this; Node's fetch takes them for what they are.
    const { referrer: _, ...rest } = init as RequestInit & { referrer?: unknown };
    const response = await fetch(new URL(String(input), origin), { ...rest, headers });
    statuses.push(response.status);
    const shown = JSON.stringify([...response.headers]);
    world.alsoSearch(`answer to a client: ${String(input)}`, shown);
    return response;
  };
  return {
    fetch: fetchAsPage,
    WebSocket: class extends WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(new URL(String(url), origin.replace('http', 'ws')), protocols ?? [], {
          headers: { cookie: cookie(), origin },
        });
      }
    },
    EventSource: class extends EventSource {
      constructor(url: string | URL) {
        super(new URL(String(url), origin), { fetch: fetchAsPage as never });
      }
    },
    location: {
      href: `${origin}/app`,
      origin,
      host,
      pathname: '/app',
      assign: (url) => void left.push(url),
    },
    left,
    statuses,
    headers: headersOf,
  };
}

/**
 * Loads the build of a library that a page gets with a script element, and returns the global that it makes. Nothing of
 * Node is there, so the library takes the ways that it takes in a browser.
 */
export function loadScript<T>(page: ClientPage, file: string, global: string): T {
  const { fetch, WebSocket, EventSource, location } = page;
  const document = {
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    // How a script resolves an address.
    createElement: () => ({
      set href(address: string) {
        Object.defineProperty(this, 'href', { value: new URL(address, location.href).href });
      },
    }),
  };
  const window = createContext({
    ...{ fetch, WebSocket, EventSource, location, document, console: { error() {}, warn() {}, info() {}, log() {} } },
    ...{ navigator: { userAgent: 'test' }, AbortController, URL, URLSearchParams, TextEncoder, TextDecoder },
    ...{ setTimeout, clearTimeout, setInterval, clearInterval },
  });
  Object.assign(window, { window, self: window });
  runInContext(readFileSync(createRequire(import.meta.url).resolve(file), 'utf8'), window, { filename: file });
  return window[global] as T;
}
