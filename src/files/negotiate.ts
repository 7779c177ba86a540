// What a request for a file asks for, besides its name. Pure.

export type Coding = 'br' | 'gzip' | 'identity';

/** In our order: the smaller ones first. */
const codings: readonly Coding[] = ['br', 'gzip', 'identity'];

/** Browsers send a handful of different ones. */
const remembered = new Map<string, readonly Coding[]>();
const mostRemembered = 100;

/** Codings for this `Accept-Encoding`, the best first (RFC 9110 §12.5.3). Never empty: plain is the last resort. */
export function acceptedCodings(header: string | undefined): readonly Coding[] {
  if (header === undefined) return ['identity'];
  let found = remembered.get(header);
  if (found === undefined) {
    found = rank(header);
    if (remembered.size >= mostRemembered) remembered.clear();
    if (header.length <= 200) remembered.set(header, found);
  }
  return found;
}

function rank(header: string): readonly Coding[] {
  const weights = new Map<string, number>();
  for (const member of header.toLowerCase().split(',')) {
    const [name = '', ...parameters] = member.split(';').map((part) => part.trim());
    const weight = parameters.find((parameter) => /^q\s*=/.test(parameter))?.replace(/^q\s*=\s*/, '') ?? '1';
    if (name !== '') weights.set(name === 'x-gzip' ? 'gzip' : name, Number(weight) || 0);
  }
  const any = weights.get('*');
  // Whoever does not name plain takes it after all that is named.
  const weightOf = (coding: Coding) =>
    weights.get(coding) ?? (coding === 'identity' ? (any === 0 ? 0 : Number.MIN_VALUE) : (any ?? 0));
  const accepted = codings.filter((coding) => weightOf(coding) > 0).sort((one, two) => weightOf(two) - weightOf(one));
  return accepted.length === 0 ? ['identity'] : accepted;
}

/** Is the tag among those of `If-None-Match` or `If-Match`? `isStrong`: a weak one is none (RFC 9110 §8.8.3.2). */
export function namesTag(header: string, etag: string, isStrong = false): boolean {
  if (header === etag || header.trim() === '*') return true;
  const tags = header.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((tag) => tag === etag || (!isStrong && tag === `W/${etag}`));
}

export type Range = { start: number; end: number } | 'unsatisfiable';

/**
 * The one range that is asked for; `undefined`: all of it is answered, as to several ranges and to what is no range
 * (RFC 9110 §14.2). Both ends included.
 */
export function rangeOf(header: string, size: number): Range | undefined {
  // No browser sends more; in 16 KiB of spaces the pattern would search for half a second.
  if (header.length > 100) return undefined;
  const match = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header);
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) return undefined;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 };
  }
  const [start, end] = [Number(first), last === '' ? size - 1 : Math.min(Number(last), size - 1)];
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}
