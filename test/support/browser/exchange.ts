import type { Readable } from 'node:stream';
import { request } from 'undici';
import type { HeaderLine } from '../raw-response.ts';
import type { CookieJar, RequestContext } from './cookie-jar.ts';
import type { Network } from './network.ts';
import type { Hop } from './page.ts';
import { fetchSite, type Initiator, isSameSite, isTrustworthy } from './sites.ts';

/** What kind of request the browser makes; decides fetch metadata and SameSite. */
export interface Purpose {
  /** `Sec-Fetch-Mode`. */
  mode: 'navigate' | 'cors' | 'no-cors' | 'same-origin' | 'websocket';
  /** `Sec-Fetch-Dest`. */
  destination: string;
  /** A navigation of the whole tab, not of a frame. */
  topLevel: boolean;
  initiator: Initiator;
  /** False: neither sends nor stores cookies (`credentials: 'omit'`). */
  credentials: boolean;
}

export interface ExchangeInput {
  method: string;
  url: string;
  /** Added last: overrides what the browser would send; `undefined` removes. */
  headers: Record<string, string | undefined>;
  body: string | Buffer | undefined;
  purpose: Purpose;
  /** URLs of the chain before this one. */
  before: string[];
  signal: AbortSignal | undefined;
}

export interface Exchanged {
  hop: Hop;
  stream: Readable;
}

export interface Wire {
  jar: CookieJar;
  network: Network;
  /** False: an old browser without `Sec-Fetch-*`. */
  fetchMetadata: boolean;
  headers: Record<string, string>;
}

/** Sends one request as a browser does and stores the cookies of the answer. Follows nothing. */
export async function exchange(wire: Wire, input: ExchangeInput): Promise<Exchanged> {
  const { method, url, body, purpose, before, signal } = input;
  const urls = [...before, url];
  const context = contextOf(purpose, urls, method);
  const sent = definedHeaders({
    'user-agent': 'Mozilla/5.0 (test browser)',
    accept: purpose.mode === 'navigate' ? 'text/html,application/xhtml+xml,*/*;q=0.8' : '*/*',
    ...wire.headers,
    cookie: purpose.credentials ? cookieHeader(wire.jar, url, context) : undefined,
    origin: originHeader(purpose, urls, method),
    ...(wire.fetchMetadata && isTrustworthy(url) ? metadata(purpose, urls) : {}),
    ...lowerCased(input.headers),
  });
  const answer = await request(url, {
    method: method as 'GET',
    headers: sent,
    body: body ?? null,
    dispatcher: wire.network.dispatcher,
    responseHeaders: 'raw',
    ...(signal ? { signal } : {}),
  });
  const headers = pairs(answer.headers as unknown as string[]);
  const values = (name: string) => headers.filter(([each]) => each.toLowerCase() === name).map(([, value]) => value);
  const setCookies = values('set-cookie');
  if (purpose.credentials) for (const header of setCookies) wire.jar.store(header, url, context);
  if (isTrustworthy(url) && /"(cookies|\*)"/.test(values('clear-site-data').join())) wire.jar.clear(url);
  const hop: Hop = {
    method,
    url,
    status: answer.statusCode,
    requestHeaders: sent,
    headers,
    location: values('location')[0],
    setCookies,
  };
  return { hop, stream: answer.body };
}

function contextOf(purpose: Purpose, urls: string[], method: string): RequestContext {
  const { initiator, topLevel, mode } = purpose;
  const start = initiator === 'user' ? (urls[0] as string) : initiator;
  return {
    sameSite: urls.every((url) => isSameSite(url, start)),
    topLevel: topLevel && mode === 'navigate',
    safeNavigation: topLevel && mode === 'navigate' && /^(GET|HEAD)$/.test(method),
  };
}

function cookieHeader(jar: CookieJar, url: string, context: RequestContext): string | undefined {
  const pair = ({ name, value }: { name: string; value: string }) => (name === '' ? value : `${name}=${value}`);
  return jar.matching(url, context).map(pair).join('; ') || undefined;
}

/** `Origin` goes with unsafe methods and with every cross-origin CORS request; a cross-origin redirect makes it null. */
function originHeader({ initiator, mode }: Purpose, urls: string[], method: string): string | undefined {
  if (initiator === 'user') return /^(GET|HEAD)$/.test(method) ? undefined : 'null';
  const { origin } = new URL(initiator);
  const foreign = urls.filter((url) => new URL(url).origin !== origin);
  const isUnsafe = !/^(GET|HEAD)$/.test(method);
  if (!isUnsafe && !(mode === 'cors' && foreign.length > 0) && mode !== 'websocket') return undefined;
  // Fetch standard, redirect-tainted origin: a foreign server sent the request on to yet another origin.
  const origins = urls.map((url) => new URL(url).origin);
  const tainted = origins.some(
    (each, index) => index > 0 && each !== origins[index - 1] && origins[index - 1] !== origin,
  );
  return tainted ? 'null' : origin;
}

function metadata({ mode, destination, topLevel, initiator }: Purpose, urls: string[]): Record<string, string> {
  const user: Record<string, string> = topLevel && mode === 'navigate' ? { 'sec-fetch-user': '?1' } : {};
  return {
    'sec-fetch-site': fetchSite(initiator, urls),
    'sec-fetch-mode': mode,
    'sec-fetch-dest': destination,
    ...user,
  };
}

function pairs(flat: string[]): HeaderLine[] {
  return flat.flatMap((name, index): HeaderLine[] => (index % 2 === 0 ? [[name, flat[index + 1] ?? '']] : []));
}

function lowerCased(headers: Record<string, string | undefined>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function definedHeaders(headers: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
