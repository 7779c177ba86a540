import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { until } from '../support/wait.ts';
import { bearerOf, claimsOf, type KeycloakShop, startKeycloakShop, submit } from './support/keycloak-shop.ts';

// Cloakroom and an authorization server that we did not write, with the files that a newcomer starts from.

interface KeycloakEvent {
  sessionId?: string;
}

let shop: KeycloakShop;
beforeAll(async () => {
  shop = await startKeycloakShop();
  // Keycloak keeps no events of refreshes unless told to.
  const events = { eventsEnabled: true, enabledEventTypes: ['REFRESH_TOKEN'] };
  await shop.keycloak.admin('PUT', '/shop/events/config', events);
  await shop.keycloak.admin('POST', '/shop/users', {
    username: 'bob',
    enabled: true,
    firstName: 'Bob',
    lastName: 'Brown',
    email: 'bob@example.com',
    credentials: [{ type: 'password', value: 'bob' }],
  });
});
afterAll(() => shop?.stop());

const authorizationEndpoint = () => `${shop.keycloak.url}/realms/shop/protocol/openid-connect/auth`;

/** Calls the orders API and returns the claims of the token that arrived there. */
async function callOrders(browser: Browser) {
  const answer = await browser.fetch('/api/orders/1');
  expect({ status: answer.status, body: answer.text }).toEqual({ status: 200, body: '{"ok":true}' });
  return claimsOf(bearerOf(shop.orders.requests.at(-1)));
}

const subOf = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json<{ user: { sub: string } }>().user.sub;

describe('a login', () => {
  it('leads through Keycloak’s form and shows the user', async () => {
    const browser = shop.browser();
    const form = await browser.login('/');
    const request = form.hops.find(({ url }) => url.startsWith(`${authorizationEndpoint()}?`));
    // Keycloak offers pushed authorization requests: no other parameter of ours is in the address.
    expect([...new URL(request?.url as string).searchParams.keys()].toSorted()).toEqual(['client_id', 'request_uri']);

    const again = await submit(browser, form, { username: 'alice', password: 'wrong' });
    expect(again.text).toContain('Invalid username or password');
    const page = await submit(browser, again, { username: 'alice', password: 'alice' });
    expect({ url: page.url, text: page.text }).toEqual({
      url: `${shop.origin}/`,
      text: expect.stringContaining('<title>Shop</title>'),
    });
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({
      authenticated: true,
      user: { name: 'Alice Adams', preferred_username: 'alice', email: 'alice@example.com' },
    });
    expect(browser.rejectedCookies).toEqual([]);
  });

  it('without PKCE is refused by the realm', async () => {
    const parameters = { client_id: 'cloakroom', response_type: 'code', scope: 'openid' };
    const query = new URLSearchParams({ ...parameters, redirect_uri: `${shop.origin}/bff/callback` });
    const request = `${authorizationEndpoint()}?${query}`;
    const answer = await shop.browser().navigate(request, { followRedirects: false });
    expect(answer.header('location')).toMatch(/[?&]error=invalid_request&.*code_challenge_method/);
  });
});

describe('a call', () => {
  it('arrives with a token for that API alone, by exchange', async () => {
    const alice = await shop.loggedIn('alice', 'alice');
    expect(await callOrders(alice)).toMatchObject({ aud: 'orders-api', azp: 'cloakroom', sub: await subOf(alice) });
  });

  it('arrives with a token for that API alone, by scope', async () => {
    const alice = await shop.loggedIn('alice', 'alice');
    expect((await alice.fetch('/api/catalog')).status).toBe(200);
    const claims = claimsOf(bearerOf(shop.catalog.requests.at(-1)));
    expect(claims).toMatchObject({ aud: 'catalog-api', azp: 'cloakroom', sub: await subOf(alice) });
  });

  it('of a guest arrives with the service account’s token', async () => {
    expect((await shop.browser().fetch('/api/catalog')).status).toBe(200);
    const [client] = await shop.keycloak.admin<{ id: string }[]>('GET', '/shop/clients?clientId=cloakroom');
    const path = `/shop/clients/${client?.id}/service-account-user`;
    const { id } = await shop.keycloak.admin<{ id: string }>('GET', path);
    const claims = claimsOf(bearerOf(shop.catalog.requests.at(-1)));
    expect(claims).toMatchObject({ aud: 'catalog-api', azp: 'cloakroom', sub: id });
  });

  it('needs the role that the ID token carries', async () => {
    const bob = await shop.loggedIn('bob', 'bob');
    const before = shop.orders.requests.length;
    expect((await bob.fetch('/api/orders/1')).status).toBe(403);
    expect(shop.orders.requests).toHaveLength(before);
  });
});

describe('tokens', () => {
  it('are refreshed during calls, as Keycloak saw it, and the session goes on', async () => {
    const alice = await shop.loggedIn('alice', 'alice');
    const { sid, sub, exp } = await callOrders(alice);
    const refreshes = async () => {
      const events = await shop.keycloak.admin<KeycloakEvent[]>('GET', '/shop/events?type=REFRESH_TOKEN&max=1000');
      return events.filter(({ sessionId }) => sessionId === sid);
    };
    const before = await refreshes();
    // Longer than the login's token lives, and what was exchanged for it: no call may fail.
    const last = await until(
      async () => {
        const claims = await callOrders(alice);
        return claims.iat > exp && (await refreshes()).length > before.length && claims;
      },
      { timeoutMs: 180_000, message: 'a refresh' },
    );
    expect(last).toMatchObject({ aud: 'orders-api', sub, sid });
  });
});

describe('a logout', () => {
  /** Keycloak's sessions of this user. */
  const sessionsOf = async (sub: string) =>
    (await shop.keycloak.admin<{ id: string }[]>('GET', `/shop/users/${sub}/sessions`)).map(({ id }) => id);

  it('by the user ends both sessions, once Keycloak’s question is answered', async () => {
    const alice = await shop.loggedIn('alice', 'alice');
    const { sub, sid } = await callOrders(alice);
    expect(await sessionsOf(sub)).toContain(sid);
    const answer = await alice.fetch('/bff/logout', { method: 'POST' });
    const { endSessionUrl } = answer.json<{ endSessionUrl: string }>();
    expect(endSessionUrl).toContain(`${shop.keycloak.url}/realms/shop/protocol/openid-connect/logout?`);
    expect(await isLoggedIn(alice)).toBe(false);

    const question = await alice.navigate(endSessionUrl, { from: shop.origin });
    expect(question.text).toContain('Do you want to log out?');
    const page = await submit(alice, question);
    expect(page.url).toMatch(new RegExp(`^${shop.origin}/\\?state=`));
    expect(await sessionsOf(sub)).not.toContain(sid);
    const form = await alice.login('/');
    expect(form.url).toContain(shop.keycloak.url);
    expect(form.text).toContain('name="password"');
  });

  it('at Keycloak reaches Cloakroom by the back channel, and ends that session only', async () => {
    const alice = await shop.loggedIn('alice', 'alice');
    const elsewhere = await shop.loggedIn('alice', 'alice');
    const { sid } = await callOrders(alice);
    const events = await alice.open('/bff/events', { headers: { accept: 'text/event-stream' } });
    expect(events.status).toBe(200);
    await shop.keycloak.admin('DELETE', `/shop/sessions/${sid}`);
    await events.readUntil((text) => text.includes('"reason":"back-channel-logout"'));
    expect(await events.ended).toBe('complete');
    expect([await isLoggedIn(alice), await isLoggedIn(elsewhere)]).toEqual([false, true]);
    expect((await alice.fetch('/api/orders/1')).status).toBe(401);
  });
});
