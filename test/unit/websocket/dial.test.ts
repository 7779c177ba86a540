import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import pino from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { createMetrics } from '../../../src/ops/metrics.ts';
import { createUpstream, type Upstream } from '../../../src/upstream/upstreams.ts';
import { type DialOptions, dial } from '../../../src/websocket/dial.ts';
import { createLogSink } from '../../support/log-sink.ts';

/** What a target that accepts connections does with a handshake. */
let answer: (socket: Socket) => void;
let server: Server;
let upstream: Upstream;
let browser: Socket;
let log: ReturnType<typeof createLogSink>;

beforeEach(async () => {
  answer = () => undefined;
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => answer(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const parsed = parseConfig(
    'dial.yaml',
    JSON.stringify({
      publicUrl: 'http://localhost:8080',
      authorizationServer: { issuer: 'http://localhost:1', clientId: 'cloakroom', clientSecret: 's'.repeat(32) },
      session: { keys: [randomBytes(32).toString('base64url')] },
      apis: { chat: { path: '/api/chat', upstream: `http://127.0.0.1:${port}`, websocket: {} } },
    }),
    {},
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const api = parsed.config.frontends[0]?.apis[0];
  if (api === undefined) throw new Error('no API');
  log = createLogSink();
  const options = { labels: { frontend: 'default', api: 'chat' }, metrics: createMetrics({ withProcess: false }) };
  upstream = createUpstream(api, { ...options, log: pino(log.stream) as never });
  browser = connect(port, '127.0.0.1'); // any socket that is open
  await once(browser, 'connect');
});
afterEach(async () => {
  browser.destroy();
  await upstream.close();
  await new Promise((resolve) => server.close(resolve));
});

const tryIt = (change: Partial<DialOptions>) =>
  dial({
    upstream,
    affinity: undefined,
    path: '/',
    headers: [],
    protocols: [],
    browser,
    timeoutMs: 2000,
    limits: { maxPayload: 1, maxFragments: 1, maxBufferedChunks: 1, closeTimeout: 1, perMessageDeflate: false },
    ...change,
  }).catch((error: unknown) => error);

const code = (error: unknown) => (error as { code?: string }).code;

it.each<[string, Partial<DialOptions>]>([
  ['a header without a value', { headers: ['x-forwarded-for', undefined as unknown as string] }],
  ['a header that Node does not write', { headers: ['x-name', 'line\nbreak'] }],
  ['a subprotocol that is none', { protocols: ['not a token'] }],
])('W1 %s, which is our fault, counts against no target', async (_what, change) => {
  for (let count = 0; count < 12; count++) expect(code(await tryIt(change))).toBe('BFF_INTERNAL');
  expect(upstream.targets[0].isUp).toBe(true);
  expect(log.warnings()).toEqual([]);
  await expect.poll(() => new Promise((resolve) => server.getConnections((_error, open) => resolve(open)))).toBe(1); // the browser's
});

it('W1 a browser that is gone already counts against no target', async () => {
  browser.resetAndDestroy();
  for (let count = 0; count < 12; count++) expect(await tryIt({})).toEqual({ kind: 'left-by-browser' });
  expect(upstream.targets[0].isUp).toBe(true);
});

it('W1 a target that resets each handshake is left out', async () => {
  answer = (socket) => socket.resetAndDestroy();
  for (let count = 0; count < 5; count++) expect(code(await tryIt({}))).toBe('BFF_UPSTREAM_UNREACHABLE');
  expect(upstream.targets[0].isUp).toBe(false);
  expect(code(await tryIt({}))).toBe('BFF_UPSTREAM_UNAVAILABLE');
});
