import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { policyFault, withDefaults } from '../../../src/csp/policy.ts';
import { frameOptions, policyOf, withoutNonces } from '../../../src/csp/written.ts';
import { inlineHashes, isWhole, laterFiles, neededFiles } from '../../../src/files/page.ts';

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const written = (policy: string, html: string) =>
  policyOf(new Map([...withDefaults(policy)].slice(3)), inlineHashes(html));

it('W65 what a policy leaves out is ours', () => {
  expect(policyOf(withDefaults(''))).toBe("base-uri 'self'; object-src 'self'; frame-ancestors 'self'");
  expect(policyOf(withDefaults("Object-Src 'none';\n  img-src *;"))).toBe(
    "base-uri 'self'; object-src 'none'; frame-ancestors 'self'; img-src *",
  );
});

it.each([
  '',
  "default-src 'self'; img-src 'self' data: https://*.example.com:443/path; script-src 'strict-dynamic' 'nonce-{{nonce}}' https:",
  "upgrade-insecure-requests; sandbox allow-scripts; trusted-types default 'allow-duplicates'; require-trusted-types-for 'script'",
  `script-src ${hash('x')} 'wasm-unsafe-eval'; report-to csp; report-uri /csp`,
  "script-src 'self';\n  style-src 'self'",
])('W65 %s is a policy', (policy) => {
  expect(policyFault(policy)).toBeUndefined();
});

const inline = '<script>boot()</script><style>a{}</style>';
it.each([
  ["script-src 'self'", `script-src 'self' ${hash('boot()')}`],
  ["script-src 'self'; style-src 'none'", `script-src 'self' ${hash('boot()')}; style-src ${hash('a{}')}`],
  ["default-src 'self'", `default-src 'self'; script-src 'self' ${hash('boot()')}; style-src 'self' ${hash('a{}')}`],
  ["script-src x.com; script-src-elem 'self'", `script-src x.com; script-src-elem 'self' ${hash('boot()')}`],
  // A hash would take away what is allowed.
  ["script-src 'unsafe-inline'", "script-src 'unsafe-inline'"],
  // Where it is only for old browsers it counts for nothing.
  ["script-src 'unsafe-inline' 'strict-dynamic'", `script-src 'unsafe-inline' 'strict-dynamic' ${hash('boot()')}`],
  ['img-src *', 'img-src *'],
])('W65 %s allows the inline scripts and styles of the page', (policy, wanted) => {
  expect(written(policy, inline)).toBe(wanted);
});

it('W65 hashes what is run, as browsers read it', () => {
  const html = `
    <script type="module" crossorigin>a</script><SCRIPT
      data-x="a > b">b</SCRIPT ><script>c\r\nd</script><script type='importmap'>{}</script>
    <script type="application/ld+json">{"no": 1}</script><script type="text/template">no</script>
    <script src="/x.js">no</script><script async src=/y.js></script><script data-src="x">e</script><script>ü</script><script></script><scripty>no</scripty>`;
  expect(inlineHashes(html)).toEqual({ scripts: ['a', 'b', 'c\nd', '{}', 'e', 'ü', ''].map(hash), styles: [] });
});

it('W65 nonces are for pages', () => {
  const policy = withDefaults("script-src 'nonce-{{nonce}}'; style-src 'self' 'nonce-{{nonce}}'");
  expect(policyOf(withoutNonces(policy))).toMatch(/script-src 'none'; style-src 'self'$/);
});

it.each([
  ['', { 'x-frame-options': 'SAMEORIGIN' }],
  ["frame-ancestors 'none'", { 'x-frame-options': 'DENY' }],
  ['frame-ancestors https://portal.example.com', {}],
])('W65 X-Frame-Options says the same as %j', (policy, wanted) => {
  expect(frameOptions(withDefaults(policy))).toEqual(wanted);
});

it('W56 finds what a page needs', () => {
  const html = `<!-- <script src="/no.js"></script> --><link rel="icon" href="/no.ico"><link rel=preload href=/no.woff2>
    <script type=module src=/assets/a.js></script><script src="./b.js?v=1"></script><script src="https://cdn.example.com/no.js"></script>
    <link rel="modulepreload" href="assets/c.js"><link href='/assets/d%20e.css' rel='stylesheet'><script src="data:,no"></script>`;
  expect(neededFiles(html, '')).toEqual(['assets/a.js', 'b.js', 'assets/c.js', 'assets/d e.css']);
  expect(neededFiles(`<base href="/app/">${html}`, '/app')).toEqual(['b.js', 'assets/c.js']);
  expect(neededFiles('<script src="/app/x.js"></script><script src="/other/y.js"></script>', '/app')).toEqual(['x.js']);
});

it('W56 finds what a script loads later, if it is named after its content', () => {
  const isHashed = (name: string) => name.includes('4f9c2d1a');
  const script = `import("./lazy-4f9c2d1a.js");a=["assets/b-4f9c2d1a.css","/assets/c-4f9c2d1a.js"];"./plain.js"`;
  expect(laterFiles(script, 'assets/main.js', isHashed)).toEqual([
    ['assets/lazy-4f9c2d1a.js', 'lazy-4f9c2d1a.js'],
    ['assets/assets/b-4f9c2d1a.css', 'assets/b-4f9c2d1a.css'],
    ['assets/c-4f9c2d1a.js', 'assets/c-4f9c2d1a.js'],
  ]);
});

it('W56 knows half a page', () => {
  expect([isWhole('<html lang=en><p>'), isWhole('<HTML></HTML>'), isWhole('<title>no tags</title>')]).toEqual([
    false,
    true,
    true,
  ]);
});
