import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { createCertificates } from '../support/certificates.ts';
import { startEchoUpstream } from '../support/echo-upstream.ts';
import { startFrontends } from '../support/frontends.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, refusalOf } from '../support/websocket/page.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';
import { startWorld } from '../support/world.ts';

// WebSockets of several frontends, and to APIs behind TLS.

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

it.each(['host', 'path'] as const)('belong to their frontend, when frontends are apart by %s', async (apart) => {
  const frontends = await startFrontends(apart, ({ shop, office }) => {
    shop.apis.orders.websocket = {};
    office.apis.staff.websocket = { origins: ['https://intranet.example'] };
  });
  cleanups.push(() => frontends.stop());
  const { world, shop, office } = frontends;
  world.upstream.respond = createWebSocketApi(echo).respond;
  const browser = frontends.browser(shop, apart === 'path' ? { loginPath: '/shop/bff/login' } : {});
  await browser.login('/');
  const { origin, host, pathname } = new URL(shop);
  const at = (url: string, path: string) => `${new URL(url).pathname.replace(/\/$/, '')}${path}`;
  const page = await openWebSocket(world, browser, { path: at(shop, '/api/orders/ws'), origin, headers: { host } });
  page.socket.send('x');
  await until(() => page.messages.includes('x'));
  expect(world.upstream.requests[0]?.target).toBe('/orders/ws');
  page.socket.terminate();
  expect(pathname).toBe(apart === 'path' ? '/shop' : '/');

  const other = { path: at(office, '/api/staff/ws'), headers: { host: new URL(office).host } };
  expect((await refusalOf(world, browser, { ...other, origin })).code).toBe('BFF_WEBSOCKET_ORIGIN_REFUSED');
  const listed = await refusalOf(world, browser, { ...other, origin: 'https://intranet.example' });
  expect(listed.code).toBe('BFF_SESSION_REQUIRED');
});

it('go to an API behind TLS only when it can show who it is (T121)', async () => {
  const certificates = await createCertificates();
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-ws-'));
  const caFile = join(folder, 'ca.pem');
  await writeFile(caFile, certificates.ca);
  const good = await startEchoUpstream({ tls: certificates.good });
  const bad = await startEchoUpstream({ tls: certificates.selfSigned });
  good.respond = createWebSocketApi(echo).respond;
  bad.respond = createWebSocketApi(echo).respond;
  const world = await startWorld({
    store: 'memory',
    config(data) {
      data.apis.good = { path: '/api/good', upstream: good.url, caFile, websocket: {} };
      data.apis.bad = { path: '/api/bad', upstream: bad.url, caFile, websocket: {} };
    },
  });
  cleanups.push(
    () => rm(folder, { recursive: true, force: true }),
    good.stop,
    bad.stop,
    () => world.stop(),
  );
  const alice = await world.loggedIn();
  const page = await openWebSocket(world, alice, { path: '/api/good/ws' });
  page.socket.send('x');
  await until(() => page.messages.includes('x'));
  page.socket.terminate();
  const refusal = await refusalOf(world, alice, { path: '/api/bad/ws' });
  expect([refusal.status, refusal.code, bad.requests.length]).toEqual([502, 'BFF_UPSTREAM_UNREACHABLE', 0]);
});
