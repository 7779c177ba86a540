// Which headers cross the proxy: by default, never, and (all others) where `forwardHeaders` or `returnHeaders` name them.
// docs/headers.md gives the reason for each name; a test holds both to the same.

/** Keys of an object, because V8 compares those fastest; pieces of a longer text cost a third of the look-up more. */
const names = (...rows: string[]): ReadonlySet<string> =>
  new Set(Object.keys(Object.fromEntries(rows.flatMap((row) => row.split(' ')).map((name) => [name, true]))));

/** Request headers that are passed on. None says who somebody is, or is about a connection. */
export const requestHeaders = names(
  // RFC 9110 to 9112, and what their registry adds for any method
  'accept accept-charset accept-datetime accept-encoding accept-language cache-control content-disposition',
  'content-encoding content-language content-length content-location content-range content-type date',
  'if-match if-modified-since if-none-match if-range if-unmodified-since link mime-version pragma prefer priority range',
  'slug soapaction user-agent incremental',
  // a request that a proxy in front may repeat must stay marked as such (RFC 8470 §5.2), and a loop be found (RFC 8586)
  'early-data cdn-loop',
  // integrity
  'content-digest content-md5 digest repr-digest unencoded-digest',
  'want-content-digest want-digest want-repr-digest want-unencoded-digest',
  // negotiation of variants, and coffee
  'accept-additions accept-features negotiate',
  // event streams, retries, Web Push, ACME
  'last-event-id idempotency-key repeatability-first-sent repeatability-request-id',
  'ttl topic urgency cert-not-after cert-not-before',
  // WebDAV and its extensions, but for Destination: rules don't see it
  'apply-to-redirect-ref caldav-timezones depth if if-schedule-tag-match label lock-token ordering-type overwrite',
  'position schedule-reply timeout',
  // OData, OSLC, AS2, players
  'isolation odata-isolation odata-maxversion odata-version configuration-context oslc-core-version ediint-features',
  'cmcd-object cmcd-request cmcd-session cmcd-status',
  // what browsers say unasked about themselves, and what their users wish
  'save-data sec-ch-prefers-color-scheme sec-ch-prefers-reduced-motion sec-ch-prefers-reduced-transparency',
  'sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-gpc sec-purpose x-requested-with',
  // W3C Trace Context and Baggage
  'traceparent tracestate baggage',
  // uploads: tus, and its successor at the IETF
  'tus-resumable upload-checksum upload-concat upload-defer-length upload-length upload-metadata upload-offset',
  'upload-complete upload-draft-interop-version upload-incomplete',
  // gRPC-Web, Connect, SignalR
  'grpc-accept-encoding grpc-encoding grpc-timeout x-grpc-web x-user-agent',
  'connect-accept-encoding connect-content-encoding connect-protocol-version connect-timeout-ms x-signalr-user-agent',
);

/** Response headers that are passed back. None says anything about more than its own answer. */
export const responseHeaders = names(
  // RFC 9110 to 9112, and what their registry adds
  'accept-patch accept-post accept-query accept-ranges allow content-disposition content-encoding content-language',
  'content-length content-location content-range content-type date etag last-modified link link-template location',
  'memento-datetime mime-version preference-applied priority retry-after vary warning www-authenticate incremental',
  // integrity
  'content-digest content-md5 digest repr-digest unencoded-digest',
  'want-content-digest want-digest want-repr-digest want-unencoded-digest',
  // negotiation of variants
  'alternates negotiate tcn variant-vary',
  // protection that an API's own pages ask for
  'content-security-policy content-security-policy-report-only cross-origin-embedder-policy',
  'cross-origin-embedder-policy-report-only cross-origin-opener-policy cross-origin-opener-policy-report-only',
  'permissions-policy referrer-policy x-frame-options',
  // about the API: its life, its limits, its time
  'deprecation sunset ratelimit ratelimit-limit ratelimit-policy ratelimit-remaining ratelimit-reset',
  'x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset server-timing set-txn traceresponse',
  // retries, Web Push, ACME
  'repeatability-result ttl topic urgency replay-nonce cert-not-after cert-not-before',
  // WebDAV and its extensions
  'cal-managed-id dasl dav lock-token ordering-type schedule-tag timeout',
  // OData, OSLC, AS2, players
  'odata-entityid odata-version configuration-context oslc-core-version ediint-features cmsd-dynamic cmsd-static',
  // uploads: tus, and its successor at the IETF
  'tus-checksum-algorithm tus-extension tus-max-size tus-resumable tus-version upload-concat upload-defer-length',
  'upload-expires upload-length upload-metadata upload-offset upload-complete upload-draft-interop-version',
  'upload-incomplete upload-limit',
  // gRPC-Web, where an error without an answer has no body to stand in; Connect
  'grpc-accept-encoding grpc-encoding grpc-message grpc-status grpc-status-details-bin',
  'connect-accept-encoding connect-content-encoding',
);

