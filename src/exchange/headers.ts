// What crosses the proxy, as allow-lists in both directions (PX3–PX8, PX15, PX20). Both functions are pure. A header
// that no list names does not cross; an API can add names in its configuration, but none that identifies somebody,
// frames a message, steers a cache or belongs to Cloakroom (the lists: config/schema/headers.ts).

import {
  isOriginWide,
  isReserved,
  isSteering,
  requestHeaders,
  responseHeaders,
  responseTrailers,
} from '../config/schema/headers.ts';
import { buildCachingHeaders } from './caching.ts';
import { markTag } from './entity-tags.ts';
import type { RewriteLinks } from './links.ts';

/** As nearly all clients write them, so that the usual name costs one look-up and no text of its own. */
const usualSpellings = new Map<string, string>();
for (const name of requestHeaders) {
  usualSpellings.set(name, name);
  usualSpellings.set(
    name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase()),
    name,
  );
}

/** Extra names of an API; a final `*` stands for any ending. */
export interface ExtraHeaders {
  names: Set<string>;
  prefixes: string[];
}

export function buildExtraHeaders(configured: string[]): ExtraHeaders {
  return {
    names: new Set(configured.filter((name) => !name.endsWith('*'))),
    prefixes: configured.filter((name) => name.endsWith('*')).map((name) => name.slice(0, -1)),
  };
}

/** A wildcard can't reach these, nor what is reserved. */
const neverByWildcard = new Set(['x-csrf', 'x-powered-by']);

function isExtra(name: string, { names, prefixes }: ExtraHeaders): boolean {
  if (names.size === 0 && prefixes.length === 0) return false;
  if (names.has(name)) return true;
  return prefixes.some((prefix) => name.startsWith(prefix)) && !neverByWildcard.has(name) && !isReserved(name);
}

export interface UpstreamHeaderOptions {
  extra: ExtraHeaders;
  hasBody: boolean;
  /** Set by us whatever the browser sent: names and values, flat. */
  replaced: string[];
}

/** The request headers for an upstream, flat, from Node's raw list. */
export function buildUpstreamHeaders(raw: string[], { extra, hasBody, replaced }: UpstreamHeaderOptions): string[] {
  const connectionNamed = connectionOptions(raw);
  const headers: string[] = [];
  for (let index = 0; index < raw.length; index += 2) {
    let name = usualSpellings.get(raw[index] as string);
    if (name === undefined) {
      name = (raw[index] as string).toLowerCase();
      // Compared exactly: X_Forwarded_User or x.user is on no list (T67).
      if (!requestHeaders.has(name) && !isExtra(name, extra)) continue;
    }
    if (connectionNamed?.has(name) === true) continue;
    if (!hasBody && (name === 'content-length' || name === 'content-type')) continue;
    headers.push(name, raw[index + 1] as string);
  }
  // Ours come last and are not in the lists above, so nothing that the browser names can strip or double them (PX4).
  for (const item of replaced) headers.push(item);
  return headers;
}

/** Header names that `Connection` headers make hop-by-hop (RFC 9110 §7.6.1). */
function connectionOptions(raw: string[]): Set<string> | undefined {
  let values = '';
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string;
    if (name.length !== 'connection'.length || name.toLowerCase() !== 'connection') continue;
    const value = raw[index + 1] as string;
    if (value !== 'keep-alive') values += `${value},`; // as nearly always
  }
  return values === '' ? undefined : namedBy(values);
}

function namedBy(connection: string): Set<string> | undefined {
  let named: Set<string> | undefined;
  for (const option of connection.toLowerCase().split(',')) {
    const name = option.trim();
    if (name === '' || name === 'keep-alive' || name === 'close') continue;
    named ??= new Set();
    named.add(name);
  }
  return named;
}

/** Headers of an answer as undici reads them: names in lower case, values as latin1, a list where a name came again. */
export type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

export interface BrowserHeaderOptions {
  extra: ExtraHeaders;
  /** Else answers are `no-store` (PX19). */
  cache: boolean;
  /** The request headers that say who calls, as `Vary` names them. */
  callerHeaders: readonly string[];
  rewriteLinks: RewriteLinks;
}

