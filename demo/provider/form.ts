import type { Context } from 'koa';

/** The largest form of these pages has three short fields. */
const MAX_FORM_BYTES = 8 * 1024;

export type FormFields = Readonly<Record<string, string>>;

/** The fields of a posted form, or the status to refuse it with. */
export type PostedForm = { ok: true; fields: FormFields } | { ok: false; status: 403 | 413 | 415 };

/** Reads a form that one of our own pages posted; a form of another site is refused before its body is read. */
export async function readForm(ctx: Context, ownOrigin: string): Promise<PostedForm> {
  if (isCrossOrigin(ctx, ownOrigin)) return { ok: false, status: 403 };
  if (!ctx.is('application/x-www-form-urlencoded')) return { ok: false, status: 415 };
  let body = '';
  for await (const chunk of ctx.req.setEncoding('utf8')) {
    body += chunk;
    if (body.length > MAX_FORM_BYTES) return { ok: false, status: 413 };
  }
  return { ok: true, fields: Object.fromEntries(new URLSearchParams(body)) };
}

/**
 * Whether a browser says that another origin made this POST. Every current browser sends one of these two headers
 * with every POST, and no page can change them, so no hidden token is needed; the SameSite=Lax cookies, which a
 * cross-site POST does not carry, are the second lock. A script sends neither header, and carries no one's cookies.
 */
function isCrossOrigin(ctx: Context, ownOrigin: string): boolean {
  const fetchSite = ctx.get('sec-fetch-site');
  if (fetchSite) return fetchSite !== 'same-origin';
  const origin = ctx.get('origin');
  return origin !== '' && origin !== ownOrigin;
}
