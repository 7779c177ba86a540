// What crosses the proxy, as allow-lists in both directions (PX3–PX8, PX15, PX20). Both functions are pure. A header
// that no list names does not cross; an API can add names in its configuration, but none that identifies somebody,
// frames a message, steers a cache or belongs to Cloakroom (config/schema/reserved-headers.ts).

import { isSteering } from '../config/schema/reserved-headers.ts';
import { buildCachingHeaders } from './caching.ts';
import { markTag } from './entity-tags.ts';

/** Request headers that are passed on. */
const requestHeaders = new Set([
  'accept',
  'accept-charset',
  'accept-encoding',
  'accept-language',
  'cache-control',
  'content-digest',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-type',
  'date',
  'digest',
  'idempotency-key',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'last-event-id',
  'pragma',
  'prefer',
  'priority',
  'range',
  'repr-digest',
  'save-data',
  'slug',
  'soapaction',
  'user-agent',
  'x-requested-with',
  // W3C Trace Context and Baggage
  'traceparent',
  'tracestate',
  'baggage',
]);

/** Response headers that are passed back. */
const responseHeaders = new Set([
  'accept-patch',
  'accept-post',
  'accept-ranges',
  'allow',
  'content-digest',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-location',
  'content-range',
  'content-security-policy',
  'content-type',
  'date',
  'deprecation',
  'digest',
  'etag',
  'last-modified',
  'link',
  'location',
  'preference-applied',
  'ratelimit',
  'ratelimit-limit',
  'ratelimit-policy',
  'ratelimit-remaining',
  'ratelimit-reset',
  'repr-digest',
  'retry-after',
  'server-timing',
  'sunset',
  'traceresponse',
  'vary',
  'warning',
  'www-authenticate',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
]);

/** Trailers that are passed back; a trailer must not do what only a header may (RFC 9110 §6.5.1). */
const responseTrailers = new Set(['content-digest', 'digest', 'repr-digest', 'etag', 'server-timing']);

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

/** A wildcard can't reach these, however it is written. */
const neverByWildcard =
  /^(authorization|cookie|host$|connection|content-length|expect|te$|trailer|transfer-|upgrade|via$|forwarded|dpop|x-forwarded|x-original|x-real|x-http-method|x-request-id|x-csrf|proxy-|access-control-|sec-|set-cookie|x-powered-by)/;

function isExtra(name: string, { names, prefixes }: ExtraHeaders): boolean {
  if (names.size === 0 && prefixes.length === 0) return false;
  return names.has(name) || (prefixes.some((prefix) => name.startsWith(prefix)) && !neverByWildcard.test(name));
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
    const name = (raw[index] as string).toLowerCase();
    // Compared exactly: X_Forwarded_User or x.user is on no list (T67).
    if (!requestHeaders.has(name) && !isExtra(name, extra)) continue;
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
  /** Turns a Location that points at the upstream into one that browsers can follow. */
  rewriteLocation: (location: string) => string;
}

export interface Answered {
  status: number;
  /**
   * Where answers are cached: a mark of whom this one is for, whose session or token brought it, or that it is for guests.
   * `undefined` when anybody gets the same.
   */
  owner: string | undefined;
  /** An event stream. */
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
    if (typeof values === 'string') addHeader(headers, name, values, options, owner);
    else for (const value of values) addHeader(headers, name, value, options, owner);
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

/** `cache: true` decides about caching, and no list of names. */
function isExtraAnswer(name: string, extra: ExtraHeaders): boolean {
  return isExtra(name, extra) && !isSteering(name);
}

function isUnbuffered(value: string | string[] | undefined): boolean {
  return value !== undefined && String(value).toLowerCase() === 'no';
}

function addHeader(
  headers: string[],
  name: string,
  value: string,
  { rewriteLocation }: BrowserHeaderOptions,
  owner: string | undefined,
): void {
  if (name === 'www-authenticate' && !isTokenChallenge(value)) return;
  if (name === 'location') headers.push(name, rewriteLocation(value));
  else if (name === 'etag' && owner !== undefined) headers.push(name, markTag(value, owner));
  else headers.push(name, value);
}

/** The trailers for the browser. */
export function buildBrowserTrailers(answer: AnswerHeaders, extra: ExtraHeaders): [string, string][] {
  return Object.entries(answer).flatMap(([name, values = []]) =>
    responseTrailers.has(name) || (isExtraAnswer(name, extra) && !responseHeaders.has(name))
      ? [values].flat().map((value): [string, string] => [name, value])
      : [],
  );
}

/** Basic, Negotiate and the like would make the browser ask its user for a password (T72). */
function isTokenChallenge(value: string): boolean {
  return /^(bearer|dpop)\b/i.test(value) && !/\b(basic|negotiate|ntlm|digest)\s+\S/i.test(value);
}
