// What caches are told where the API says `cache: true` (RFC 9111). A cache that does not understand an answer may keep it:
// so what concerns the caller is said by us, in the plainest form, whatever the API says.

type Lines = string | string[] | undefined;

/**
 * The caching headers of an answer, flat. `callerHeaders` are the request headers that say for whom it is; `undefined`
 * when it is for everybody, and then the API's word stands. Each comes in one line: some caches read only the first.
 */
export function buildCachingHeaders(
  linesOf: (name: string) => Lines,
  callerHeaders: readonly string[] | undefined,
): string[] {
  const headers: string[] = [];
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined) headers.push(name, value);
  };
  const [cacheControl, vary] = [joined(linesOf('cache-control')), joined(linesOf('vary'))];
  add('cache-control', callerHeaders === undefined ? cacheControl : privateControl(cacheControl ?? ''));
  add('vary', callerHeaders === undefined ? vary : varyOf(`${vary ?? ''},${callerHeaders.join()}`));
  add('expires', joined(linesOf('expires')));
  const age = joined(linesOf('age'));
  if (age !== undefined && /^\d{1,10}$/.test(age)) add('age', age); // seconds
  return headers;
}

function joined(lines: Lines): string | undefined {
  return typeof lines === 'object' ? lines.join(', ') : lines;
}

/** One directive with its argument and the comma behind it, or an empty element of the list (RFC 9111 §5.2, RFC 9110 §5.6). */
const element =
  /[\t ]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=([!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?[\t ]*)?(?:,|$)/y;

/** What a shared cache could take for leave, and `private`, which we say ourselves: of some fields is too little. */
const sharing = new Set(['public', 's-maxage', 'private']);

/**
 * `private` also stands beside `no-store`, which `must-understand` lets a cache ignore (RFC 9111 §5.2.2.3). What can't be
 * read as a list is not to be stored: each cache would guess differently.
 */
function withoutSharing(cacheControl: string): string {
  let kept = 'private';
  element.lastIndex = 0;
  while (element.lastIndex < cacheControl.length) {
    const match = element.exec(cacheControl);
    if (match === null) return 'private, no-store';
    const [, name, argument] = match;
    if (name === undefined || sharing.has(name.toLowerCase())) continue;
    kept += argument === undefined ? `, ${name}` : `, ${name}=${argument}`;
  }
  return kept;
}

/**
 * The API can't know that its answer depends on our cookie. Named, it keeps a browser from giving one user what it stored
 * for the one before: their cookies differ. A name that is none reads as `*`: any request may get another answer.
 */
function fieldNames(vary: string): string {
  const names = new Map<string, string>();
  for (const member of vary.split(',')) {
    const name = member.trim();
    if (name === '') continue;
    if (name === '*' || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) return '*';
    if (!names.has(name.toLowerCase())) names.set(name.toLowerCase(), name);
  }
  return [...names.values()].join(', ');
}

const privateControl = remember(withoutSharing);
const varyOf = remember(fieldNames);

/** An API says the same few things over and over; reading them costs more than the rest of an answer's headers. */
function remember(read: (text: string) => string): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const result = read(text);
    if (known.size >= 100) known.clear();
    if (text.length <= 200) known.set(text, result);
    return result;
  };
}
