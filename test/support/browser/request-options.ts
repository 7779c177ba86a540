import type { Initiator } from './sites.ts';

export type HeaderOverrides = Record<string, string | undefined>;

/** Objects are sent as JSON, URLSearchParams as a form. */
export type RequestBody = string | Buffer | URLSearchParams | Record<string, unknown>;

export interface NavigateOptions {
  /** Who caused it: `'user'` (default: address bar), or the origin of the page that did. */
  from?: Initiator;
  /** GET; POST is a form submission. */
  method?: string;
  body?: RequestBody;
  /** Override what the browser would send; `undefined` removes a header. */
  headers?: HeaderOverrides;
  /** Default true. */
  followRedirects?: boolean;
  /** Submit form_post pages, as their script would. Default true. */
  submitForms?: boolean;
  /** Default true. */
  followMetaRefresh?: boolean;
  signal?: AbortSignal;
}

export interface FetchOptions {
  /** GET. */
  method?: string;
  body?: RequestBody;
  headers?: HeaderOverrides;
  /** Origin of the page that calls `fetch`; the browser's own. */
  from?: string;
  mode?: 'cors' | 'no-cors' | 'same-origin';
  /** `empty`, or `image`, `document`, ... */
  destination?: string;
  /** Default: cookies travel as far as SameSite lets them. */
  credentials?: boolean;
  /** Default false: the redirect itself is the result. */
  followRedirects?: boolean;
  signal?: AbortSignal;
}

/** `preflight`: the OPTIONS a browser would send before `fetch`. `fetch` itself is sent without asking. */
export type CrossSiteKind = 'link' | 'form' | 'iframe' | 'image' | 'script' | 'prefetch' | 'fetch' | 'preflight';

export interface CrossSiteOptions {
  /** The attacker's page: `https://evil.example`. */
  from: string;
  /** `link`. */
  kind?: CrossSiteKind;
  /** POST for `form`, else GET; for `preflight` the method asked for. */
  method?: string;
  /** Forms default to urlencoded. */
  body?: RequestBody;
  /** For `preflight`: their names are asked for. */
  headers?: HeaderOverrides;
  /** Default false. */
  followRedirects?: boolean;
}

/** The bytes and the content type that a browser sends for a body. */
export function encodeBody(body: RequestBody | undefined): {
  bytes: string | Buffer | undefined;
  type: string | undefined;
} {
  if (body === undefined) return { bytes: undefined, type: undefined };
  if (Buffer.isBuffer(body)) return { bytes: body, type: undefined };
  if (typeof body === 'string') return { bytes: body, type: 'text/plain;charset=UTF-8' };
  if (body instanceof URLSearchParams) return { bytes: body.toString(), type: 'application/x-www-form-urlencoded' };
  return { bytes: JSON.stringify(body), type: 'application/json' };
}
