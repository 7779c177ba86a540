import type { Strength } from '../oidc/strength.ts';

/** What an upstream says with a 401 about the token that it was sent (RFC 6750 §3, RFC 9470 §3). */
export interface Challenge extends Strength {
  error: string;
}

/** Longer lists would not fit into a login's cookie. */
const longestAcrValues = 256;

/**
 * Reads the one `Bearer` challenge in the `WWW-Authenticate` lines of an upstream's answer. Anything that is not exactly
 * as the grammar has it is no challenge: an upstream must not be able to put its own words into a login URL (T87).
 */
export function readChallenge(lines: string | string[] | undefined): Challenge | undefined {
  const [value, another] = [lines].flat();
  if (another !== undefined) return undefined;
  const text = /^(?:bearer|dpop) +(.+)$/i.exec(value ?? '')?.[1];
  const parameters = text === undefined ? undefined : readParameters(text);
  const error = parameters?.get('error');
  if (parameters === undefined || error === undefined) return undefined;
  const acr = parameters.get('acr_values');
  const age = parameters.get('max_age');
  if (acr !== undefined && (acr.length > longestAcrValues || !acrValuesForm.test(acr))) return undefined;
  if (age !== undefined && !/^\d{1,9}$/.test(age)) return undefined;
  return {
    error,
    acrValues: acr?.split(' ') ?? [],
    ...(age === undefined ? {} : { maxAge: Number(age) }),
  };
}

const acrValuesForm = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/;

/** Does it ask for another authentication, and say for which? */
export function isStepUp(challenge: Challenge | undefined): challenge is Challenge {
  return (
    challenge?.error === 'insufficient_user_authentication' &&
    (challenge.acrValues.length > 0 || challenge.maxAge !== undefined)
  );
}

/** auth-param list (RFC 9110 §11.2), each name once. */
function readParameters(text: string): Map<string, string> | undefined {
  const parameter = /\s*([\w!#$%&'*.^`|~+-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([\w!#$%&'*.^`|~+:/=-]+))\s*(?:,|$)/y;
  const found = new Map<string, string>();
  while (parameter.lastIndex < text.length) {
    const match = parameter.exec(text);
    if (match === null) return undefined;
    const name = (match[1] ?? '').toLowerCase();
    if (found.has(name)) return undefined;
    found.set(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3] ?? '');
  }
  return found;
}
