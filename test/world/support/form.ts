import { findForm, type Page } from '../../support/browser/page.ts';
import type { Browser } from '../../support/browser.ts';

/** The user fills in the form of this page and sends it. */
export function submit(browser: Browser, page: Page, fields: Record<string, string> = {}): Promise<Page> {
  const form = findForm(page.text, page.url);
  if (form === undefined) throw new Error(`no form at ${page.url}: ${page.status} ${page.text}`);
  const body = new URLSearchParams(form.body);
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  return browser.navigate(form.action, { from: new URL(page.url).origin, method: form.method, body });
}
