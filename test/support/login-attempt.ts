import { expect } from 'vitest';
import type { Page } from './browser/page.ts';
import type { JwtFault } from './evil-provider/faults.ts';
import { isLoggedIn } from './login-steps.ts';
import type { World } from './world.ts';

/** What became of one login. */
export interface LoginAttempt {
  page: Page;
  status: number;
  /** Our error code; `undefined` when the login went well. */
  code: string | undefined;
  isLoggedIn: boolean;
}

/** A new browser logs in; whatever the authorization server answers, the result is told and nothing is thrown. */
export async function attemptLogin(world: World): Promise<LoginAttempt> {
  const browser = world.browser();
  const page = await browser.login('/');
  // A login that went well goes on to `/`, which nobody serves here.
  const wentOn = page.hops.some((hop) => hop.url.includes('/bff/callback?') && hop.status === 303);
  const code = wentOn ? undefined : problemCode(page);
  return { page, status: wentOn ? 303 : page.status, code, isLoggedIn: await isLoggedIn(browser) };
}

/** The login fails in this way and leaves neither a session nor its transaction behind. */
export async function expectRefused(world: World, what: string, status: number, code: string): Promise<LoginAttempt> {
  const attempt = await attemptLogin(world);
  expect.soft({ what, status: attempt.status, code: attempt.code }, what).toEqual({ what, status, code });
  expect.soft(attempt.isLoggedIn, `${what}: logged in`).toBe(false);
  const kept = attempt.page.setCookies.filter((header) => !/Max-Age=0|Expires=Thu, 01 Jan 1970/i.test(header));
  expect.soft(kept, `${what}: cookies`).toEqual([]);
  return attempt;
}

/** The error code of one of our own answers, page or problem. */
export function problemCode(page: Page): string | undefined {
  return /details="(BFF_\w+)"/.exec(page.header('proxy-status') ?? '')?.[1];
}

export type IdTokenCase = [what: string, fault: JwtFault];

/** One login per case, whose ID token goes wrong in that way. */
export async function expectIdTokensRefused(
  world: World,
  cases: IdTokenCase[],
  status = 502,
  code = 'BFF_LOGIN_ANSWER_INVALID',
): Promise<void> {
  for (const [what, idToken] of cases) {
    world.provider.faults.idToken = idToken;
    await expectRefused(world, what, status, code);
  }
}

export async function expectIdTokensAccepted(world: World, cases: IdTokenCase[]): Promise<void> {
  for (const [what, idToken] of cases) {
    world.provider.faults.idToken = idToken;
    const { status, code, isLoggedIn } = await attemptLogin(world);
    expect.soft({ code, isLoggedIn }, `${what} (${status})`).toEqual({ code: undefined, isLoggedIn: true });
  }
}
