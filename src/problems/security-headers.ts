/** Headers of everything that Cloakroom itself answers: nothing to frame, sniff, cache or refer from (ER5). */
export function ownHeaders(isSecure: boolean): Record<string, string> {
  return {
    'cache-control': 'no-store',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    ...transportSecurity(isSecure),
  };
}

/** What differs for a page that a frame of our own origin shows. `scriptHash`: SHA-256 of its one script, base64. */
export function framedHeaders(scriptHash?: string): Record<string, string> {
  const script = scriptHash === undefined ? '' : `script-src 'sha256-${scriptHash}'; `;
  return {
    'content-security-policy': `default-src 'none'; ${script}base-uri 'none'; form-action 'none'; frame-ancestors 'self'`,
    'x-frame-options': 'SAMEORIGIN',
  };
}

/**
 * Headers of the SPA's files, besides their content policy. No `Cross-Origin-Resource-Policy`: they are public, and a
 * login page may show the logo.
 */
export function fileHeaders(isSecure: boolean): Record<string, string> {
  return {
    'referrer-policy': 'strict-origin-when-cross-origin',
    'x-content-type-options': 'nosniff',
    ...transportSecurity(isSecure),
  };
}

function transportSecurity(isSecure: boolean): Record<string, string> {
  return isSecure ? { 'strict-transport-security': 'max-age=31536000' } : {};
}
