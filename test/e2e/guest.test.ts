import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { describe, expect } from 'vitest';
import { enterPassword, expectCatalog, expectNobody, expectUser, logIn, press, shownClaims } from './support/spa.ts';
import { it } from './support/story.ts';

describe('looking around as a guest', () => {
  it('shows the catalog with the application’s token, then as alice, then as a guest again', async ({
    demo,
    visitor,
  }) => {
    const tab = await visitor.openTab();
    await tab.goto(demo.origin);
    await expectNobody(tab);
    await expectCatalog(tab, 'as a guest: the application’s token');
    expect(await tab.getByTestId('products').locator('li').count()).toBe(3);
    const { claims, receivedHeaders } = await shownClaims(tab);
    expect(claims).toMatchObject({ sub: 'cloakroom-demo', aud: 'urn:cloakroom:demo:catalog', roles: ['reader'] });
    expect(receivedHeaders).not.toContain('cookie');
    expect(await visitor.context.cookies(demo.origin)).toEqual([]);
    // For people to look at; the next run overwrites it.
    await tab.screenshot({ path: join(tmpdir(), 'cloakroom-guest.png'), fullPage: true });

    visitor.expectFailedLoad(401, '/api/orders/orders');
    expect(await press(tab, 'call-orders')).toMatchObject({
      status: '401',
      source: 'Cloakroom',
      body: { code: 'BFF_SESSION_REQUIRED', loginUrl: '/bff/login' },
    });
    visitor.expectFailedLoad(401, '/api/catalog/products/1');
    expect(await press(tab, 'call-products-put')).toMatchObject({ status: '401', source: 'Cloakroom' });
    const arrived = demo.bearers.map((bearer) => decodeJwt(bearer).sub);
    expect(new Set(arrived)).toEqual(new Set(['cloakroom-demo']));

    // The answer to the refused call has a link to log in.
    await tab.locator('#result-login-link').click();
    await enterPassword(tab, 'alice');
    await expectUser(tab, 'alice');
    await expectCatalog(tab, 'as alice: the user’s token');
    expect((await press(tab, 'call-products-put')).status).toBe('200');

    await tab.getByTestId('logout').click();
    await tab.getByRole('button', { name: 'Yes, log me out' }).click();
    await expectNobody(tab);
    await expectCatalog(tab, 'as a guest');
    expect(await press(tab, 'call-me-catalog')).toMatchObject({ body: { claims: { sub: 'cloakroom-demo' } } });
  });

  it('makes no guest of somebody whose session was lost, until they say so (DT8)', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'bob');
    const other = await visitor.openTab();
    await other.goto(`${demo.issuer}/session/end`);
    // The provider tells Cloakroom by back-channel logout; this browser's ticket stays.
    await other.getByRole('button', { name: 'Yes, log me out' }).click();
    await other.getByText('You are logged out of this provider.').waitFor();
    expect(await visitor.context.cookies(demo.origin)).toHaveLength(1);

    const arrived = demo.bearers.length;
    visitor.expectFailedLoad(401, '/api/catalog/products');
    expect(await press(tab, 'call-products')).toMatchObject({
      status: '401',
      source: 'Cloakroom',
      body: { code: 'BFF_SESSION_REQUIRED', loginUrl: '/bff/login' },
    });
    await expectNobody(tab);
    await expectCatalog(tab, 'the session has ended');
    expect(demo.bearers).toHaveLength(arrived);
    await tab.screenshot({ path: join(tmpdir(), 'cloakroom-lost-session.png'), fullPage: true });

    await tab.getByTestId('as-guest').click();
    await expectCatalog(tab, 'as a guest');
    expect(await visitor.context.cookies(demo.origin)).toEqual([]);
    expect(demo.bearers.slice(arrived).map((bearer) => decodeJwt(bearer).sub)).not.toContain('bob');
  });
});
