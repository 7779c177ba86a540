import { type Cookie, type CookieJar, createCookieJar, type RejectedCookie } from './browser/cookie-jar.ts';
import { type Exchanged, exchange, type Purpose, type Wire } from './browser/exchange.ts';
import { foreignRequest } from './browser/foreign-request.ts';
import { createNetwork, type Resolve } from './browser/network.ts';
import { buildPage, findMetaRefresh, findSelfSubmittingForm, type Hop, type Page } from './browser/page.ts';
import {
  type CrossSiteOptions,
  encodeBody,
  type FetchOptions,
  type HeaderOverrides,
  type NavigateOptions,
} from './browser/request-options.ts';
import { buildStreamedPage, type StreamedPage } from './browser/streamed-page.ts';

export interface BrowserOptions {
  /** Origin of the SPA: base of relative URLs, initiator of `fetch` and `login`. */
  origin: string;
  /** Where that origin really is, when it is not on loopback under its own port. */
  connectTo?: string;
  /** Where other hosts are. `localhost`, `*.localhost` and 127.0.0.1 need no entry; any other host is never reached. */
  resolve?: Resolve;
  /** Trusted authority for https. */
  ca?: string;
  /** Epoch milliseconds, for cookie lifetimes. */
  now?: () => number;
  /** False: no `Sec-Fetch-*` headers. */
  fetchMetadata?: boolean;
  /** On every request (an outer proxy's `x-forwarded-proto`, for instance). */
  headers?: Record<string, string>;
  /** On every `fetch`: `{ 'x-csrf': '1' }`. */
  fetchHeaders?: Record<string, string>;
  /** `/bff/login`. */
  loginPath?: string;
}

/** A browser with a cookie jar over real HTTP. */
export interface Browser {
  origin: string;
  /** Opens a page in the tab: follows redirects, submits form_post pages. */
  navigate(target: string, options?: NavigateOptions): Promise<Page>;
  /** The SPA calls `fetch`. */
  fetch(target: string, options?: FetchOptions): Promise<Page>;
  /** As `fetch`, but returns once the head arrived. */
  open(target: string, options?: FetchOptions): Promise<StreamedPage>;
  /** A foreign page causes a request in this browser. */
  crossSite(target: string, options: CrossSiteOptions): Promise<Page>;
  /** The SPA starts the login; ends where the browser lands. */
  login(returnTo?: string, options?: NavigateOptions): Promise<Page>;
  /** Cookies for a URL (of our origin). */
  cookies(url?: string): Cookie[];
  cookie(name: string, url?: string): Cookie | undefined;
  allCookies(): Cookie[];
  /** As if `url` had answered with this Set-Cookie header; `force` skips all checks. */
  setCookie(header: string, options?: { url?: string; force?: boolean }): void;
  clearCookies(): void;
  /** Set-Cookie headers that a browser would refuse. */
  rejectedCookies: RejectedCookie[];
  /** Every exchange so far. */
  history: Hop[];
  /** Another browser with a copy of the cookies: a thief, or a second profile. */
  clone(): Browser;
  close(): Promise<void>;
}

const MAX_HOPS = 20;
const MAX_PAGES = 5;

export function createBrowser(options: BrowserOptions): Browser {
  return assemble(options, createCookieJar(options.now ?? Date.now));
}