export interface Answered {
  method: string;
  status: number;
  /** Path and query that were asked for, as the API saw them. */
  path: string;
  /**
   * Where answers are cached: a mark of whom this one is for, whose session or token brought it, or that it is for guests.
   * `undefined` when anybody gets the same.
   */
  owner: string | undefined;
  /** An event stream, or another answer that may have no end. */
  isStream: boolean;
}

/** The response headers for the browser, flat. Cookies never cross: one could replace ours (S7). */
export function buildBrowserHeaders(
  answer: AnswerHeaders,
  options: BrowserHeaderOptions,
  answered: Answered,
): string[] {
  const { extra, cache, callerHeaders } = options;
  const { status, owner, isStream } = answered;
  const { connection } = answer;
  const connectionNamed =
    connection === undefined || connection === 'keep-alive' ? undefined : namedBy(String(connection));
  const headers: string[] = [];
  for (const name in answer) {
    if (!responseHeaders.has(name) && !isExtraAnswer(name, extra)) continue;
    if (cache && name === 'vary') continue; // with ours, below
    if (connectionNamed?.has(name) === true) continue;
    if (name === 'content-length' && status === 204) continue; // RFC 9110 §8.6
    const values = answer[name] ?? '';
    if (typeof values === 'string') addHeader(headers, name, values, options, answered);
    else for (const value of values) addHeader(headers, name, value, options, answered);
  }
  if (!cache) headers.push('cache-control', 'no-store');
  else {
    const linesOf = (name: string) => (connectionNamed?.has(name) === true ? undefined : answer[name]);
    headers.push(...buildCachingHeaders(linesOf, owner === undefined ? undefined : callerHeaders));
  }
  // Of nginx's own headers this one alone, and no value but this: a stream that is held back is none.
  if (isStream || isUnbuffered(answer['x-accel-buffering'])) headers.push('x-accel-buffering', 'no');
  // An upstream's own refusal stays one, and can be told from ours (ER4).
  if (status === 401 || status === 403) headers.push('proxy-status', `cloakroom; received-status=${status}`);
  return headers;
}

/** `cache: true` decides about caching, and no list of names; and no API speaks for the origin. */
function isExtraAnswer(name: string, extra: ExtraHeaders): boolean {
  return isExtra(name, extra) && !isSteering(name) && !isOriginWide(name);
}

function isUnbuffered(value: string | string[] | undefined): boolean {
  return value !== undefined && String(value).toLowerCase() === 'no';
}

function addHeader(
  headers: string[],
  name: string,
  value: string,
  { rewriteLinks }: BrowserHeaderOptions,
  answered: Answered,
): void {
  switch (name) {
    case 'location':
    case 'content-location':
    case 'link':
    case 'refresh':
      headers.push(name, rewriteLinks(name, value, answered));
      break;
    case 'etag':
      headers.push(name, answered.owner === undefined ? value : markTag(value, answered.owner));
      break;
    case 'www-authenticate':
      if (isTokenChallenge(value)) headers.push(name, value);
      break;
    default:
      headers.push(name, value);
  }
}

/** The trailers for the browser. `owner`: as of `Answered`. */
export function buildBrowserTrailers(
  answer: AnswerHeaders,
  extra: ExtraHeaders,
  owner: string | undefined,
): [string, string][] {
  const marked = (name: string, value: string) =>
    name === 'etag' && owner !== undefined ? markTag(value, owner) : value;
  return Object.entries(answer).flatMap(([name, values = []]) =>
    responseTrailers.has(name) || (isExtraAnswer(name, extra) && !responseHeaders.has(name))
      ? [values].flat().map((value): [string, string] => [name, marked(name, value)])
      : [],
  );
}

/** Basic, Negotiate and the like would make the browser ask its user for a password (T72). */
function isTokenChallenge(value: string): boolean {
  return /^(bearer|dpop)\b/i.test(value) && !/\b(basic|negotiate|ntlm|digest)\s+\S/i.test(value);
}
