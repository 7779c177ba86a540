import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { rolldown } from 'rolldown';
import { describe, expect } from 'vitest';
import { createGate } from '../support/api-calls.ts';
import { startGreeter } from '../support/clients/greeter.ts';
import { bff, recipe } from '../support/clients/recipe.ts';
import { startHub } from '../support/clients/signalr-hub.ts';
import { startSocketIo } from '../support/clients/socket-io-api.ts';
import type { ConfigData } from '../support/world.ts';
import { expectUser, logIn, shownClaims } from './support/spa.ts';
import { it as story } from './support/story.ts';

// The recipes of docs/clients.md in a browser, bundled as an SPA is. The flows of the same names play the errors.

/** With an API by each of the libraries beside the demo’s. */
const it = story
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from the pattern what a fixture needs
  .extend('servers', async ({}, { onCleanup }) => {
    const servers = { greeter: await startGreeter(), hub: await startHub(), chat: await startSocketIo() };
    onCleanup(async () => {
      await Promise.all(Object.values(servers).map((server) => server.stop()));
    });
    return servers;
  })
  .extend('demoConfig', ({ servers }) => (data: ConfigData) => {
    const { greeter, hub, chat } = servers;
    data.apis.greeter = { ...data.apis.orders, path: '/api/greeter', upstream: greeter.url };
    data.apis.live = { ...data.apis.orders, path: '/api/live', upstream: hub.url, websocket: {} };
    data.apis.chat = { ...data.apis.orders, path: '/api/chat', upstream: chat.url, websocket: {} };
  });

/** Bundles a recipe and runs it in the tab; what it exports is `app` there. */
async function load(tab: Page, code: string): Promise<void> {
  const entry = join(import.meta.dirname, 'recipe.js');
  const files: Record<string, string> = {
    [entry]: code,
    [join(import.meta.dirname, 'bff-fetch.js')]: recipe(bff),
    [join(import.meta.dirname, 'greet_pb.js')]: "export * from '../support/clients/greeter-schema.ts';",
  };
  const bundle = await rolldown({
    input: entry,
    platform: 'browser',
    plugins: [
      {
        name: 'recipe',
        resolveId: (id, from) => [id, from && join(from, '..', id)].find((file) => file && file in files),
        load: (id) => files[id],
      },
    ],
  });
  const { output } = await bundle.generate({ format: 'iife', name: 'app' });
  await bundle.close();
  await tab.evaluate(`${output[0].code}\nwindow.app = app; window.heard = [];`);
}
const heard = (tab: Page) => tab.evaluate<unknown[]>('heard');

describe('in a browser', () => {
  it('Connect streams piece by piece', async ({ demo, visitor, servers: { greeter } }) => {
    const gate = createGate();
    greeter.count = async function* ({ text }) {
      yield { text: `${text} one` };
      await gate.opened;
      yield { text: `${text} two` };
    };
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await load(tab, recipe('Connect and gRPC-Web'));
    expect(await tab.evaluate("app.greeter.say({ text: 'page' }).then(({ text }) => text)")).toBe('hello page');
    await tab.evaluate(`void (async () => {
      for await (const { text } of app.greeter.count({ text: 'line' })) heard.push(text);
      heard.push('end');
    })()`);
    await expect.poll(() => heard(tab)).toEqual(['line one']); // the other is not made yet
    gate.open();
    await expect.poll(() => heard(tab)).toEqual(['line one', 'line two', 'end']);
    expect(greeter.requests[0]?.headers).toMatchObject({ authorization: expect.stringMatching(/^Bearer ./) });
  });

  it('SignalR talks both ways, and the end of the session leads to the login', async ({
    demo,
    visitor,
    servers: { hub },
  }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    // It would complain of the end, which is what this is about.
    await load(tab, recipe('SignalR').replace('.build()', ".configureLogging('none').build()"));
    await tab.evaluate("app.connection.on('said', (text) => heard.push(text)), app.start()");
    expect(await tab.evaluate("app.connection.invoke('echo', 'page')")).toBe('page');
    hub.broadcast('said', 'from the hub');
    await expect.poll(() => heard(tab)).toEqual(['from the hub']);
    expect(hub.requests.map(({ headers }) => headers.upgrade)).toEqual([undefined, 'websocket']);

    await tab.evaluate("fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } })");
    const script = () => tab.evaluate('typeof window.app').catch(() => 'on its way');
    await expect.poll(script, { timeout: 15_000 }).toBe('undefined');
    await expectUser(tab, 'alice'); // whom the provider still knows
    await shownClaims(tab);
    await expect.poll(() => hub.connections.size).toBe(0);
    visitor.forgiveFailedLoads(401); // a negotiation, before the page was left
  });

  it('socket.io polls, goes over to a WebSocket and talks both ways', async ({ demo, visitor, servers: { chat } }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'bob');
    await load(tab, recipe('socket.io').replaceAll('/api/live', '/api/chat'));
    await tab.evaluate("app.socket.on('said', (text) => heard.push(text)).connect() && undefined");
    await expect.poll(() => tab.evaluate('app.socket.io.engine?.transport.name'), { timeout: 5000 }).toBe('websocket');
    expect(await tab.evaluate("app.socket.emitWithAck('echo', 'page')")).toBe('page');
    chat.io.emit('said', 'from the API');
    await expect.poll(() => heard(tab)).toEqual(['from the API']);
    expect(new Set(chat.requests.map(({ method }) => method))).toEqual(new Set(['GET', 'POST']));
    await tab.evaluate('app.socket.disconnect() && undefined');
  });
});
