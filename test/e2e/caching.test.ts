import fc from 'fast-check';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CacheableApi, cachingLines, createCacheableApi } from '../support/cacheable-api.ts';
import { type Demo, startDemo } from '../support/demo.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { expectUser, logIn } from './support/spa.ts';
import { createVisitor, launchChromium, type Visitor } from './support/visitor.ts';

// W4: one browser with its own HTTP cache, and people who use it one after the other.

const URLS = 60;

// Scripts for the page, as text: the tests' own TypeScript knows no DOM.
/** Bodies, or the status of what is no success. */
const FETCH_ALL = `Promise.all(Array.from({ length: ${URLS} }, async (_, index) => {
  const answer = await fetch('/api/cached/' + index);
  return answer.ok ? answer.text() : answer.status;
}))`;
const LOG_OUT = `fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } }).then(({ status }) => status)`;

describe('what a browser keeps of API calls', () => {
  let chromium: Browser;
  let demo: Demo;
  let visitor: Visitor;
  let upstream: EchoUpstream;
  let api: CacheableApi;
  let tab: Page;

  beforeAll(async () => {
    chromium = await launchChromium();
    upstream = await startEchoUpstream();
    demo = await startDemo({
      config(data) {
        data.apis.cached = { ...data.apis.orders, path: '/api/cached', upstream: upstream.url, cache: true };
      },
    });
  });
  afterAll(async () => {
    await chromium.close();
    await demo.stop();
    await upstream.stop();
    expect(demo.log.errors()).toEqual([]);
  });
  beforeEach(async () => {
    upstream.reset();
    api = createCacheableApi();
    upstream.respond = api.respond;
    visitor = await createVisitor(chromium, demo);
    tab = await visitor.openTab();
  });
  afterEach(async () => {
    visitor.forgiveFailedLoads(401); // as often as nobody asks
    await visitor.leave();
  });

  const asked = async (): Promise<unknown[]> => tab.evaluate(FETCH_ALL);
  const all = (what: unknown) => Array.from({ length: URLS }, () => what);
  const arrivals = async (load: () => Promise<unknown>) => {
    const before = upstream.requests.length;
    await load();
    return upstream.requests.length - before;
  };
  /** Other headers in each run; the seed is in the message of what fails. */
  const sayAnything = () => {
    const seed = Date.now();
    fc.sample(cachingLines, { numRuns: URLS, seed }).forEach((lines, index) => {
      api.lines.set(`/${index}`, lines);
    });
    // Seen to go wrong.
    api.lines.set('/0', [['Cache-Control', 'private, max-age=600'], ['Vary', 'Authorization']]); // biome-ignore format: one line
    api.lines.set('/1', [['ETag', '"1"']]);
    return `seed ${seed}`;
  };
  /** As a session ends by itself: nobody tells the browser. */
  const loseSession = async () => {
    await visitor.context.clearCookies();
    await tab.goto(demo.origin);
  };

  it('W4 it keeps what it may, for the user whose it is', async () => {
    for (let index = 0; index < URLS; index++)
      api.lines.set(`/${index}`, [
        ['Cache-Control', index % 2 === 0 ? 'max-age=600' : 'no-cache'],
        ['ETag', '"1"'],
      ]);
    await logIn(tab, demo.origin, 'alice');
    expect(await arrivals(asked)).toBe(URLS);
    expect(await arrivals(asked)).toBe(URLS / 2);
    expect(upstream.requests.slice(-URLS / 2).map((request) => request.header('if-none-match'))).toEqual(
      Array.from({ length: URLS / 2 }, () => '"1"'),
    );
    expect(await asked()).toEqual(all('for alice'));
  });

  it('W4 nobody and bob never get what it kept of a session that just ended', async () => {
    const said = sayAnything();
    await logIn(tab, demo.origin, 'alice');
    expect(await asked(), said).toEqual(all('for alice'));
    await loseSession();
    expect(await asked(), said).toEqual(all(401));
    await logIn(tab, demo.origin, 'bob');
    expect(await asked(), said).toEqual(all('for bob'));
    expect(await asked(), said).toEqual(all('for bob'));
  });

  it('W4 nor of one that was logged out, and then it keeps nothing', async () => {
    const said = sayAnything();
    for (let index = 2; index < URLS / 2; index++) api.lines.set(`/${index}`, [['Cache-Control', 'max-age=600']]);
    await logIn(tab, demo.origin, 'alice');
    const cookies = await visitor.context.cookies();
    expect(await asked(), said).toEqual(all('for alice'));
    expect(await arrivals(asked)).toBeLessThan(URLS);
    expect(await tab.evaluate(LOG_OUT)).toBe(200);
    // With the very cookie that it was kept for, so that Vary lets it pass.
    await visitor.context.addCookies(cookies);
    expect(await asked(), said).toEqual(all(401));
    await loseSession();
    expect(await asked(), said).toEqual(all(401));
    await logIn(tab, demo.origin, 'bob');
    await expectUser(tab, 'bob');
    expect(await asked(), said).toEqual(all('for bob'));
  });
});
