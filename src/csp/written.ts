import type { PolicyDirectives } from './policy.ts';

/**
 * The policy with the hashes of a page's inline scripts and styles, where it says what may be run. One that allows all
 * of them (`'unsafe-inline'`) stays as it is: a hash would take that away.
 */
export function policyOf(directives: PolicyDirectives, inline = { scripts: [] as string[], styles: [] as string[] }) {
  const result: PolicyDirectives = new Map(directives);
  allow(result, 'script-src', inline.scripts);
  allow(result, 'style-src', inline.styles);
  return write(result);
}

function allow(directives: PolicyDirectives, name: string, hashes: string[]): void {
  if (hashes.length === 0) return;
  // For elements the first of these that is there counts. The hash in `default-src` would count for other kinds, too.
  const found = [`${name}-elem`, name, 'default-src'].find((one) => directives.has(one));
  if (found === undefined) return;
  const sources = directives.get(found) ?? [];
  const isAnyAllowed = sources.some((source) => /^'unsafe-inline'$/i.test(source));
  if (isAnyAllowed && !sources.some((source) => /^'(nonce-|sha\d|strict-dynamic)/i.test(source))) return;
  const target = found === 'default-src' ? name : found;
  directives.set(target, [...sources.filter((source) => source.toLowerCase() !== "'none'"), ...hashes]);
}

/** Without nonces: for all that is no page. */
export function withoutNonces(directives: PolicyDirectives): PolicyDirectives {
  return new Map(
    [...directives].map(([name, sources]) => {
      const others = sources.filter((source) => !source.startsWith("'nonce-"));
      return [name, others.length === 0 && sources.length > 0 ? ["'none'"] : others];
    }),
  );
}

function write(directives: PolicyDirectives): string {
  return [...directives].map(([name, sources]) => [name, ...sources].join(' ')).join('; ');
}

/** As `frame-ancestors` says, for browsers that only know this one; nothing where it can't be said. */
export function frameOptions(directives: PolicyDirectives): Record<string, string> {
  const ancestors = directives.get('frame-ancestors')?.join(' ').toLowerCase();
  if (ancestors === "'self'") return { 'x-frame-options': 'SAMEORIGIN' };
  return ancestors === "'none'" || ancestors === '' ? { 'x-frame-options': 'DENY' } : {};
}
