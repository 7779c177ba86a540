/** Longer than any name of ours. Characters. */
const longestName = 32;
/** Words with three digits after them at most, joined as people join them: `clientIdd`, `base_url`, `orders-v2`, `Shop 1`, `__proto__`. */
const nameOfWords = /^_{0,2}[A-Za-z]+\d{0,3}(?:[-_. ](?:[A-Za-z]+\d{0,3}|\d{1,2}))*_{0,2}$/;

/**
 * Is this text certainly a name? What stands in a place of names may still be a secret: a value that slipped to the left
 * of its colon, or into `${env:…}`. Random texts have digits between letters, change case in the middle of what would be
 * words, or are long (W15).
 */
export function isName(text: string): boolean {
  if (text.length > longestName || !nameOfWords.test(text)) return false;
  const letters = text.replace(/[^A-Za-z]/g, '');
  const words = text.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+/g) ?? [];
  // `qWeRtYuI` is made of words of one or two letters; those of a name are longer.
  return words.length <= Math.max(1, letters.length / 3);
}

/** A key of the file in a message; what may be a secret is left out, as the message has its line and column. */
export function shownKey(step: PropertyKey): string {
  return typeof step === 'number' || isName(String(step)) ? String(step) : '(key not shown)';
}

/** A path of a file or URL in a message: where each of its parts is a name; else it may be a secret in the wrong place. */
export function shownPath(path: string, instead = 'the file named here'): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
  return path.includes('/') && parts.every((part) => isName(part.replace(/^\./, ''))) ? path : instead;
}
