import type { Page } from 'playwright-core';
import { describe, expect } from 'vitest';
import { enterPassword, expectNobody, expectUser, goToLogin, logIn, press } from './support/spa.ts';
import { it } from './support/story.ts';

describe('logging out, and two tabs of one browser', () => {
  it('logs out here and at the provider, and the next login asks for the password', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await logOut(tab);
    await tab.getByRole('button', { name: 'Yes, log me out' }).click();

    await expectNobody(tab);
    expect(new URL(tab.url()).pathname).toBe('/');
    expect(await visitor.context.cookies(demo.origin)).toEqual([]);
    visitor.expectFailedLoad(401, '/api/orders/me');
    expect((await press(tab, 'call-me-orders')).status).toBe('401');
    await goToLogin(tab, demo.origin);
    expect(new URL(tab.url()).origin).toBe(demo.issuer);
  });

  it('logs out of this site alone when the user stays logged in at the provider', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await logOut(tab);
    await tab.getByRole('button', { name: 'No, stay logged in' }).click();
    await expectNobody(tab);

    await tab.getByTestId('login').click();
    await expectUser(tab, 'alice');
  });

  it('answers 401 in one tab once the other has logged out', async ({ demo, visitor }) => {
    const [first, second] = [await visitor.openTab(), await visitor.openTab()];
    await logIn(first, demo.origin, 'bob');
    await second.goto(demo.origin);
    await expectUser(second, 'bob');
    expect((await press(second, 'call-orders')).status).toBe('200');

    const ticket = await visitor.context.cookies(demo.origin);
    await logOut(first);
    visitor.expectFailedLoad(401, '/api/orders/orders');
    expect(await press(second, 'call-orders')).toMatchObject({ status: '401', source: 'Cloakroom' });
    await expectNobody(second);
    // The session itself has ended, not only the cookie.
    await visitor.context.addCookies(ticket);
    visitor.expectFailedLoad(401, '/api/orders/orders');
    expect(await press(second, 'call-orders')).toMatchObject({ status: '401', source: 'Cloakroom' });
  });

  it('ends in one usable session when two tabs log in at once', async ({ demo, visitor }) => {
    const [first, second] = [await visitor.openTab(), await visitor.openTab()];
    await goToLogin(first, `${demo.origin}/#first`);
    await goToLogin(second, `${demo.origin}/#second`);
    await Promise.all([enterPassword(first, 'bob'), enterPassword(second, 'bob')]);

    await first.waitForURL(`${demo.origin}/#first`);
    await second.waitForURL(`${demo.origin}/#second`);
    // The page that landed first may have been loading when the other login replaced its session.
    for (const tab of [first, second]) await tab.reload({ waitUntil: 'networkidle' });
    visitor.forgiveFailedLoads(401);

    for (const tab of [first, second]) {
      await expectUser(tab, 'bob');
      expect((await press(tab, 'call-orders')).status).toBe('200');
    }
    const cookies = await visitor.context.cookies(demo.origin);
    // The answer to one callback may put the other's spent transaction back; nothing can be done with it, and it expires.
    expect(cookies.map(({ name }) => name).filter((name) => !name.includes('.login.'))).toEqual([
      `cloakroom_${new URL(demo.origin).port}`,
    ]);
  });
});

/** Presses "Log out" and waits for the provider's question. */
async function logOut(tab: Page): Promise<void> {
  await tab.getByTestId('logout').click();
  await tab.getByRole('button', { name: 'Yes, log me out' }).waitFor();
}
