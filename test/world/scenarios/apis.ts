import { expect } from 'vitest';
import type { Browser } from '../../support/browser.ts';
import { type App, call, type RealWorld } from '../support/real-world.ts';

/** Calls an API and returns the claims of the token that arrived there. */
async function tokenAt(browser: Browser, shop: App, path: string): Promise<Record<string, unknown>> {
  const answer = await call(browser, shop, path);
  expect({ status: answer.status, body: answer.text }).toEqual({ status: 200, body: '{"ok":true}' });
  const [scheme, token = ''] = shop.api.requests.at(-1)?.header('authorization')?.split(' ') ?? [];
  expect(scheme).toBe('Bearer');
  return JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString());
}

export const apis = {
  async 'a token for each API, by exchange'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser();
    const claims = await tokenAt(await world.loggedIn(user), shop, '/api/orders/1');
    expect(claims).toMatchObject({ aud: 'orders-api', azp: shop.clientId, sub: user.sub });
    const exchange = server.relay.overheard.findLast(({ form }) => form.has('subject_token'));
    expect(exchange?.form.get('grant_type')).toBe('urn:ietf:params:oauth:grant-type:token-exchange');
  },

  async 'a token for each API, by scope'({ shop, server, ...world }: RealWorld) {
    const user = await server.addUser();
    const claims = await tokenAt(await world.loggedIn(user), shop, '/api/catalog');
    expect(claims).toMatchObject({ aud: 'catalog-api', azp: shop.clientId, sub: user.sub });
  },

  async 'a token of the application for guests'({ shop, server, ...world }: RealWorld) {
    const claims = await tokenAt(world.browser(), shop, '/api/catalog');
    expect(claims).toMatchObject({ aud: 'catalog-api', azp: shop.clientId });
    const grant = server.relay.overheard.findLast(({ form }) => form.get('grant_type') === 'client_credentials');
    const { access_token: token } = JSON.parse(grant?.answer as string);
    expect(shop.api.requests.at(-1)?.header('authorization')).toBe(`Bearer ${token}`);
  },
};