/** Trailers that are passed back; a trailer must not do what only a header may (RFC 9110 §6.5.1). */
export const responseTrailers = names(
  'content-digest digest repr-digest unencoded-digest etag server-timing',
  'grpc-message grpc-status grpc-status-details-bin',
);

interface Names {
  names: ReadonlySet<string>;
  prefixes: string[];
}

/** Headers that no configuration may open: identity, framing, cookies, CORS, and what we set. */
const reserved: Names = {
  names: names(
    'authorization concealed-auth-export cookie cookie2 set-cookie set-cookie2 dpop dpop-nonce',
    'include-referred-token-binding-id alpn alt-used capsule-protocol close connect-udp-bind connection content-length',
    'cross-origin-resource-policy expect forwarded host http2-settings keep-alive max-forwards meter te',
    'timing-allow-origin trailer upgrade via x-content-type-options x-method-override x-request-id x-rewrite-url',
  ),
  prefixes: 'x-forwarded x-original x-real x-http-method proxy transfer access-control client-cert sec-'.split(' '),
};

/** Of those, what browsers say about themselves (client hints). */
const open = 'sec-ch-';

/**
 * Of an answer: what tells a browser's cache, a shared one (RFC 9213; Akamai, LiteSpeed, Netlify and others in their own
 * words) or the web server in front what to do with it. One of them would undo `private`, and give one caller's answer
 * to another, or is about other answers than its own; `X-Accel-Redirect` and `X-Sendfile` name a file of that server.
 */
const steering: Names = {
  names: names(
    'cache-control expires age pragma clear-site-data cdn-cache-control cloudflare-cdn-cache-control netlify-vary',
    'no-vary-search use-as-dictionary',
  ),
  prefixes: 'cache-group surrogate- edge- x-accel- x-litespeed- x-sendfile x-lighttpd- x-reproxy-'.split(' '),
};
const targeted = '-cache-control';

/** Of an answer: what a browser keeps and applies to the whole origin. One API would speak for the SPA and all others. */
const originWide: Names = {
  names: names(
    'accept-ch activate-storage-access alt-svc critical-ch expect-ct nel report-to service-worker-allowed set-login',
    'strict-transport-security',
  ),
  prefixes: ['public-key-pins', 'secure-session-'],
};

/** Also a wildcard that would reach one of them: `co*` is the cookie. */
export function isReserved(header: string): boolean {
  return !header.startsWith(open) && reaches(header, reserved);
}

/** The same for `returnHeaders`. Nearly every wildcard could reach a `…-cache-control`: the proxy withholds those. */
export function isSteering(header: string): boolean {
  return header.endsWith(targeted) || reaches(header, steering);
}

/** The same for `returnHeaders`. */
export function isOriginWide(header: string): boolean {
  return reaches(header, originWide);
}

function reaches(header: string, { names, prefixes }: Names): boolean {
  if (!header.endsWith('*')) {
    if (names.has(header)) return true;
    for (const prefix of prefixes) if (header.startsWith(prefix)) return true;
    return false;
  }
  const stem = header.slice(0, -1);
  return (
    [...names].some((name) => name.startsWith(stem)) ||
    prefixes.some((prefix) => prefix.startsWith(stem) || stem.startsWith(prefix))
  );
}
