// Entity tags of answers that browsers may keep (`cache: true`). A browser that finds another user's answer under the same
// URL asks with its tag whether that still holds (RFC 9111 §4.1, §4.3.1), `Vary` or not. APIs count versions: "1" is the
// first version of alice's profile, and of bob's. A 304 would show him hers. So tags carry their owner's mark outside.

/** The tag as this owner's browser gets it. */
export function markTag(etag: string, owner: string): string {
  const weak = etag.startsWith('W/') ? 2 : 0;
  const at = etag[weak] === '"' ? weak + 1 : weak;
  return `${etag.slice(0, at)}${owner}.${etag.slice(at)}`;
}

const member = /(?:W\/)?"[^"]*"|[^\s,]+/g;

/**
 * The headers of a request, flat and in lower case, with the tags as the API made them. With one that is not this owner's
 * a cache asks in vain; a precondition of a write (`If-Match`) stays one, and fails.
 */
export function unmarkTags(headers: string[], owner: string): string[] {
  const unmarked = (tag: string) => tag.replace(`${owner}.`, '');
  const isOwn = (tag: string) => tag.replace(/^(W\/)?"?/, '').startsWith(`${owner}.`);
  const dropped = new Set<string>();
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const [name, value] = [headers[index] as string, headers[index + 1] as string];
    if (!/^if-(none-match|match|range)$/.test(name)) {
      kept.push(name, value);
      continue;
    }
    // An If-Range may also be a date, which has no owner: caches ask with it only for what is theirs to use.
    if (name === 'if-range' && !/^(W\/)?"/.test(value)) kept.push(name, value);
    else {
      const tags = value.match(member) ?? [];
      const own = name === 'if-match' ? tags : tags.filter((tag) => tag === '*' || isOwn(tag));
      if (own.length > 0) kept.push(name, own.map((tag) => (isOwn(tag) ? unmarked(tag) : tag)).join(', '));
      else {
        dropped.add(name);
        // It would count without its companion (RFC 9110 §13.1.3, §13.1.5).
        dropped.add(name === 'if-range' ? 'range' : 'if-modified-since');
      }
    }
  }
  return dropped.size === 0 ? kept : kept.filter((_, index) => !dropped.has(kept[index - (index % 2)] as string));
}
