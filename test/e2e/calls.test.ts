import { describe, expect } from 'vitest';
import { enterPassword, logIn, press, rolesOf, shownClaims, textOf } from './support/spa.ts';
import { it } from './support/story.ts';

describe('calling APIs from a browser', () => {
  it('gets what the roles of the user allow; the API’s own 403, or that of a rule in front of it, for the rest', async ({
    demo,
    visitor,
  }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'bob');
    expect(await press(tab, 'call-orders')).toMatchObject({ status: '200', source: 'orders API' });
    expect(await press(tab, 'call-orders-create')).toMatchObject({
      status: '201',
      body: { order: { item: 'Hat', createdBy: 'bob' } },
    });
    expect(await press(tab, 'call-products')).toMatchObject({ status: '200', source: 'catalog API' });
    visitor.expectFailedLoad(403, '/api/catalog/products/1');
    expect(await press(tab, 'call-products-put')).toMatchObject({
      status: '403',
      source: 'Cloakroom',
      body: { code: 'BFF_POLICY_DENIED' },
    });
    visitor.expectFailedLoad(403, '/api/orders/orders/1');
    expect(await press(tab, 'call-orders-delete')).toMatchObject({
      status: '403',
      source: 'orders API',
      body: { error: 'forbidden', roles: ['clerk'] },
    });
  });

  it('is refused by Cloakroom itself without a ticket (401) and without the CSRF header (403)', async ({
    demo,
    visitor,
  }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    const arrived = demo.bearers.length;
    visitor.expectFailedLoad(401, '/api/orders/me');
    expect(await press(tab, 'call-without-ticket')).toMatchObject({
      status: '401',
      source: 'Cloakroom',
      body: { code: 'BFF_SESSION_REQUIRED' },
    });
    visitor.expectFailedLoad(403, '/api/orders/orders');
    expect(await press(tab, 'call-without-csrf-header')).toMatchObject({
      status: '403',
      source: 'Cloakroom',
      body: { code: 'BFF_CSRF_REJECTED' },
    });
    expect(demo.bearers).toHaveLength(arrived);
  });

  it('sends no token to a route that is marked so, also for somebody who is logged in', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    expect(await press(tab, 'call-news')).toMatchObject({ status: '200', body: { sawAuthorizationHeader: false } });
  });

  it('streams server-sent events as they come, until they are stopped', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'carol');
    const first = await press(tab, 'call-events');
    expect(first).toMatchObject({ status: '200', body: { tick: expect.any(Number) } });
    const { tick } = first.body as { tick: number };
    await expect.poll(async () => JSON.parse(await textOf(tab, 'result-body')).tick).toBeGreaterThan(tick);
    await tab.getByTestId('call-events').click();
  });

  it('brings a role that alice has just given to bob into bob’s next call after a refresh', async ({
    chromium,
    demo,
    visitor,
  }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'bob');
    visitor.expectFailedLoad(403, '/api/orders/orders/1');
    expect(await press(tab, 'call-orders-delete')).toMatchObject({ status: '403', source: 'orders API' });

    const alice = await chromium.newContext();
    const admin = await alice.newPage();
    await admin.goto(`${demo.issuer}/admin`);
    await enterPassword(admin, 'alice');
    await admin.getByRole('row', { name: /^bob/ }).getByRole('button', { name: 'add admin' }).click();
    expect(await admin.getByRole('status').innerText()).toBe('bob now has the role admin.');
    await alice.close();

    expect(await press(tab, 'refresh')).toMatchObject({ status: '200', source: 'Cloakroom' });
    expect(await rolesOf(tab)).toEqual(['admin', 'clerk']);
    await expect.poll(async () => (await shownClaims(tab)).claims.roles).toEqual(['admin', 'clerk']);
    expect(await press(tab, 'call-orders-delete')).toMatchObject({ status: '200', body: { deleted: 1 } });
    expect(new Set(demo.bearers).size).toBeGreaterThan(1);
  });
});
