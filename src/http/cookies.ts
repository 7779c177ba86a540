/**
 * The one reader of `Cookie` headers. Pairs end at `;`, a name at its first `=`, and only SP and HTAB are trimmed from
 * both (RFC 6265bis §5.7 has browsers store and send them so). All else counts: what trims more, or decodes, takes
 * `\xA0__Host-…` for a `__Host-` name, and for browsers that is a name that any subdomain may set for us (W2).
 *
 * What stands between two `;` without `=` is a value without a name. Quotes belong to the value.
 */

/** All values of cookies with exactly this name, in order. Looks for the name only: this is part of every API call. */
export function cookieValues(cookieHeader: string | undefined, name: string): string[] {
  const values: string[] = [];
  if (cookieHeader === undefined) return values;
  let at = cookieHeader.indexOf(name);
  while (at !== -1) {
    const equals = skipBlanks(cookieHeader, at + name.length);
    let next = at + name.length;
    if (cookieHeader.charCodeAt(equals) === 0x3d && beginsPair(cookieHeader, at)) {
      const semicolon = cookieHeader.indexOf(';', equals);
      next = semicolon === -1 ? cookieHeader.length : semicolon;
      values.push(trimmed(cookieHeader, equals + 1, next));
    }
    at = cookieHeader.indexOf(name, next);
  }
  return values;
}

/**
 * All cookies, by name. A name that stands there twice has no value: someone planted one of them, and order decides
 * nothing (CK8). No name is special, `__proto__` neither.
 */
export function parseCookies(cookieHeader: string): Record<string, string | undefined> {
  const cookies: Record<string, string | undefined> = Object.create(null);
  for (const pair of cookieHeader.split(';')) {
    const equals = pair.indexOf('=');
    if (equals === -1) continue;
    const name = trimmed(pair, 0, equals);
    cookies[name] = name in cookies ? undefined : trimmed(pair, equals + 1, pair.length);
  }
  return cookies;
}

/** The names of all cookies, each once. One without a name can't be expired. */
export function cookieNames(cookieHeader = ''): string[] {
  return Object.keys(parseCookies(cookieHeader)).filter((name) => name !== '');
}

/** Cookies that one answer ends: each line is longer than the name of a planted cookie, by up to twenty times (W5). */
const mostExpiredCookies = 100;

/** Set-Cookie lines that end cookies of this host, the first ones. Without `Secure` browsers keep one named `__Host-…`. */
export function expiredCookies(names: string[], isSecure: boolean): string[] {
  const rest = `=; Max-Age=0; Path=/; HttpOnly${isSecure ? '; Secure' : ''}`;
  return names.slice(0, mostExpiredCookies).map((name) => name + rest);
}

function beginsPair(text: string, at: number): boolean {
  const before = lastBefore(text, 0, at);
  return before === 0 || text.charCodeAt(before - 1) === 0x3b;
}

function trimmed(text: string, from: number, to: number): string {
  const start = skipBlanks(text, from);
  return start >= to ? '' : text.slice(start, lastBefore(text, start, to));
}

/** Index of the first character from `at` on that is no blank. */
function skipBlanks(text: string, at: number): number {
  let index = at;
  while (isBlank(text.charCodeAt(index))) index++;
  return index;
}

/** The end of `text` before `to` without its last blanks, not before `from`. */
function lastBefore(text: string, from: number, to: number): number {
  let index = to;
  while (index > from && isBlank(text.charCodeAt(index - 1))) index--;
  return index;
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}
