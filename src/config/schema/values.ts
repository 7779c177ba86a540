import { z } from 'zod';
import { Secret } from '../../crypto/secret.ts';

const longestTimer = 24 * 86_400_000;
/** For what is no timer. */
export const oneYear = 365 * 86_400_000;
const millisecondsOf: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const bytesOf: Record<string, number> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** A duration with its unit, `"30s"`, at least `least` milliseconds: 0 would switch a limit off, and timers end at 24 days. */
export const duration = (description: string, least = 1, most = longestTimer) =>
  z
    .string({ error: 'write a duration with its unit, in quotes or bare: 500ms, 30s, 5m, 10h, 7d' })
    .regex(/^\d+(ms|s|m|h|d)$/, 'write a duration as a whole number with its unit: 500ms, 30s, 5m, 10h, 7d')
    .transform((text) => {
      const [, amount, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text) ?? [];
      return Number(amount) * (millisecondsOf[unit ?? 'ms'] ?? 1);
    })
    .refine((ms) => ms >= least && ms <= most, {
      error: `must be between ${least < 1000 ? `${least}ms` : `${least / 1000}s`} and ${most < 86_400_000 ? `${most / 1000}s` : `${most / 86_400_000}d`}: correct the value`,
    })
    .meta({ description, 'x-unit': 'duration' });

/** A size with its unit, `"10MiB"`, of `least` to `most` bytes. Parsed once, into bytes. */
export const size = (description: string, least = 0, most = Number.MAX_SAFE_INTEGER) =>
  z
    .string({ error: 'write a size with its unit: 64KiB, 10MiB, 1GiB' })
    .regex(/^\d+(B|KiB|MiB|GiB)$/, 'write a size as a whole number with its unit: 64KiB, 10MiB, 1GiB')
    .transform((text) => {
      const [, amount, unit] = /^(\d+)(B|KiB|MiB|GiB)$/.exec(text) ?? [];
      return Number(amount) * (bytesOf[unit ?? 'B'] ?? 1);
    })
    .refine((bytes) => bytes >= least && bytes <= most, {
      error: `must be between ${least}B and ${most}B: correct the value`,
    })
    .meta({ description, 'x-unit': 'size' });

const placeholders =
  /^(<.*>|\*+|x{3,}|change[-_ ]?me.*|replace[-_ ]?(me|this).*|secret\d*|client[-_]?secret|password\d*|placeholder|todo|example|test|your[-_ ].*)$/i;

/** A secret; placeholders out of examples are refused (OP1). */
export const secret = (description: string) =>
  z
    .string()
    .min(1, 'is empty: check the environment variable or file that it comes from')
    .refine((value) => !placeholders.test(value), {
      error:
        'looks like a placeholder: put the real value in a file or variable and refer to it with ${file:PATH} or ${env:NAME}',
    })
    .transform((value) => new Secret(value))
    .meta({ description, 'x-unit': 'secret' });

/** A server key of at least 256 random bits, base64url, base64 or hex. */
export const serverKey = (description: string) =>
  z
    .string()
    .transform((value, context) => {
      const bytes = /^[0-9a-f]{64,}$/i.test(value)
        ? Buffer.from(value, 'hex')
        : /^[A-Za-z0-9+/_-]{43,}={0,2}$/.test(value)
          ? Buffer.from(value, 'base64')
          : undefined;
      if (bytes === undefined || bytes.length < 32) {
        context.addIssue('is not a key of at least 32 bytes in base64url or hex: make one with "cloakroom keygen"');
        return z.NEVER;
      }
      // 32 random bytes have about 30 different values; text and repeated patterns have far fewer, or only letters.
      const isText = bytes.every((byte) => byte >= 0x20 && byte < 0x7f);
      if (new Set(bytes).size < 16 || isText || placeholders.test(value)) {
        context.addIssue('is a weak key or a placeholder, not random bytes: make one with "cloakroom keygen"');
        return z.NEVER;
      }
      return new Secret(bytes.toString('base64'));
    })
    .meta({ description, 'x-unit': 'key' });

/** Is this host name one that never leaves the machine? Only there may http be spoken (OP7). */
export function isLoopbackHost(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

/** An http(s) URL; plain http only for loopback hosts. */
export const url = (description: string, example: string, parts: 'no-query' | 'with-query' = 'no-query') =>
  z
    .string()
    .refine(
      (text) => /^https?:$/.test(parseUrl(text)?.protocol ?? ''),
      `is not an http(s) URL: write it like ${example}`,
    )
    .refine(
      (text) => !(parts === 'no-query' ? /[?#@]/ : /#|^[^?]*@/).test(text),
      `must not have a ${parts === 'no-query' ? 'query, ' : ''}fragment or user info: write it like ${example}`,
    )
    .refine((text) => {
      const parsed = parseUrl(text);
      return parsed?.protocol !== 'http:' || isLoopbackHost(parsed.hostname);
    }, 'must be https: plain http is only accepted for loopback hosts (localhost, 127.0.0.1, [::1])')
    .meta({ description, examples: [example] });

/** Where an issuer's metadata is, when that is not at the issuer. */
export const metadataUrl = url(
  'Where the metadata is, when it is not at the issuer (Azure AD B2C, `oauth-authorization-server`). The `issuer` in it must be the configured one all the same.',
  'https://login.example.com/tenant/.well-known/openid-configuration',
  'with-query',
);

/** A resource indicator (RFC 8707 §2). */
export const resource = z
  .string()
  .refine(
    (text) => URL.canParse(text) && !text.includes('#'),
    'is not an absolute URI without a fragment (RFC 8707 §2)',
  );

/** One authentication context class; lists of them are separated by spaces, and travel in quotes (RFC 9470 §3). */
export const acrValue = z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'is not an acr value');
/** Asymmetric signatures only: with a symmetric one, whoever can verify can also forge. */
export const signingAlgorithm = z.enum([
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519',
]); // biome-ignore format: a list of names reads better in rows

/** One scope (RFC 6749 §3.3). */
export const scope = z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'is not a scope');

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

/**
 * What Node's parser takes for a method, but those of the connection itself: `CONNECT` (RFC 9110 §9.3.6), and `TRACE`,
 * which sends a token back (§9.3.8).
 */
export const apiMethods = [
  ...(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY'] as const),
  ...(['ACL', 'BIND', 'CHECKOUT', 'COPY', 'LINK', 'LOCK', 'M-SEARCH', 'MERGE', 'MKACTIVITY', 'MKCALENDAR'] as const),
  ...(['MKCOL', 'MOVE', 'NOTIFY', 'PROPFIND', 'PROPPATCH', 'PURGE', 'REBIND', 'REPORT', 'SEARCH', 'SOURCE'] as const),
  ...(['SUBSCRIBE', 'UNBIND', 'UNLINK', 'UNLOCK', 'UNSUBSCRIBE'] as const),
] as const;
