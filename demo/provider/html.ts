/** Markup that is already safe: made by the `html` tag only, so that a plain string is always escaped. */
export interface SafeHtml {
  readonly markup: string;
}

/** Builds markup; every value put in is escaped unless it is SafeHtml itself. */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): SafeHtml {
  const markup = strings.reduce((before, text, index) => `${before}${toMarkup(values[index - 1])}${text}`);
  return { markup };
}

/** For markup that oidc-provider made itself. */
export function trustedMarkup(markup: string): SafeHtml {
  return { markup };
}

/** A whole page. It loads nothing but the provider's own style sheet and runs no script. */
export function buildPage(title: string, body: SafeHtml): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/provider.css">
</head>
<body>
<main>
<p class="brand">Demo OpenID provider</p>
<h1>${title}</h1>
${body}
</main>
</body>
</html>
`.markup;
}

/** What every page of ours is sent with. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  // No form-action: Chromium applies it to the redirects after the form as well, and a login ends at the application.
  'content-security-policy':
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
  // Not no-referrer: that would make the browser send `Origin: null` with our own forms (see form.ts).
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
};

export const STYLE_SHEET = `
:root { color-scheme: light; --ink: #1f2933; --soft: #52606d; --line: #cbd2d9; --accent: #1d4f6e; }
* { box-sizing: border-box; }
body { margin: 0; padding: 3rem 1rem; background: #eef1f4; color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 26rem; margin: 0 auto; padding: 2rem; background: #fff; border: 1px solid var(--line); border-radius: 10px; }
main:has(table) { max-width: 44rem; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.2; }
.brand { margin: 0 0 .25rem; color: var(--soft); font-size: .85rem; }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
input[type=text], input[type=password], select { width: 100%; padding: .6rem; font: inherit; border: 1px solid #7b8794; border-radius: 6px; }
button { padding: .6rem 1.1rem; font: inherit; font-weight: 600; color: #fff; background: var(--accent); border: 0; border-radius: 6px; cursor: pointer; }
main > form > button { width: 100%; margin-top: 1.25rem; }
button.quiet { color: var(--accent); background: #fff; border: 1px solid var(--accent); }
:focus-visible { outline: 3px solid #f0b429; outline-offset: 2px; }
a { color: var(--accent); }
.message { margin: 0 0 1rem; padding: .6rem .8rem; border-radius: 6px; background: #e3f0e8; }
.message.error { background: #fbe4e2; color: #8a1c13; }
.hint { color: var(--soft); font-size: .9rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .6rem .5rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td form { display: inline-block; margin: 0 .35rem .35rem 0; }
td button { padding: .25rem .6rem; font-size: .9rem; }
`;

type HtmlValue = string | number | SafeHtml | readonly SafeHtml[] | undefined;

function toMarkup(value: HtmlValue): string {
  if (value === undefined) return '';
  if (typeof value === 'string' || typeof value === 'number') return escapeHtml(String(value));
  if ('markup' in value) return value.markup;
  return value.map(({ markup }) => markup).join('');
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
