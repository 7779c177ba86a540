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
 * a cache asks in vain, and so it does with a date alone, which has no owner. A precondition of a write stays one.
 */
export function unmarkTags(headers: string[], owner: string, method: string): string[] {
  const isRead = method === 'GET' || method === 'HEAD';
  const unmarked = (tag: string) => tag.replace(`${owner}.`, '');
  const isOwn = (tag: string) => tag.replace(/^(W\/)?"?/, '').startsWith(`${owner}.`);
  let hasOwn = false;
  const dropped = new Set<string>();
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const [name, value] = [headers[index] as string, headers[index + 1] as string];
    if (!/^if-(none-match|match|range)$/.test(name)) {
      kept.push(name, name === 'if' ? value.replaceAll(`"${owner}.`, '"') : value); // WebDAV's (RFC 4918 §10.4)
      continue;
    }
    // An If-Range may also be a date, which has no owner: caches ask with it only for what is theirs to use.
    if (name === 'if-range' && !/^(W\/)?"/.test(value)) kept.push(name, value);
    else {
      const tags = value.match(member) ?? [];
      const isPrecondition = name === 'if-match' || !isRead;
      const sent = isPrecondition ? tags : tags.filter((tag) => tag === '*' || isOwn(tag));
      hasOwn ||= sent.some(isOwn);
      if (sent.length > 0) kept.push(name, sent.map((tag) => (isOwn(tag) ? unmarked(tag) : tag)).join(', '));
      else if (isPrecondition) kept.push(name, value);
      else {
        dropped.add(name);
        if (name === 'if-range') dropped.add('range'); // it would count without its companion (RFC 9110 §13.1.5)
      }
    }
  }
  if (isRead && !hasOwn) dropped.add('if-modified-since');
  return dropped.size === 0 ? kept : kept.filter((_, index) => !dropped.has(kept[index - (index % 2)] as string));
}
