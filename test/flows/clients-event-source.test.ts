import { afterEach, beforeEach, expect, it } from 'vitest';
import { logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type ClientPage, openPage } from '../support/clients/page.ts';
import { bff, recipe, recipeApis, runRecipe } from '../support/clients/recipe.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// EventSource in a page; here the one of the package of this name, which is what browsers have.

let world: World;
let browser: Browser;
let page: ClientPage;
/** Texts that the API streams next, each with its number as id. */
let texts: string[];
const sources: Source[] = [];

type Source = InstanceType<ClientPage['EventSource']>;

beforeEach(() => {
  texts = ['one', 'two'];
});
afterEach(async () => {
  for (const source of sources.splice(0)) source.close();
  await world.stop();
});

async function start(change: (api: ConfigData) => void = () => undefined): Promise<void> {
  world = await startWorld({
    store: 'memory',
    config(data) {
      Object.assign(data.apis, recipeApis('EventSource', data.apis.orders.upstream));
      change(data.apis.news);
    },
  });
  world.upstream.respond = async (request, socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 20\n\n');
    const from = Number(request.header('last-event-id') ?? 0);
    for (const [index, text] of texts.entries()) if (index >= from) socket.write(`id: ${index + 1}\ndata: ${text}\n\n`);
    await new Promise((resolve) => socket.once('close', resolve));
  };
  browser = await world.loggedIn();
  page = openPage(world, browser);
}

async function open(): Promise<{ source: Source; heard: string[] }> {
  const { bffFetch } = await runRecipe<{ bffFetch: typeof fetch }>(recipe(bff), page, {});
  const { source } = await runRecipe<{ source: Source }>(recipe('EventSource'), page, {
    './bff-fetch.js': { bffFetch },
  });
  sources.push(source);
  const heard: string[] = [];
  source.onmessage = ({ data }) => heard.push(data);
  return { source, heard };
}

it('hears events, with no header of its own', async () => {
  await start();
  const { heard } = await open();
  await until(() => heard.length === 2);
  expect(heard).toEqual(['one', 'two']);
  expect(world.upstream.requests[0]?.header('authorization')).toMatch(/^Bearer ./);
});

it('goes on where it was when the API dropped the stream', async () => {
  await start();
  const { heard } = await open();
  await until(() => heard.length === 2);
  texts.push('three');
  world.upstream.cut();
  await until(() => heard.length === 3);
  expect(heard).toEqual(['one', 'two', 'three']);
  expect(world.upstream.requests[1]?.header('last-event-id')).toBe('2');
  expect(page.left).toEqual([]);
});

it('ends with the session: it connects again by itself, gets 401 and stops, and the page goes to the login', async () => {
  await start();
  const { source, heard } = await open();
  await until(() => heard.length === 2);
  await logOut(browser);
  await until(() => page.left.length > 0);
  expect(page.left[0]).toMatch(/^\/bff\/login/);
  expect([source.readyState, page.statuses]).toEqual([2, [200, 401, 200]]); // the last is that of /bff/session
  expect(world.upstream.requests).toHaveLength(1);
});

it('is refused by a rule, and the page stays', async () => {
  await start((api) => Object.assign(api, { require: { roles: ['reader'] } }));
  const { source } = await open();
  await until(() => page.statuses.length === 2);
  expect([source.readyState, page.statuses, page.left]).toEqual([2, [403, 200], []]);
});

it('stops when the API is down for a moment: 502 is final to it, so the page must open another', async () => {
  await start();
  const { source, heard } = await open();
  await until(() => heard.length === 2);
  await world.upstream.stop();
  await until(() => source.readyState === 2);
  expect(page.statuses.slice(0, 2)).toEqual([200, 502]);
  expect(page.left).toEqual([]);
});