function assemble(options: BrowserOptions, jar: CookieJar): Browser {
  const origin = new URL(options.origin).origin;
  const resolve = { ...(options.connectTo ? { [origin]: options.connectTo } : {}), ...options.resolve };
  const network = createNetwork(resolve, options.ca);
  const wire: Wire = { jar, network, fetchMetadata: options.fetchMetadata ?? true, headers: options.headers ?? {} };
  const history: Hop[] = [];

  interface Start {
    url: string;
    method: string;
    body: string | Buffer | undefined;
    headers: HeaderOverrides;
    purpose: Purpose;
    followRedirects: boolean;
    signal: AbortSignal | undefined;
  }

  /** One request and the redirects it leads to. */
  async function follow(start: Start): Promise<{ hops: Hop[]; last: Exchanged; leftTo: string | undefined }> {
    const hops: Hop[] = [];
    let { url, method, body, headers } = start;
    for (;;) {
      if (!network.canReach(url)) throw new Error(`nothing we started lives at ${url}: add it to resolve`);
      const { purpose, signal } = start;
      const last = await exchange(wire, {
        method,
        url,
        headers,
        body,
        purpose,
        before: hops.map((hop) => hop.url),
        signal,
      });
      const { hop } = last;
      hops.push(hop);
      history.push(hop);
      const isRedirect = [301, 302, 303, 307, 308].includes(hop.status) && hop.location !== undefined;
      if (!isRedirect || !start.followRedirects) return { hops, last, leftTo: undefined };
      const next = URL.canParse(hop.location as string, url) ? new URL(hop.location as string, url) : undefined;
      if (next === undefined || !/^https?:$/.test(next.protocol) || !network.canReach(next.href)) {
        return { hops, last, leftTo: next?.href ?? hop.location };
      }
      if (hops.length >= MAX_HOPS) throw new Error(`redirect loop: ${hops.map((each) => each.url).join(' -> ')}`);
      await drain(last);
      if (hop.status === 303 || (hop.status < 303 && method === 'POST')) {
        if (method !== 'HEAD') method = 'GET';
        body = undefined;
        headers = { ...headers, 'content-type': undefined };
      }
      url = next.href;
    }
  }

  async function load(start: Start): Promise<Page> {
    const { hops, last, leftTo } = await follow(start);
    const bytes = await drain(last);
    last.hop.body = bytes;
    return buildPage(hops, bytes, leftTo);
  }

  async function navigate(target: string, navigateOptions: NavigateOptions = {}): Promise<Page> {
    const {
      from = 'user',
      method = 'GET',
      followRedirects = true,
      submitForms = true,
      followMetaRefresh = true,
      signal,
    } = navigateOptions;
    const { bytes, type } = encodeBody(navigateOptions.body);
    const purpose: Purpose = {
      mode: 'navigate',
      destination: 'document',
      topLevel: true,
      initiator: from,
      credentials: true,
    };
    const headers = { 'content-type': type, ...navigateOptions.headers };
    const common = { followRedirects, signal };
    let page = await load({ ...common, url: absolute(target), method, body: bytes, headers, purpose });
    for (let count = 0; count < MAX_PAGES && page.leftTo === undefined; count++) {
      const isHtml = /^text\/html/i.test(page.header('content-type') ?? '');
      const form = isHtml && submitForms ? findSelfSubmittingForm(page.text, page.url) : undefined;
      const refresh = isHtml && followMetaRefresh ? findMetaRefresh(page.text, page.url) : undefined;
      const url = form?.action ?? refresh;
      if (url === undefined) break;
      const next = await load({
        ...common,
        url,
        method: form?.method ?? 'GET',
        body: form?.body,
        headers: {
          ...navigateOptions.headers,
          ...(form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
        },
        purpose: { ...purpose, initiator: new URL(page.url).origin },
      });
      page = { ...next, hops: [...page.hops, ...next.hops] };
    }
    return page;
  }

  function fetchStart(target: string, fetchOptions: FetchOptions): Start {
    const { method = 'GET', from = origin, mode = 'cors', destination = 'empty', credentials = true } = fetchOptions;
    const { bytes, type } = encodeBody(fetchOptions.body);
    return {
      url: absolute(target),
      method,
      body: bytes,
      headers: { 'content-type': type, ...options.fetchHeaders, ...fetchOptions.headers },
      purpose: { mode, destination, topLevel: false, initiator: from, credentials },
      followRedirects: fetchOptions.followRedirects ?? false,
      signal: fetchOptions.signal,
    };
  }

  const absolute = (target: string) => new URL(target, origin).href;

  const browser: Browser = {
    origin,
    navigate,
    fetch: (target, fetchOptions = {}) => load(fetchStart(target, fetchOptions)),
    async open(target, fetchOptions = {}) {
      return buildStreamedPage((await follow(fetchStart(target, fetchOptions))).last);
    },
    crossSite(target, cross) {
      const kind = cross.kind ?? 'link';
      const { purpose, method, headers } = foreignRequest(kind, cross);
      const { bytes, type } = encodeBody(kind === 'preflight' ? undefined : cross.body);
      const contentType =
        kind === 'form' && typeof cross.body !== 'object' ? 'application/x-www-form-urlencoded' : type;
      return load({
        url: absolute(target),
        method,
        body: bytes ?? (kind === 'form' ? '' : undefined),
        headers: { 'content-type': contentType, ...headers },
        purpose,
        followRedirects: cross.followRedirects ?? false,
        signal: undefined,
      });
    },
    login: (returnTo = '/', loginOptions = {}) =>
      navigate(`${options.loginPath ?? '/bff/login'}?return_to=${encodeURIComponent(returnTo)}`, {
        from: origin,
        ...loginOptions,
      }),
    cookies: (url = origin) => jar.matching(absolute(url)),
    cookie: (name, url = origin) => jar.matching(absolute(url)).find((cookie) => cookie.name === name),
    allCookies: () => jar.all(),
    setCookie(header, { url = origin, force = false } = {}) {
      const context = { sameSite: true, topLevel: true, safeNavigation: true };
      if (force) jar.force(header, absolute(url));
      else jar.store(header, absolute(url), context);
    },
    clearCookies: () => jar.clear(),
    rejectedCookies: jar.rejected,
    history,
    clone: () => assemble(options, jar.clone()),
    close: () => network.close(),
  };
  return browser;
}

async function drain({ stream }: Exchanged): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
