/** A server's JSON answer as openid-client may judge it; the text itself where there is nothing to do. */
export interface NormalAnswer {
  text: string;
  /** An OAuth error (RFC 6749 §5.2). */
  isError: boolean;
}

/**
 * What servers write in two ways is made one, before anything is judged: a member that is `null` is absent, and a list
 * of scopes is one text (W25). The members of a key set's keys too. Nothing else is touched: not the claims of a JWT,
 * which are signed as they are, and no type of anything that decides who somebody is.
 */
export function normalizeAnswer(text: string): NormalAnswer {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return { text, isError: false };
  }
  if (!isObject(answer)) return { text, isError: false };
  const isError = typeof answer.error === 'string';
  let isChanged = dropNulls(answer);
  const { scope, keys } = answer;
  // What UserInfo says under these names is a claim of somebody’s, and left as it is.
  const isAboutToken = 'access_token' in answer || 'active' in answer;
  // Some write "none" like that, and to refuse the answer would lose the rotation (T115). No token is empty.
  if (isAboutToken && answer.refresh_token === '') {
    delete answer.refresh_token;
    isChanged = true;
  }
  if (isAboutToken && Array.isArray(scope) && scope.every((name) => typeof name === 'string')) {
    answer.scope = scope.join(' ');
    isChanged = true;
  }
  for (const key of Array.isArray(keys) ? keys : []) {
    if (isObject(key) && dropNulls(key)) isChanged = true;
  }
  try {
    return { text: isChanged ? JSON.stringify(answer) : text, isError };
  } catch {
    return { text, isError }; // nested deeper than can be written (T38)
  }
}

/** Shorter ones are in every text. Characters. */
const shortestSecret = 4;

/** JSON without these values, whatever they look like. */
export function hideSecrets(json: string, secrets: string[]): string {
  return secrets
    .filter(({ length }) => length >= shortestSecret)
    .reduce((text, secret) => text.replaceAll(JSON.stringify(secret).slice(1, -1), '(not shown)'), json);
}

function dropNulls(answer: Record<string, unknown>): boolean {
  const absent = Object.keys(answer).filter((name) => answer[name] === null);
  for (const name of absent) delete answer[name];
  return absent.length > 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
