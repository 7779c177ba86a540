/** A page for a person whose navigation failed: plain, escaped, nothing to load (ER7, L5). */
export interface ErrorPage {
  title: string;
  message: string;
  code: string;
  requestId: string;
  /** Where "start again" leads. */
  again: string;
  /** Where a POST clears this site’s cookies, if that would help. */
  clearCookies?: string;
}

export function renderErrorPage({ title, message, code, requestId, again, clearCookies }: ErrorPage): string {
  const button =
    clearCookies === undefined
      ? ''
      : `<form method="post" action="${escapeHtml(clearCookies)}"><p><button>Clear this site’s cookies</button> That logs you out here.</p></form>\n`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em;color:#222}a{color:#0b57d0}small{color:#666}</style>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(message)}</p>
${button}<p><a href="${escapeHtml(again)}">Start again</a></p>
<p><small>${escapeHtml(code)} · ${escapeHtml(requestId)}</small></p>
</html>
`;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
