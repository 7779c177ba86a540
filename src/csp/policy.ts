// Content security policies (CSP3): how one is read and judged. Pure.

/** Stands in a policy and in a page where each answer has a nonce of its own. */
export const nonceMark = '{{nonce}}';

/** Its directives by name, each with its sources. */
export type PolicyDirectives = Map<string, string[]>;

/** What holds unless the policy says something else: our own pages may frame and embed, nobody else may. */
export const policyDefaults = "base-uri 'self'; object-src 'self'; frame-ancestors 'self'";

/** Directives that browsers know (CSP3 and its neighbours). Another name is a mistake that would protect nothing. */
const known = new Set(
  [
    'base-uri child-src connect-src default-src fenced-frame-src font-src form-action frame-ancestors frame-src',
    'img-src manifest-src media-src object-src prefetch-src report-to report-uri require-trusted-types-for sandbox',
    'script-src script-src-attr script-src-elem style-src style-src-attr style-src-elem trusted-types',
    'upgrade-insecure-requests webrtc worker-src',
  ].flatMap((line) => line.split(' ')),
);

const keywords = new Set(
  [
    "'self' 'none' 'unsafe-inline' 'unsafe-eval' 'unsafe-hashes' 'strict-dynamic' 'report-sample' 'wasm-unsafe-eval'",
    "'inline-speculation-rules' 'script' 'allow-duplicates' 'allow' 'block' 'trusted-types-eval'",
    "'report-sha256' 'report-sha384' 'report-sha512'",
  ].flatMap((line) => line.split(' ')),
);

function parsePolicy(text: string): PolicyDirectives {
  const directives: PolicyDirectives = new Map();
  for (const part of text.split(';')) {
    const [name, ...sources] = part.trim().split(/\s+/);
    if (name !== undefined && name !== '') directives.set(name.toLowerCase(), sources);
  }
  return directives;
}

/** The policy with what it leaves to us. */
export function withDefaults(text: string): PolicyDirectives {
  return new Map([...parsePolicy(policyDefaults), ...parsePolicy(text)]);
}

/** What is wrong with a policy, and what to do about it. */
export function policyFault(text: string): string | undefined {
  // A line break would begin another header, a comma another policy.
  if (/[^\x20-\x7e\n\r\t]/.test(text)) return 'has a control or non-ASCII character: write it in ASCII';
  if (text.includes(',')) return 'has a comma: separate directives by semicolons, and sources by spaces';
  const names = text.split(';').flatMap((part) => part.trim().split(/\s+/)[0]?.toLowerCase() || []);
  for (const [index, name] of names.entries()) {
    if (!known.has(name)) return `has an unknown directive: correct the name of number ${index + 1}, or leave it out`;
    if (names.indexOf(name) !== index) return `has ${name} twice, and browsers only read the first: join them`;
  }
  for (const [name, sources] of parsePolicy(text)) {
    const fault = sources.map((source) => sourceFault(source)).find((found) => found !== undefined);
    if (fault !== undefined) return `has a source in ${name} that ${fault}`;
    if (sources.length > 1 && sources.some((source) => source.toLowerCase() === "'none'"))
      return `has 'none' beside other sources in ${name}: keep one or the other`;
  }
  return undefined;
}

function sourceFault(source: string): string | undefined {
  const lower = source.toLowerCase();
  if (keywords.has(lower)) return undefined;
  if (keywords.has(`'${lower}'`) && !['script', 'allow', 'block'].includes(lower))
    return `browsers take for a host: write '${lower}', with quotes`;
  if (source === `'nonce-${nonceMark}'`) return undefined;
  if (lower.includes('nonce-')) return `is a fixed nonce, which stops nobody: write 'nonce-${nonceMark}'`;
  if (/^'sha(256|384|512)-[A-Za-z0-9+/_-]+={0,2}'$/.test(source)) return undefined;
  if (/['"{}]/.test(source)) return `is no keyword, hash or 'nonce-${nonceMark}': correct what stands in quotes`;
  return undefined;
}
