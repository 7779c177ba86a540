/** The other side hung up. Whether it did so cleanly depends on what was on its way. */
export const closed = 'connection closed';

/**
 * A short reason that holds no key, value or address: `ECONNREFUSED`, `WRONGPASS`, `timeout`, `not connected`;
 * `sentinels: …` when it is theirs.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  // "Failed to refresh slots cache": the cluster's word for the failure of each of its nodes.
  if ('lastNodeError' in error && error.lastNodeError instanceof Error) return reasonOf(error.lastNodeError);
  if ('code' in error && typeof error.code === 'string') return reasonOfCode(error.code);
  return reasonOfText(error.message) ?? error.name;
}

function reasonOfText(message: string): string | undefined {
  if (/^All sentinels are unreachable/.test(message)) {
    const last = /Last error: (.*)$/.exec(message)?.[1];
    return `sentinels: ${last === undefined ? 'none of them knows the primary' : (reasonOfText(last) ?? 'unreachable')}`;
  }
  if (/^(Command timed out|Socket timeout)/.test(message)) return 'timeout';
  if (/max number of clients/i.test(message)) return 'too many clients';
  if (/isn't writeable|Connection is closed|max retries/i.test(message)) return 'not connected';
  const code = /^(?:connect |read |write |getaddrinfo )?([A-Z][A-Z_]{3,})\b/.exec(message)?.[1];
  return code === undefined ? undefined : reasonOfCode(code);
}

function reasonOfCode(code: string): string {
  return code === 'ECONNRESET' || code === 'EPIPE' ? closed : code;
}
