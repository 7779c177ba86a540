import { randomBytes } from 'node:crypto';
import { afterEach, expect, it } from 'vitest';
import { createGate, forceRefresh, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type Respond, reply, serverSentEvents } from '../support/echo-upstream/answers.ts';
import { logOutByProvider } from '../support/logout-token.ts';
import { onReplica } from '../support/ticket.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// Event streams that an API sends through the proxy: authorized once, and endless.

let world: World;
afterEach(() => world.stop());

const csrf = { 'x-csrf': '1' };
const beatFast = (data: ConfigData) => Object.assign(data.session, { idleTimeout: '8s' }); // a beat of 400 ms

async function* endless() {
  for (;;) {
    yield 'tick';
    await new Promise((resolve) => setTimeout(resolve, 20).unref());
  }
}
const tick: Respond = (request, socket) => serverSentEvents(endless())(request, socket);
const openTicks = async (browser: Browser) => {
  const stream = await browser.open('/api/orders/ticks', { headers: csrf });
  await stream.readUntil((text) => text.includes('tick'));
  return stream;
};

it('SSE of an API is cut on every replica when the session ends, others go on', async () => {
  world = await startWorld({ replicas: 2 });
  world.upstream.respond = tick;
  const browser = await world.loggedIn('alice');
  const streams = [await openTicks(browser), await openTicks(onReplica(world, 1, browser))];
  const other = await openTicks(await world.loggedIn('bob'));
  await logOut(browser);
  expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(['aborted', 'aborted']);
  const before = other.receivedBytes();
  await until(() => other.receivedBytes() > before, { message: 'more ticks for bob' });
  other.abort();
});

// The limit is below the 15 s of a beat: it must not take until then.
it('SSE of an API is cut when the session ended before the API answered', { timeout: 8000 }, async () => {
  world = await startWorld({ store: 'memory' }); // on Redis our own message would come back late, and help
  const gate = createGate();
  world.upstream.respond = async (request, socket) => {
    await gate.opened;
    await tick(request, socket);
  };
  const browser = await world.loggedIn();
  const opening = browser.open('/api/orders/ticks', { headers: csrf });
  await until(() => world.upstream.requests.length === 1);
  await logOut(browser);
  gate.open();
  expect(await (await opening).ended).toBe('aborted');
});

// Browsers take the last line (Fetch, "extract a MIME type").
it('SSE of an API is cut even where its type is the second of two', async () => {
  world = await startWorld({ store: 'memory' });
  world.upstream.respond = reply({
    headers: [
      ['Content-Type', 'text/plain'],
      ['Content-Type', 'text/event-stream'],
    ],
    body: endless(),
  });
  const browser = await world.loggedIn();
  const stream = await openTicks(browser);
  await logOut(browser);
  expect(await stream.ended).toBe('aborted');
});

it.each([
  'text/event-stream; charset=utf-8',
  'application/connect+json',
  'application/connect+proto',
  'application/grpc-web+proto',
  'application/grpc-web-text',
  'application/x-ndjson',
  'application/jsonl',
  'application/json-seq',
  'multipart/mixed; boundary=graphql; subscriptionSpec=1.0',
  'multipart/x-mixed-replace; boundary=frame',
])('an answer of the kind %s is cut like SSE, and no proxy is to hold it back', async (type) => {
  world = await startWorld({ store: 'memory' });
  world.upstream.respond = reply({ headers: [['Content-Type', type]], body: endless() });
  const browser = await world.loggedIn();
  const stream = await openTicks(browser);
  expect(stream.header('x-accel-buffering')).toBe('no');
  await logOut(browser);
  expect(await stream.ended).toBe('aborted');
});

it('SSE of an API is cut when the session runs out', async () => {
  world = await startTimedWorld({ config: beatFast });
  world.upstream.respond = tick;
  const stream = await openTicks(await world.loggedIn());
  world.clock.advance(8000);
  expect(await stream.ended).toBe('aborted');
});

