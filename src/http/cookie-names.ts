/** The names in a Cookie header, each once. A cookie without a name has none that could be expired. */
export function cookieNames(header = ''): string[] {
  const names = header.split(';').map((pair) => pair.slice(0, Math.max(0, pair.indexOf('='))).trim());
  return [...new Set(names)].filter((name) => name !== '');
}

/** A Set-Cookie line that ends a cookie of this host. Without `Secure` browsers keep one named `__Host-…`. */
export function expiredCookie(name: string, isSecure: boolean): string {
  return `${name}=; Max-Age=0; Path=/; HttpOnly${isSecure ? '; Secure' : ''}`;
}
