import { isTrustworthy } from './sites.ts';

export interface Cookie {
  name: string;
  value: string;
  domain: string;
  /** Set without `Domain`: goes back to exactly this host. */
  hostOnly: boolean;
  path: string;
  secure: boolean;
  httpOnly: boolean;
  /** `Default` is treated as Lax. */
  sameSite: 'Strict' | 'Lax' | 'None' | 'Default';
  /** Epoch milliseconds; absent: until the browser closes. */
  expiresAt?: number;
  createdAt: number;
}

export interface RejectedCookie {
  header: string;
  url: string;
  reason: string;
}

/** What SameSite looks at (RFC 6265bis section 5.2). */
export interface RequestContext {
  /** Initiator and every URL of the redirect chain are of one site. */
  sameSite: boolean;
  /** A navigation of the top-level document with a safe method: Lax cookies travel even cross-site. */
  safeNavigation: boolean;
  /** Any navigation of the top-level document: its answer may set Strict and Lax cookies even cross-site. */
  topLevel: boolean;
}

const MAX_COOKIE_BYTES = 4096;

/** The cookie store of one browser. Ports do not separate cookies, schemes only through Secure: as in real ones. */
export interface CookieJar {
  /** Reads one Set-Cookie header; a refused cookie is in `rejected` with its reason. */
  store(header: string, url: string, context: RequestContext): void;
  /** The same without any check. */
  force(header: string, url: string): void;
  /** Cookies for a URL, longest path first; without a context, all of any SameSite. */
  matching(url: string, context?: RequestContext): Cookie[];
  all(): Cookie[];
  /** `Clear-Site-Data: "cookies"`. */
  clear(url?: string): void;
  rejected: RejectedCookie[];
  clone(): CookieJar;
}

export function createCookieJar(now: () => number, initial: Cookie[] = []): CookieJar {
  let cookies = initial.map((cookie) => ({ ...cookie }));
  const rejected: RejectedCookie[] = [];
  const live = () => {
    cookies = cookies.filter(({ expiresAt }) => expiresAt === undefined || expiresAt > now());
    return cookies;
  };
  const put = (cookie: Cookie) => {
    const isOld = (each: Cookie) =>
      each.name === cookie.name &&
      each.domain === cookie.domain &&
      each.path === cookie.path &&
      each.hostOnly === cookie.hostOnly;
    const old = cookies.find(isOld);
    cookies = cookies.filter((each) => each !== old);
    cookies.push({ ...cookie, createdAt: old?.createdAt ?? cookie.createdAt });
  };
  return {
    store(header, url, context) {
      const parsed = parseSetCookie(header, url, now());
      const reason = typeof parsed === 'string' ? parsed : findFault(parsed, header, url, context, live());
      if (reason !== undefined) rejected.push({ header, url, reason });
      else if (typeof parsed !== 'string') put(parsed);
    },
    force(header, url) {
      const parsed = parseSetCookie(header, url, now());
      if (typeof parsed === 'string') throw new Error(`not a cookie: ${parsed}`);
      put(parsed);
    },
    matching(url, context) {
      const { hostname, pathname } = new URL(url);
      return live()
        .filter((cookie) => (cookie.hostOnly ? hostname === cookie.domain : isWithin(hostname, cookie.domain)))
        .filter((cookie) => pathMatches(pathname, cookie.path))
        .filter((cookie) => !cookie.secure || isTrustworthy(url))
        .filter((cookie) => context === undefined || mayTravel(cookie, context))
        .sort((a, b) => b.path.length - a.path.length || a.createdAt - b.createdAt);
    },
    all: () => [...live()],
    clear(url) {
      const hostname = url === undefined ? undefined : new URL(url).hostname;
      cookies = hostname === undefined ? [] : cookies.filter((cookie) => !isWithin(hostname, cookie.domain));
    },
    rejected,
    clone: () => createCookieJar(now, live()),
  };
}

function mayTravel({ sameSite }: Cookie, context: RequestContext): boolean {
  if (context.sameSite || sameSite === 'None') return true;
  return sameSite !== 'Strict' && context.safeNavigation;
}