it('SSE of an API is cut by every other kind of logout too', async () => {
  const adminKey = randomBytes(32).toString('hex');
  world = await startWorld({ replicas: 2, config: (data) => Object.assign(data.ops, { adminKey }) });
  world.upstream.respond = tick;
  const issuer = encodeURIComponent(world.provider.issuer);
  const kinds: Record<string, (browser: Browser, sid: string) => Promise<unknown>> = {
    'back-channel': (_browser, sid) => logOutByProvider(world, { sid, sub: null }),
    'front-channel': (_browser, sid) => world.browser().navigate(`/bff/frontchannel-logout?iss=${issuer}&sid=${sid}`),
    admin: (_browser, sid) =>
      world.app.ops.inject({
        method: 'DELETE',
        url: `/admin/sessions?iss=${issuer}&sid=${sid}`,
        headers: { authorization: `Bearer ${adminKey}` },
      }),
    everywhere: (browser) => browser.fetch('/bff/sessions', { method: 'DELETE', headers: csrf }),
    'another login': (browser) => browser.login('/'),
  };
  for (const [kind, end] of Object.entries(kinds)) {
    const sid = `sid-${kind.replaceAll(' ', '-')}`;
    world.provider.nextLogin({ sub: kind, sid });
    const browser = world.browser();
    await browser.login('/');
    const stream = await openTicks(onReplica(world, 1, browser));
    await end(browser, sid);
    expect(await stream.ended, kind).toBe('aborted');
  }
});

it('SSE of an API is cut when the roles that opened it are taken away, and goes on while they are enough', async () => {
  world = await startWorld({
    replicas: 2,
    config: (data) => Object.assign(data.apis.orders, { require: { roles: ['clerk'] } }),
  });
  world.upstream.respond = tick;
  const browser = await world.loggedIn('alice', { roles: ['clerk', 'admin'] });
  const stream = await openTicks(onReplica(world, 1, browser));
  world.provider.faults.refreshIdToken = [{ claims: { roles: ['clerk'] } }, { claims: { roles: ['reader'] } }];
  await forceRefresh(browser);
  const before = stream.receivedBytes();
  await until(() => stream.receivedBytes() > before + 100, { message: 'more ticks' });
  await forceRefresh(browser);
  expect(await stream.ended).toBe('aborted');
});

it('SSE of a public API holds up no replica that stops', async () => {
  world = await startWorld({
    store: 'memory',
    config(data) {
      data.apis.public = { path: '/api/public', upstream: data.apis.orders.upstream, token: 'none' };
    },
  });
  world.upstream.respond = tick;
  const stream = await world.browser().open('/api/public/ticks', { headers: csrf });
  await stream.readUntil((text) => text.includes('tick'));
  const stopped = world.stop();
  expect(await stream.ended).toBe('aborted');
  await stopped;
  world = await startWorld({ store: 'memory' }); // for `afterEach`
});

it('lines of JSON that come to an end are waited for by a replica that stops, endless ones for half of the grace', async () => {
  const grace = 4000;
  const openLines = async (lines: AsyncIterable<string>) => {
    world = await startWorld({
      store: 'memory',
      config: (data) => Object.assign(data, { shutdown: { grace: `${grace}ms` } }),
    });
    world.upstream.respond = reply({ headers: [['Content-Type', 'application/x-ndjson']], body: lines });
    return (await world.loggedIn()).open('/api/orders/export', { headers: csrf });
  };
  let isEnough = false;
  async function* lines(isEndless: boolean) {
    while (isEndless || !isEnough) {
      yield '{"line":1}\n';
      await new Promise((resolve) => setTimeout(resolve, 20).unref());
    }
    yield '{"last":true}\n';
  }
  const download = await openLines(lines(false));
  const stopped = world.stop();
  const before = download.receivedBytes();
  await until(() => download.receivedBytes() > before + 200, { message: 'more lines' });
  isEnough = true;
  expect(await download.ended).toBe('complete');
  await stopped;

  const subscription = await openLines(lines(true));
  const startedMs = performance.now();
  const stoppedAgain = world.stop();
  expect(await subscription.ended).toBe('aborted');
  expect(performance.now() - startedMs).toBeGreaterThan(grace / 2 - 100);
  expect(performance.now() - startedMs).toBeLessThan(grace);
  await stoppedAgain;
  world = await startWorld({ store: 'memory' }); // for `afterEach`
});
