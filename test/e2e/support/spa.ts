import type { Page } from 'playwright-core';
import { expect } from 'vitest';

/** What a person does on the demo's page and on the provider's pages. */

/** A click may wait on a busy machine. */
const PATIENCE = { timeout: 15_000 };

/** What the page shows about one call. */
export interface Shown {
  status: string;
  /** Who answered: Cloakroom, or one of the APIs. */
  source: string;
  body: unknown;
}

/** Opens the page and presses "Log in": ends at the provider's form. */
export async function goToLogin(tab: Page, url: string): Promise<void> {
  await tab.goto(url);
  await tab.getByTestId('login').click();
  await tab.getByLabel('Username').waitFor();
}

/** Fills in the provider's form and sends it. */
export async function enterPassword(tab: Page, username: string, password = username): Promise<void> {
  await tab.getByLabel('Username').fill(username);
  await tab.getByLabel('Password').fill(password);
  await tab.getByRole('button', { name: 'Log in' }).click();
}

export async function logIn(tab: Page, url: string, username: string): Promise<void> {
  await goToLogin(tab, url);
  await enterPassword(tab, username);
  await expectUser(tab, username);
  // What the page asks for by itself is there: no call of its own falls into what a test counts.
  await expectCatalog(tab, `as ${username}`);
  await shownClaims(tab);
}

/** Waits until the page says that this user is logged in. */
export async function expectUser(tab: Page, username: string): Promise<void> {
  await expect.poll(() => textOf(tab, 'user'), PATIENCE).toContain(`(${username})`);
}

/** Waits until the page shows the catalog, read as a guest, as this user, or not at all: `the session has ended`. */
export async function expectCatalog(tab: Page, as: string): Promise<void> {
  await expect.poll(() => textOf(tab, 'catalog-as'), PATIENCE).toContain(as);
}

export async function expectNobody(tab: Page): Promise<void> {
  await expect.poll(() => textOf(tab, 'user'), PATIENCE).toBe('Nobody is logged in');
}

export function textOf(tab: Page, testId: string): Promise<string> {
  return tab.getByTestId(testId).innerText();
}

export function rolesOf(tab: Page): Promise<string[]> {
  return tab.getByTestId('roles').locator('span').allInnerTexts();
}

/** Presses the button of a call (`call-orders`, `refresh`, …) and waits for what the page says of the answer. */
export async function press(tab: Page, testId: string): Promise<Shown> {
  const pending = '…';
  await tab.evaluate(`document.querySelector('[data-testid=result-status]').textContent = '${pending}'`);
  await tab.getByTestId(testId).click();
  await expect.poll(() => textOf(tab, 'result-status'), PATIENCE).not.toBe(pending);
  return {
    status: await textOf(tab, 'result-status'),
    source: (await textOf(tab, 'result-source')).replace('answered by ', ''),
    body: JSON.parse(await textOf(tab, 'result-body')),
  };
}

/** What the API said it received, as the page shows it. */
export async function shownClaims(tab: Page): Promise<{ claims: Record<string, unknown>; receivedHeaders: string[] }> {
  await expect.poll(() => textOf(tab, 'claims'), PATIENCE).toMatch(/^\{/);
  return JSON.parse(await textOf(tab, 'claims'));
}
