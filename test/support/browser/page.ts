import type { HeaderLine } from '../raw-response.ts';

/** One exchange of a navigation or fetch. */
export interface Hop {
  method: string;
  url: string;
  status: number;
  /** As sent, names in lower case. */
  requestHeaders: Record<string, string>;
  /** In order, with the case received. */
  headers: HeaderLine[];
  location: string | undefined;
  setCookies: string[];
  /** Of the last exchange of a chain; redirects' bodies are drained. */
  body?: Buffer;
}

/** Where a navigation or fetch ended. */
export interface Page {
  url: string;
  status: number;
  headers: HeaderLine[];
  header(name: string): string | undefined;
  all(name: string): string[];
  bytes: Buffer;
  text: string;
  json<T = Record<string, unknown>>(): T;
  /** Every exchange, the last one included. */
  hops: Hop[];
  setCookies: string[];
  /** A redirect that was not followed because nothing we started lives there, such as `https://evil.example/`. */
  leftTo: string | undefined;
}

export function buildPage(hops: Hop[], bytes: Buffer, leftTo: string | undefined): Page {
  const last = hops.at(-1) as Hop;
  const all = (name: string) =>
    last.headers.filter(([each]) => each.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
  const text = bytes.toString('utf8');
  return {
    url: last.url,
    status: last.status,
    headers: last.headers,
    header: (name) => all(name)[0],
    all,
    bytes,
    text,
    json: <T>() => JSON.parse(text) as T,
    hops,
    setCookies: last.setCookies,
    leftTo,
  };
}

export interface Form {
  method: string;
  action: string;
  body: string;
}

/** The form of a page that submits itself (response_mode=form_post); `undefined` for any other page. */
export function findSelfSubmittingForm(html: string, pageUrl: string): Form | undefined {
  return /\.submit\(\)/.test(html) ? findForm(html, pageUrl) : undefined;
}

/** The first form of a page, with the values that its fields and its button have before anybody types. */
export function findForm(html: string, pageUrl: string): Form | undefined {
  const form = /<form\b([^>]*)>([\s\S]*?)<\/form>/i.exec(html);
  if (form === null) return undefined;
  const fields = new URLSearchParams();
  for (const [input] of (form[2] ?? '').matchAll(/<input\b[^>]*>/gi)) {
    const name = attribute(input, 'name');
    if (name !== undefined) fields.append(name, attribute(input, 'value') ?? '');
  }
  const action = new URL(attribute(form[1] ?? '', 'action') ?? pageUrl, pageUrl).href;
  return { method: (attribute(form[1] ?? '', 'method') ?? 'get').toUpperCase(), action, body: fields.toString() };
}

/** The target of `<meta http-equiv="refresh" content="0; url=...">`, which a browser follows as a new navigation. */
export function findMetaRefresh(html: string, pageUrl: string): string | undefined {
  const tag = /<meta\b[^>]*http-equiv=["']?refresh[^>]*>/i.exec(html)?.[0];
  const target = /url\s*=\s*['"]?([^'"]+)/i.exec(attribute(tag ?? '', 'content') ?? '')?.[1];
  return target === undefined ? undefined : new URL(target, pageUrl).href;
}

function attribute(tag: string, name: string): string | undefined {
  const match = new RegExp(`\\b${name}\\s*=\\s*("([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(tag);
  const value = match?.[2] ?? match?.[3] ?? match?.[4];
  return value
    ?.replaceAll('&quot;', '"')
    .replaceAll(/&#(\d+);/g, (_reference, code: string) => String.fromCodePoint(Number(code)))
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&#x2F;', '/')
    .replaceAll('&amp;', '&');
}
