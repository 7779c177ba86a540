import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import { describe, expect } from 'vitest';
import { startEchoUpstream } from '../support/echo-upstream.ts';
import { createChat } from '../support/websocket/upstream.ts';
import type { ConfigData } from '../support/world.ts';
import { logIn } from './support/spa.ts';
import { it as story } from './support/story.ts';

// Scripts for the page, as text: the tests' own TypeScript knows no DOM.
const open = (url: string) => `(() => {
  window.heard = [];
  window.ended = undefined;
  window.socket = new WebSocket('${url}');
  socket.onmessage = ({ data }) => heard.push(data);
  return new Promise((resolve) => {
    socket.onopen = () => resolve('open');
    socket.onclose = ({ code, reason }) => {
      window.ended = code + ' ' + reason;
      resolve(ended);
    };
  });
})()`;
const say = (text: string) => `socket.send('${text}')`;
const logOut = "fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } })";
const heard = (tab: Page) => tab.evaluate<string[]>('heard');
const ended = (tab: Page) => tab.evaluate<string | undefined>('ended');

/** With a chat among the demo's APIs. */
const it = story
  .extend('chat', () => createChat())
  .extend('upstream', async ({ chat }, { onCleanup }) => {
    const upstream = await startEchoUpstream();
    upstream.respond = chat.respond;
    onCleanup(() => upstream.stop());
    return upstream;
  })
  .extend('demoConfig', ({ upstream }) => (data: ConfigData) => {
    data.apis.chat = { ...data.apis.orders, path: '/api/chat', upstream: upstream.url, websocket: {} };
  });

describe('WebSockets in a browser', () => {
  it('carry a chat between the tabs of a page, until a logout in one of them', async ({
    demo,
    visitor,
    upstream,
    chat,
  }) => {
    const [one, two] = [await visitor.openTab(), await visitor.openTab()];
    await logIn(one, demo.origin, 'alice');
    await two.goto(demo.origin);
    const frames: string[] = [];
    two.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(String(payload))));
    for (const tab of [one, two]) expect(await tab.evaluate(open('/api/chat/live'))).toBe('open');
    await one.evaluate(say('hello'));
    await expect.poll(() => heard(two)).toEqual(['hello']);
    await two.evaluate(say('and back'));
    await expect.poll(() => heard(one)).toEqual(['hello', 'and back']);
    await expect.poll(() => frames).toEqual(['hello', 'and back']); // each tab hears it when it comes
    const [request] = upstream.requests;
    expect([request?.header('cookie'), request?.header('authorization')]).toEqual([
      undefined,
      expect.stringMatching(/^Bearer ./),
    ]);

    await one.evaluate(logOut);
    await expect.poll(() => ended(two), { timeout: 10_000 }).toBe('4401 logout');
    await expect.poll(() => chat.closed.length).toBe(2);
  });

  it('tell the page how the API ended them, also that it vanished', async ({ demo, visitor, chat }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'bob');
    const endings: [(socket: { close(code: number, reason: string): void; terminate(): void }) => void, string][] = [
      [(socket) => socket.close(4000, 'no more news'), '4000 no more news'],
      [(socket) => socket.terminate(), '1014 '],
    ];
    for (const [end, expected] of endings) {
      expect(await tab.evaluate(open('/api/chat/live'))).toBe('open');
      for (const socket of chat.sockets) end(socket);
      await expect.poll(() => ended(tab)).toBe(expected);
    }
  });

  it('are not for a page of another origin, which the cookie goes along with', async ({ demo, visitor, upstream }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'carol');
    // Another port of the same host is the same site: SameSite=Strict does not hold the cookie back.
    const evil = createServer((_request, response) => response.setHeader('content-type', 'text/html').end('<p>evil'));
    evil.listen(0, '127.0.0.1');
    await once(evil, 'listening');
    const foreign = await visitor.openTab();
    await foreign.goto(`http://localhost:${(evil.address() as AddressInfo).port}/`);
    visitor.expectFailedLoad(403, '');
    expect(await foreign.evaluate(open(`${demo.origin.replace('http', 'ws')}/api/chat/live`))).toMatch(/^1006/);
    expect(upstream.requests).toEqual([]);
    const refused = demo.log.lines.find(({ audit }) => audit === 'websocket_origin_refused');
    expect(refused).toMatchObject({ api: 'chat', origin: new URL(foreign.url()).origin });
    await foreign.close();
    evil.close();
    expect(await tab.evaluate(open('/api/chat/live'))).toBe('open');
    await tab.evaluate('socket.close()');
  });

  it('are closed for who has no session', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await tab.evaluate(logOut);
    visitor.expectFailedLoad(401, '');
    expect(await tab.evaluate(open('/api/chat/live'))).toMatch(/^1006/);
  });
});