/** The cookie, or why it is not one. */
function parseSetCookie(header: string, url: string, now: number): Cookie | string {
  const [pair = '', ...attributes] = header.split(';');
  const equals = pair.indexOf('=');
  const name = pair.slice(0, Math.max(0, equals)).trim();
  const value = pair.slice(equals + 1).trim();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 6265bis section 5.7 refuses exactly these.
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(header)) return 'control character';
  if (name === '' && value === '') return 'empty';
  const { hostname, pathname } = new URL(url);
  const lastSlash = pathname.lastIndexOf('/');
  const defaultPath = lastSlash <= 0 ? '/' : pathname.slice(0, lastSlash);
  const cookie: Cookie = {
    name,
    value,
    domain: hostname,
    hostOnly: true,
    path: defaultPath,
    secure: false,
    httpOnly: false,
    sameSite: 'Default',
    createdAt: now,
  };
  let maxAge: number | undefined;
  for (const attribute of attributes) {
    const [key = '', ...rest] = attribute.split('=');
    const text = rest.join('=').trim();
    switch (key.trim().toLowerCase()) {
      case 'domain':
        cookie.domain = text.replace(/^\./, '').toLowerCase() || hostname;
        cookie.hostOnly = text === '';
        break;
      case 'path':
        cookie.path = text.startsWith('/') ? text : defaultPath;
        break;
      case 'secure':
        cookie.secure = true;
        break;
      case 'httponly':
        cookie.httpOnly = true;
        break;
      case 'samesite':
        cookie.sameSite =
          (['Strict', 'Lax', 'None'] as const).find((each) => each.toLowerCase() === text.toLowerCase()) ?? 'Default';
        break;
      case 'max-age':
        if (/^-?\d+$/.test(text)) maxAge = Number(text);
        break;
      case 'expires': {
        const expiresAt = Date.parse(text);
        if (!Number.isNaN(expiresAt)) cookie.expiresAt = expiresAt;
        break;
      }
    }
  }
  if (maxAge !== undefined) cookie.expiresAt = maxAge <= 0 ? 0 : now + maxAge * 1000;
  return cookie;
}

function findFault(
  cookie: Cookie,
  header: string,
  url: string,
  context: RequestContext,
  present: Cookie[],
): string | undefined {
  const { hostname } = new URL(url);
  const { name, value, secure, sameSite, hostOnly, path, domain } = cookie;
  if (Buffer.byteLength(name) + Buffer.byteLength(value) > MAX_COOKIE_BYTES) return 'larger than 4096 bytes';
  if (!isWithin(hostname, domain)) return `Domain does not cover ${hostname}`;
  if (!hostOnly && !domain.includes('.')) return 'Domain is a public suffix';
  if (secure && !isTrustworthy(url)) return 'Secure on an insecure origin';
  if (sameSite === 'None' && !secure) return 'SameSite=None without Secure';
  if (/^__(host|secure)-/i.test(name) && !secure) return 'prefix without Secure';
  const explicitRoot = path === '/' && /;\s*path\s*=\s*\/\s*(;|$)/i.test(header);
  if (/^__host-/i.test(name) && !(hostOnly && explicitRoot)) return '__Host- needs Path=/ and no Domain';
  if (name === '' && /^__(host|secure)-/i.test(value)) return 'prefix in a nameless cookie';
  if (sameSite !== 'None' && !context.sameSite && !context.topLevel) return 'SameSite cookie in a cross-site answer';
  const shadowsSecure = (each: Cookie) =>
    each.secure && each.name === name && each.domain === domain && pathMatches(path, each.path);
  if (!isTrustworthy(url) && present.some(shadowsSecure)) return 'an insecure origin may not replace a Secure cookie';
  return undefined;
}

function isWithin(hostname: string, domain: string): boolean {
  return hostname === domain || (hostname.endsWith(`.${domain}`) && !/^[\d.]+$/.test(hostname));
}

function pathMatches(pathname: string, path: string): boolean {
  return pathname === path || (pathname.startsWith(path) && (path.endsWith('/') || pathname[path.length] === '/'));
}
