import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { enterPassword, expectUser, goToLogin, logIn, press, rolesOf, shownClaims, textOf } from './support/spa.ts';
import { it } from './support/story.ts';

describe('logging in with a browser', () => {
  it('shows who is there and what the API received, and leaves scripts nothing to read', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');

    expect(new URL(tab.url()).href).toBe(`${demo.origin}/`);
    expect(await textOf(tab, 'user')).toBe('Alice Demo (alice)');
    expect(await rolesOf(tab)).toEqual(['admin', 'clerk']);
    expect(await textOf(tab, 'session-expiry')).toMatch(/^\d+:\d\d when idle, \d+:\d\d:\d\d at most$/);
    expect(await textOf(tab, 'token-expiry')).toMatch(/^\d:\d\d, then renewed$/);
    const { claims, receivedHeaders } = await shownClaims(tab);
    expect(claims).toMatchObject({ iss: demo.issuer, sub: 'alice', roles: ['admin', 'clerk'] });
    expect(receivedHeaders).toContain('authorization');
    expect(receivedHeaders).not.toContain('cookie');

    expect(await tab.evaluate('document.cookie')).toBe('');
    expect(await tab.evaluate('localStorage.length + sessionStorage.length')).toBe(0);
    for (const shown of ['cookies', 'local-storage', 'session-storage'])
      expect(await textOf(tab, shown)).toBe('(empty)');
    const cookies = await visitor.context.cookies(demo.origin);
    expect(cookies.map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite }))).toEqual([
      { name: `cloakroom_${new URL(demo.origin).port}`, httpOnly: true, sameSite: 'Strict' },
    ]);
    // For people to look at; the next run overwrites it.
    await tab.screenshot({ path: join(tmpdir(), 'cloakroom-logged-in.png'), fullPage: true });
  });

  it('says that a password is wrong and takes the right one afterwards', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await goToLogin(tab, demo.origin);
    visitor.expectFailedLoad(401, new URL(tab.url()).pathname);
    await enterPassword(tab, 'bob', 'not-the-password');
    await tab.getByRole('alert').waitFor();
    expect(await tab.getByRole('alert').innerText()).toBe('Wrong username or password. Try again.');
    expect((await visitor.context.cookies(demo.origin)).filter(({ name }) => !name.includes('.login.'))).toEqual([]);

    await enterPassword(tab, 'bob');
    await expectUser(tab, 'bob');
    expect(await rolesOf(tab)).toEqual(['clerk']);
  });

  it('registers a new user, who has no role and is told so by the API', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await goToLogin(tab, demo.origin);
    await tab.getByRole('link', { name: 'Register' }).click();
    await tab.getByLabel('Username').fill('erika');
    await tab.getByLabel('Password').fill('long-enough');
    await tab.getByRole('button', { name: 'Create account' }).click();

    await expectUser(tab, 'erika');
    expect(await rolesOf(tab)).toEqual(['no role']);
    expect((await press(tab, 'call-products')).status).toBe('200');
    visitor.expectFailedLoad(403, '/api/orders/orders');
    expect(await press(tab, 'call-orders')).toMatchObject({ status: '403', source: 'orders API' });
  });

  it('comes back to the deep link that the login began at, with query and hash', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    const deep = `${demo.origin}/shop/coats?size=m&q=a%26b#winter/2`;
    await logIn(tab, deep, 'carol');
    expect(tab.url()).toBe(deep);
  });
});
