/** Headers that no configuration may open: identity, framing, cookies and CORS. The proxy enforces the same names. */
const reserved = {
  names:
    'authorization cookie set-cookie host connection te trailer upgrade via forwarded expect dpop content-length keep-alive x-request-id'.split(
      ' ',
    ),
  prefixes: 'x-forwarded x-original x-real x-http-method proxy transfer access-control sec-'.split(' '),
};

/**
 * Of an answer: what tells a browser's cache, a shared one (RFC 9213; Akamai, LiteSpeed, Netlify and others in their own
 * words) or the web server in front what to do with it. One of them would undo `private`, and give one caller's answer
 * to another; `X-Accel-Redirect` and `X-Sendfile` name a file of that server.
 */
const steering = {
  names:
    'cache-control expires age pragma clear-site-data cdn-cache-control cloudflare-cdn-cache-control netlify-vary'.split(
      ' ',
    ),
  prefixes: 'surrogate- edge- x-accel- x-litespeed- x-sendfile x-lighttpd- x-reproxy-'.split(' '),
};
const targeted = '-cache-control';

/** Also a wildcard that would reach one of them: `co*` is the cookie. */
export function isReserved(header: string): boolean {
  return reaches(header, reserved);
}

/** The same for `returnHeaders`. Nearly every wildcard could reach a `…-cache-control`: the proxy withholds those. */
export function isSteering(header: string): boolean {
  return header.endsWith(targeted) || reaches(header, steering);
}

function reaches(header: string, { names, prefixes }: typeof reserved): boolean {
  if (!header.endsWith('*')) return names.includes(header) || prefixes.some((prefix) => header.startsWith(prefix));
  const stem = header.slice(0, -1);
  return (
    names.some((name) => name.startsWith(stem)) ||
    prefixes.some((prefix) => prefix.startsWith(stem) || stem.startsWith(prefix))
  );
}
