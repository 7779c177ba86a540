import { afterEach, expect, it } from 'vitest';
import { type BearerWorld, startBearerWorld } from '../support/bearer-world.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, refusalOf } from '../support/websocket/page.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';

// WebSockets of programs that bring an access token of their own.

let world: BearerWorld;
afterEach(() => world.stop());

async function start(): Promise<void> {
  world = await startBearerWorld({
    config(data) {
      data.apis.both.websocket = { outliveToken: true, connectionsPerSession: 1 };
      data.apis.orders.websocket = {};
    },
  });
  world.upstream.respond = createWebSocketApi(echo).respond;
}
const path = '/api/both/ws';
const bearing = (token: string) => ({ authorization: `Bearer ${token}` });

it('need no Origin, but one that is there must be on the list', async () => {
  await start();
  const headers = bearing(world.mobile.accessToken({ sub: 'ann' }));
  expect((await refusalOf(world, undefined, { path, headers, origin: 'https://evil.example' })).status).toBe(403);
  const socket = await openWebSocket(world, undefined, { path, headers, origin: null });
  socket.socket.send('x');
  await until(() => socket.messages.includes('x'));
  expect(world.arrived().at(-1)).toBe(headers.authorization);
  expect(world.log.lines.find(({ msg }) => msg === 'websocket opened')).toMatchObject({
    caller: 'bearer',
    issuer: 'mobile',
    path,
  });
  // Counted for whoever the token is about.
  expect((await refusalOf(world, undefined, { path, headers, origin: null })).code).toBe('BFF_WEBSOCKET_LIMIT');
  const other = bearing(world.mobile.accessToken({ sub: 'ben', clientId: 'ben' }));
  (await openWebSocket(world, undefined, { path, headers: other, origin: null })).socket.terminate();
  socket.socket.terminate();
});

it('are no way around the Origin for a page with a session', async () => {
  await start();
  const alice = await world.loggedIn('alice');
  const headers = bearing(world.mobile.accessToken());
  expect((await refusalOf(world, alice, { path, origin: null })).code).toBe('BFF_WEBSOCKET_ORIGIN_REFUSED');
  expect((await refusalOf(world, alice, { path, origin: null, headers })).status).toBe(400);
  expect((await refusalOf(world, undefined, { path, origin: null, headers: bearing('made-up') })).status).toBe(401);
  const elsewhere = '/api/orders/ws'; // accepts sessions only
  expect((await refusalOf(world, alice, { path: elsewhere, origin: null, headers })).status).toBe(403);
  expect(world.upstream.requests).toEqual([]);
});

it('are closed when the token ends, whatever outliveToken says: nothing else lets them in', async () => {
  await start();
  const exp = Math.floor(world.clock.now() / 1000) + 3;
  const headers = bearing(world.mobile.accessToken({ claims: { exp } }));
  const before = performance.now();
  const socket = await openWebSocket(world, undefined, { path, headers, origin: null });
  expect(await socket.closed).toEqual({ code: 4401, reason: 'token-expired' });
  expect(performance.now() - before).toBeGreaterThan(2000);
});

it('get 502 when the API refuses their token, and it never gets another', async () => {
  await start();
  world.upstream.respondWith({ status: 401, headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']] });
  const headers = bearing(world.mobile.accessToken());
  const refusal = await refusalOf(world, undefined, { path, headers, origin: null });
  expect([refusal.status, refusal.code]).toEqual([502, 'BFF_WEBSOCKET_NOT_ACCEPTED']);
  expect(world.arrived()).toEqual([headers.authorization]);
});
