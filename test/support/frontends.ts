import { type Browser, type BrowserOptions, createBrowser } from './browser.ts';
import { assertNoSecrets } from './canary.ts';
import { startEvilProvider } from './evil-provider.ts';
import { type ConfigData, startWorld, type World } from './world.ts';

type Provider = Awaited<ReturnType<typeof startEvilProvider>>;

/** Two frontends in one Cloakroom, each with a provider and a client of its own. */
export interface Frontends {
  world: World;
  /** The provider of `office`; the one of `shop` is `world.provider`. */
  officeProvider: Provider;
  /** Public URLs. */
  shop: string;
  office: string;
  browser(origin: string, options?: Partial<BrowserOptions>): Browser;
  stop(): Promise<void>;
}

/** `host`: shop.localhost and office.localhost. `path`: /shop and /office on one host. */
export async function startFrontends(
  apart: 'host' | 'path',
  change?: (frontends: ConfigData) => void,
  shared: ConfigData = {},
): Promise<Frontends> {
  const officeProvider = await startEvilProvider({ clientId: 'office-client', audience: 'office-api' });
  const browsers: Browser[] = [];
  const urls = { shop: '', office: '' };
  const world = await startWorld({
    provider: { clientId: 'shop-client', audience: 'shop-api' },
    config: (data) => {
      const { port } = data.listen as { port: number };
      urls.shop = apart === 'host' ? `http://shop.localhost:${port}` : `http://localhost:${port}/shop`;
      urls.office = apart === 'host' ? `http://office.localhost:${port}` : `http://localhost:${port}/office`;
      const { upstream } = data.apis.orders;
      const { issuer, clientId, clientSecret } = officeProvider;
      data.frontends = {
        shop: {
          publicUrl: urls.shop,
          authorizationServer: data.authorizationServer,
          apis: { orders: { path: '/api/orders', upstream, rewritePath: '/orders' } },
        },
        office: {
          publicUrl: urls.office,
          authorizationServer: { ...data.authorizationServer, issuer, clientId, clientSecret },
          apis: { staff: { path: '/api/staff', upstream, rewritePath: '/staff' } },
        },
      };
      for (const key of ['publicUrl', 'authorizationServer', 'apis']) delete data[key];
      Object.assign(data, shared);
      change?.(data.frontends);
    },
  });
  return {
    world,
    officeProvider,
    ...urls,
    browser(origin, options = {}) {
      const created = createBrowser({ origin, ...options });
      browsers.push(created);
      return created;
    },
    async stop() {
      for (const { history } of browsers) {
        for (const hop of history.filter(({ url }) => new URL(url).port === String(world.port))) {
          world.alsoSearch(`answer of ${hop.url}`, `${JSON.stringify(hop.headers)}\n${hop.body?.toString('latin1')}`);
        }
      }
      const secrets = officeProvider.issuedSecrets();
      await Promise.all(browsers.map((one) => one.close()));
      await world.stop();
      await officeProvider.stop();
      assertNoSecrets({ secrets, haystacks: [{ name: 'log', text: world.log.text() }] });
    },
  };
}
