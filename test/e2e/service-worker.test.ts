import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';
import { startForeignSite } from './support/foreign-site.ts';
import { launchChromium } from './support/visitor.ts';

// W35: the service worker of the SPA passes navigations on, in the two ways that are in use.

const workers = {
  'fetch(event.request)': `addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));`,
  'navigation preload': `
    addEventListener('activate', (event) => event.waitUntil(registration.navigationPreload.enable()));
    addEventListener('fetch', (event) =>
      event.respondWith((async () => (await event.preloadResponse) ?? fetch(event.request))()));`,
};
const claim = `addEventListener('activate', (event) => event.waitUntil(clients.claim()));`;
const register = `(async () => {
  const controlled = new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve));
  await navigator.serviceWorker.register('/sw.js');
  await (navigator.serviceWorker.controller ?? controlled);
})()`;

describe.each(Object.entries(workers))('W35 with %s', (_how, worker) => {
  let folder: string;
  let world: World;
  let chromium: Browser;
  let tab: Page;
  beforeAll(async () => {
    chromium = await launchChromium();
    folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
    await cp('demo/spa', folder, { recursive: true });
    await writeFile(join(folder, 'sw.js'), claim + worker);
    world = await startTimedWorld({
      config(data) {
        data.files = folder;
      },
    });
    tab = await (await chromium.newContext()).newPage();
    await tab.goto(world.origin);
    await tab.evaluate(register);
  });
  afterAll(async () => {
    await chromium.close();
    await world.stop();
    await rm(folder, { recursive: true });
  });

  const sessionOf = () => tab.evaluate(`fetch('/bff/session').then((answer) => answer.json())`);

  it('W35 a deep link shows the SPA', async () => {
    const answer = await tab.goto(`${world.origin}/shop/coats/7`);
    expect([answer?.status(), answer?.fromServiceWorker()]).toEqual([200, true]);
    expect(await tab.title()).toBe('Cloakroom demo');
  });

  it('W35 a login logs in and comes back', async () => {
    await tab.evaluate(`location.href = '/bff/login?return_to=%2Fshop%3Fx%3D1'`);
    await tab.waitForURL(`${world.origin}/shop?x=1`);
    expect(await sessionOf()).toMatchObject({ authenticated: true, user: { sub: 'alice' } });
  });

  it('W35 a login that fails shows its page', async () => {
    world.provider.faults = { authorize: { error: 'access_denied' } };
    await tab.goto(`${world.origin}/bff/login?return_to=%2Fshop`);
    expect(await tab.locator('h1').innerText()).toBe('That did not work');
    world.provider.reset();
    await tab.getByRole('link', { name: 'Start again' }).click();
    await tab.waitForURL(`${world.origin}/shop`);
  });

  it('W35 another site begins no login through it', async () => {
    const site = await startForeignSite();
    site.body = `<a href="${world.origin}/bff/login?return_to=%2Fshop">log in</a>`;
    await tab.goto(site.origin);
    const before = world.provider.requestsTo('authorize').length;
    await tab.getByText('log in').click();
    await tab.getByRole('link', { name: 'Start again' }).waitFor();
    expect(world.provider.requestsTo('authorize')).toHaveLength(before);
    await site.stop();
  });
});

/** Looks into every page that it is asked for, as one that keeps pages for times without a network. */
const reader = `
  const seen = [];
  addEventListener('activate', (event) => event.waitUntil(registration.navigationPreload.enable()));
  addEventListener('message', (event) => event.source.postMessage(seen.join()));
  addEventListener('fetch', (event) =>
    event.respondWith((async () => {
      const answer = (await event.preloadResponse) ?? (await fetch(event.request));
      seen.push(new URL(event.request.url).pathname + ' ' + answer.type + ' ' + (await answer.clone().text()));
      return answer;
    })()));`;
const whatItSaw = `new Promise((resolve) => {
  navigator.serviceWorker.addEventListener('message', (event) => resolve(event.data));
  navigator.serviceWorker.startMessages();
  navigator.serviceWorker.controller.postMessage('');
})`;

it.each(['/bff/logout', '/bff/end-session'])('W45 shows the ID token to no service worker (%s)', async (path) => {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  await cp('demo/spa', folder, { recursive: true });
  await writeFile(join(folder, 'sw.js'), claim + reader);
  const world = await startTimedWorld({
    config(data) {
      data.files = folder;
      Object.assign(data.authorizationServer, { idTokenHint: 'post' });
    },
  });
  const chromium = await launchChromium();
  const tab = await (await chromium.newContext()).newPage();
  await tab.goto(`${world.origin}/bff/login`);
  await tab.evaluate(register);
  const address = await tab.evaluate<string>(
    path === '/bff/logout'
      ? `fetch('/bff/session').then((answer) => answer.json()).then(({ logoutUrl }) => location.origin + logoutUrl)`
      : `fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } })
          .then((answer) => answer.json()).then(({ endSessionUrl }) => endSessionUrl)`,
  );
  expect(new URL(address).pathname).toBe(path);
  await tab.goto(address);
  await expect.poll(() => world.provider.requestsTo('endSession')).toHaveLength(1);
  await tab.goto(`${world.origin}/`);
  const seen = await tab.evaluate<string>(whatItSaw);
  expect(seen).toContain(path);
  expect(seen).not.toContain('eyJ');
  await chromium.close();
  await world.stop();
  await rm(folder, { recursive: true });
});
