import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { openRaw, rawRequest } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';
import { openWebSocket, refusalOf } from '../support/websocket/page.ts';
import { frame, handshake, openRawWebSocket } from '../support/websocket/raw.ts';
import { createWebSocketApi, echo, type WebSocketApi } from '../support/websocket/upstream.ts';
import { startWorld, type World } from '../support/world.ts';

// T99–T104 (T103 is in test/flows/websocket-endings.test.ts): WebSockets as an attacker would have them.

let world: World;
let api: WebSocketApi;
let alice: Browser;

beforeAll(async () => {
  world = await startWorld({
    config(data) {
      const { upstream } = data.apis.orders;
      data.apis.orders.websocket = { connectionsPerSession: 1000 };
      data.apis.orders.routes = [{ path: '/admin', require: { roles: ['admin'] } }];
      data.apis.plain = { path: '/api/plain', upstream };
      data.apis.public = { path: '/api/public', upstream, token: 'none' };
      data.apis.shared = { path: '/api/shared', upstream, websocket: { origins: ['https://partner.example'] } };
    },
  });
  alice = await world.loggedIn('alice', { roles: ['clerk'] });
});
afterAll(() => world.stop());
beforeEach(() => {
  world.upstream.reset();
  api = createWebSocketApi(echo);
  world.upstream.respond = api.respond;
});
afterEach(() => {
  for (const socket of api.sockets) socket.terminate();
});

/** Sends it, and has everything until the connection is closed. */
const attempt = (data: string) => rawRequest(world.port, data, { untilClose: true, timeoutMs: 5000 });
const codeIn = (body: string) => (JSON.parse(body) as { code: string }).code;

describe('T99 an upgrade where none is offered', () => {
  it.each([
    ['/api/plain/ws', 400],
    ['/api/public/ws', 400],
    ['/bff/session', 400],
    ['/bff/events', 400],
    ['/nothing/here', 400],
    ['/', 400],
    ['*', 400],
  ])('at %s is refused, and the connection is closed', async (target, status) => {
    const result = await attempt(handshake(world, alice, {}, `GET ${target} HTTP/1.1`));
    expect([result.status, codeIn(result.body), result.closed]).toEqual([status, 'BFF_WEBSOCKET_REFUSED', true]);
    expect(world.upstream.requests).toEqual([]);
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD'])('by %s is refused', async (method) => {
    const result = await attempt(
      handshake(world, alice, { Connection: 'Upgrade, close' }, `${method} /api/orders/ws HTTP/1.1`),
    );
    expect([result.status, result.closed]).toEqual([400, true]);
    expect(world.upstream.requests).toEqual([]);
  });

  it('of CONNECT is refused', async () => {
    const result = await attempt(`CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:${world.port}\r\n\r\n`);
    expect(result.responses.every(({ status }) => status >= 400)).toBe(true);
    expect(result.closed).toBe(true);
  });

  it.each(['h2c', 'TLS/1.0', 'websocket2', 'foo, websocket', 'h2c, websocket'])(
    'to %s is an ordinary request',
    async (protocol) => {
      world.upstream.respond = reply({ body: { ok: true } });
      const change = {
        Upgrade: protocol,
        Connection: 'Upgrade, HTTP2-Settings',
        'HTTP2-Settings': 'AAMAAABkAAQCAAAAAAIAAAAA',
        'X-CSRF': '1',
      };
      const result = await rawRequest(world.port, handshake(world, alice, change));
      expect([result.status, result.body]).toEqual([200, '{"ok":true}']);
      expect(world.upstream.requests[0]?.header('upgrade')).toBeUndefined();
      expect(world.upstream.requests[0]?.header('http2-settings')).toBeUndefined();
    },
  );

  it('of h2c keeps its body and its connection', async () => {
    world.upstream.respond = reply({ body: { ok: true } });
    const head = handshake(
      world,
      alice,
      { Upgrade: 'h2c', 'X-CSRF': '1', 'Content-Type': 'text/plain', 'Content-Length': '5' },
      'POST /api/orders/1 HTTP/1.1',
    );
    const connection = await openRaw(world.port);
    await connection.write(`${head}hello`);
    expect((await connection.response()).status).toBe(200);
    await connection.write(`${head}again`);
    expect((await connection.response(2)).status).toBe(200);
    expect(world.upstream.requests.map(({ body }) => String(body))).toEqual(['hello', 'again']);
    connection.close();
  });

  it('of h2c is refused by a Node that takes every upgrade out of HTTP (before 22.21)', async () => {
    const server = world.app.server.server as unknown as { shouldUpgradeCallback: () => boolean };
    const { shouldUpgradeCallback } = server;
    server.shouldUpgradeCallback = () => true;
    const result = await attempt(handshake(world, alice, { Upgrade: 'h2c', 'X-CSRF': '1' }));
    expect([result.status, codeIn(result.body), result.closed]).toEqual([400, 'BFF_REQUEST_MALFORMED', true]);
    const page = await openWebSocket(world, alice);
    page.socket.terminate();
    server.shouldUpgradeCallback = shouldUpgradeCallback;
  });

  it('with a body is refused: it would be taken for frames', async () => {
    for (const framing of [{ 'Content-Length': '5' }, { 'Transfer-Encoding': 'chunked' }]) {
      const result = await attempt(
        `${handshake(world, alice, { ...framing, Connection: 'Upgrade, close' })}5\r\nhello\r\n0\r\n\r\n`,
      );
      expect(result.responses.map(({ status }) => status)).toEqual([400]);
      expect(result.closed).toBe(true);
      // Also when it is only announced.
      const head = await rawRequest(world.port, handshake(world, alice, framing));
      expect([head.status, codeIn(head.body)]).toEqual([400, 'BFF_WEBSOCKET_REFUSED']);
    }
    expect(world.upstream.requests).toEqual([]);
  });

  it('behind a request that is not answered yet takes nobody down', async () => {
    world.upstream.respond = () => new Promise(() => undefined);
    const connection = await openRaw(world.port);
    const ordinary = handshake(world, alice, { Upgrade: null, Connection: null, 'X-CSRF': '1' });
    await connection.write(`${ordinary}${handshake(world, alice)}`);
    expect(await connection.peerClosed()).toBe(true);
    world.upstream.respond = reply({ body: { ok: true } });
    expect((await alice.fetch('/api/orders/1')).status).toBe(200);
  });

  it('with bytes behind it that nobody waited for is refused, now or while the API thinks', async () => {
    const now = await attempt(`${handshake(world, alice)}GET /bff/session HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect([now.responses.map(({ status }) => status), now.closed]).toEqual([[400], true]);
    world.upstream.respond = () => new Promise(() => undefined);
    const connection = await openRaw(world.port);
    await connection.write(handshake(world, alice));
    await until(() => world.upstream.active === 1);
    await connection.write(frame({ payload: 'early' }));
    expect((await connection.response()).status).toBe(400);
    expect(await connection.peerClosed()).toBe(true);
    await until(() => world.upstream.connections === 0);
  });

  it.each<[string, Record<string, string | string[] | null>]>([
    ['no key', { 'Sec-WebSocket-Key': null }],
    ['a short key', { 'Sec-WebSocket-Key': 'AAAA' }],
    ['two keys', { 'Sec-WebSocket-Key': ['AAAAAAAAAAAAAAAAAAAAAA==', 'BBBBBBBBBBBBBBBBBBBBBA=='] }],
    ['no version', { 'Sec-WebSocket-Version': null }],
    ['an old version', { 'Sec-WebSocket-Version': '8' }],
    ['a subprotocol twice', { 'Sec-WebSocket-Protocol': 'a, a' }],
    ['a subprotocol that is none', { 'Sec-WebSocket-Protocol': 'a b' }],
    ['an empty subprotocol', { 'Sec-WebSocket-Protocol': 'a,,b' }],
    ['two hosts', { Host: ['localhost', 'localhost'] }],
    ['101 header lines', { X: Array.from({ length: 101 }, () => '1') }],
  ])('with %s is no handshake', async (_name, change) => {
    const result = await attempt(handshake(world, alice, change));
    expect(result.status).toBeGreaterThanOrEqual(400);
    expect(result.status).toBeLessThan(500);
    expect(result.closed).toBe(true);
    expect(world.upstream.requests).toEqual([]);
    if ('Sec-WebSocket-Version' in change) expect(result.text).toMatch(/^sec-websocket-version: 13\r$/im);
  });

  it('in HTTP/1.0 is none', async () => {
    const result = await attempt(handshake(world, alice, {}, 'GET /api/orders/ws HTTP/1.0'));
    expect([result.status, result.closed]).toEqual([400, true]);
  });

  it('for another host is refused', async () => {
    const result = await attempt(handshake(world, alice, { Host: 'evil.example' }));
    expect([result.status, codeIn(result.body), result.closed]).toEqual([421, 'BFF_HOST_UNKNOWN', true]);
  });
});

describe('T100 a handshake without a session', () => {
  it.each<[string, (ticket: string) => string | null]>([
    ['no cookie', () => null],
    ['an empty cookie', () => 'cloakroom='],
    ['a forged cookie', (ticket) => `cloakroom=${ticket.slice(0, -3)}AAA`],
    ['a cookie without its signature', (ticket) => `cloakroom=${ticket.split('.')[0]}`],
    ['two cookies', (ticket) => `cloakroom=${ticket}; cloakroom=x`],
    ['a cookie of another name', (ticket) => `Cloakroom=${ticket}`],
  ])('(%s) gets 401 before 101, and nothing reaches the API', async (_name, cookie) => {
    const change = { Cookie: cookie(alice.cookie('cloakroom')?.value ?? '') };
    const result = await attempt(handshake(world, undefined, change));
    expect([result.status, codeIn(result.body), result.closed]).toEqual([401, 'BFF_SESSION_REQUIRED', true]);
    expect(world.upstream.requests).toEqual([]);
  });

  it('(it has ended) gets 401', async () => {
    const bob = await world.loggedIn('bob');
    const thief = bob.clone();
    await bob.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect((await refusalOf(world, thief)).code).toBe('BFF_SESSION_REQUIRED');
    await thief.close();
  });

  it.each([
    ['/%61pi/orders/ws', 400],
    ['/api/%6Frders/ws', 400],
    ['//api/orders/ws', 400],
    ['/api/orders/../orders/ws', 400],
    ['/api/orders%2Fws', 400],
    ['/API/orders/ws', 400],
    ['/api/ordersX/ws', 400],
  ])('at a path that is written otherwise (%s) is none', async (target, status) => {
    const result = await attempt(handshake(world, alice, {}, `GET ${target} HTTP/1.1`));
    expect([result.status, result.closed]).toEqual([status, true]);
    expect(world.upstream.requests).toEqual([]);
  });

  it.each(['/api/orders/admin', '/api/orders/%61dmin/x', '/api/orders/admin;v=1'])(
    'that a rule of its path refuses (%s) gets 403',
    async (path) => {
      const refusal = await refusalOf(world, alice, { path });
      expect([refusal.status, refusal.code]).toEqual([403, 'BFF_POLICY_DENIED']);
      expect(world.upstream.requests).toEqual([]);
    },
  );

  it('that has been here before gets 508', async () => {
    const via = world.upstream.requests;
    const page = await openWebSocket(world, alice);
    const refusal = await refusalOf(world, alice, { headers: { via: via[0]?.header('via') ?? '' } });
    expect(refusal.code).toBe('BFF_LOOP_DETECTED');
    page.socket.terminate();
  });
});

describe('T101 a page of another origin', () => {
  const own = () => world.origin;
  it.each<[string, () => string | string[] | null]>([
    ['none', () => null],
    ['null', () => 'null'],
    ['an evil one', () => 'https://evil.example'],
    ['the same host with https', () => own().replace('http:', 'https:')],
    ['the same host on another port', () => 'http://localhost:1'],
    ['ours as a prefix', () => `${own()}.evil.example`],
    ['ours as a suffix', () => `http://evil-localhost:${world.port}`],
    ['ours as user info', () => `${own()}@evil.example`],
    ['in other case', () => own().toUpperCase()],
    ['with a slash', () => `${own()}/`],
    ['with a path', () => `${own()}/api`],
    ['twice, ours first', () => [own(), 'https://evil.example']],
    ['twice, ours last', () => ['https://evil.example', own()]],
    ['a list', () => `${own()} https://evil.example`],
    ['the address', () => `http://127.0.0.1:${world.port}`],
    ['that of the partner of another API', () => 'https://partner.example'],
  ])('(%s) gets 403 before 101', async (_name, origin) => {
    const result = await attempt(handshake(world, alice, { Origin: origin(), 'X-CSRF': '1' }));
    expect([result.status, codeIn(result.body), result.closed]).toEqual([403, 'BFF_WEBSOCKET_ORIGIN_REFUSED', true]);
    expect(world.upstream.requests).toEqual([]);
  });

  it('that the API lists is let in, and ours no more', async () => {
    const path = '/api/shared/ws';
    (await openWebSocket(world, alice, { path, origin: 'https://partner.example' })).socket.terminate();
    expect((await refusalOf(world, alice, { path })).code).toBe('BFF_WEBSOCKET_ORIGIN_REFUSED');
  });

  it('is told nothing about sessions', async () => {
    const statuses = [];
    for (const browser of [alice, undefined])
      statuses.push((await refusalOf(world, browser, { origin: 'https://evil.example' })).status);
    expect(statuses).toEqual([403, 403]);
  });
});

describe('T102 the handshake with the API', () => {
  it('carries the token and what we say; no cookie, no words of the page', async () => {
    const before =
      'X-Forwarded-For X-Forwarded-Host X-Original-URL X-Real-IP Forwarded X_Forwarded_User X-Secret'.split(' ');
    const page = await openWebSocket(world, alice, {
      headers: {
        'proxy-authorization': 'Basic eDp5',
        'x-csrf': '1',
        te: 'trailers',
        ...Object.fromEntries(before.map((name) => [name, 'evil'])),
        accept: 'application/json',
      },
    });
    const [request] = world.upstream.requests;
    const [token] = world.provider
      .issuedSecrets('access_token')
      .filter((one) => request?.header('authorization')?.endsWith(one));
    expect(token).toBeDefined();
    expect(request?.all('authorization')).toHaveLength(1);
    const names = new Set(request?.headers.map(([name]) => name.toLowerCase()));
    expect([...names].sort()).toEqual(
      'accept authorization connection host sec-websocket-key sec-websocket-version upgrade via x-forwarded-for x-forwarded-host x-forwarded-prefix x-forwarded-proto x-request-id'.split(
        ' ',
      ),
    );
    expect(request?.header('host')).toBe(`127.0.0.1:${world.upstream.port}`);
    expect(request?.header('x-forwarded-host')).toBe(new URL(world.origin).host);
    expect(request?.header('x-forwarded-for')).toMatch(/^(::ffff:)?127\.0\.0\.1$/);
    expect(JSON.stringify(request?.headerLines)).not.toContain('evil');
    page.socket.terminate();
  });

  it('has no Authorization of the page, with a session or without', async () => {
    const headers = { authorization: 'Bearer of-the-page' };
    const page = await openWebSocket(world, alice, { headers });
    expect(world.upstream.requests[0]?.all('authorization').join()).not.toContain('of-the-page');
    page.socket.terminate();
    expect((await refusalOf(world, undefined, { headers })).status).toBe(401);
  });

  it('gives the page no header of the API', async () => {
    const connection = await openRawWebSocket(world, alice);
    expect(connection.head.split('\r\n').map((line) => line.split(':')[0]?.toLowerCase())).toEqual([
      'http/1.1 101 switching protocols',
      'upgrade',
      'connection',
      'sec-websocket-accept',
    ]);
    connection.connection.close();
  });
});

describe('T104 an API that does not accept', () => {
  it.each([
    [401, 'Unauthorized'],
    [403, 'Forbidden'],
    [404, 'Not Found'],
    [200, 'OK'],
    [302, 'Found'],
    [426, 'Upgrade Required'],
    [503, 'Service Unavailable'],
  ])('but answers %s gets the page no 101', async (status) => {
    world.upstream.respond = reply({
      status,
      headers: [
        ['Location', 'http://internal/'],
        ['Set-Cookie', 'cloakroom=evil'],
      ],
      body: 'internal words',
    });
    const refusal = await refusalOf(world, alice);
    expect([refusal.status, refusal.code]).toEqual([502, 'BFF_WEBSOCKET_NOT_ACCEPTED']);
    expect(refusal.headers['proxy-status']).toBe(
      `cloakroom; error=http_request_denied; details="BFF_WEBSOCKET_NOT_ACCEPTED"; received-status=${status}`,
    );
    expect(refusal.headers['set-cookie']).toBeUndefined();
    expect(refusal.headers.location).toBeUndefined();
    expect(refusal.text).not.toContain('internal');
    await until(() => world.upstream.connections === 0);
  });

  const head = 'HTTP/1.1 101 Switching Protocols\r\n';
  it.each([
    ['a wrong key', `${head}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n`],
    ['no key', `${head}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n`],
    ['another protocol', `${head}Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n`],
  ])('but answers 101 with %s gets the page none', async (_name, answer) => {
    world.upstream.respond = rawBytes(answer, { end: 'keep' });
    const refusal = await refusalOf(world, alice);
    expect([refusal.status, refusal.code]).toEqual([502, 'BFF_WEBSOCKET_NOT_ACCEPTED']);
    await until(() => world.upstream.connections === 0);
  });

  it('but chooses a subprotocol that nobody offered, or an extension, gets the page no 101', async () => {
    world.upstream.respond = createWebSocketApi(echo, { protocol: 'admin' }).respond;
    expect((await refusalOf(world, alice, { protocols: ['chat'] })).code).toBe('BFF_WEBSOCKET_NOT_ACCEPTED');
    world.upstream.respond = async (request, socket) => {
      const { createHash } = await import('node:crypto');
      const key = `${request.header('sec-websocket-key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accept = createHash('sha1').update(key).digest('base64');
      socket.write(
        `${head}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n`,
      );
    };
    expect((await refusalOf(world, alice)).code).toBe('BFF_WEBSOCKET_NOT_ACCEPTED');
  });
});

describe('T104 frames that are wrong', () => {
  const text = (payload: Buffer | string, more: object = {}) => frame({ opcode: 1, payload, ...more });
  it.each<[string, number, () => Buffer[]]>([
    ['bad UTF-8', 1007, () => [text(Buffer.from([0x68, 0xff, 0xfe]))]],
    ['UTF-8 that is cut off', 1007, () => [text(Buffer.from([0xe2, 0x82]))]],
    [
      'bad UTF-8 over two fragments',
      1007,
      () => [text(Buffer.from([0xe2]), { fin: false }), frame({ opcode: 0, payload: Buffer.from([0x28, 0xa1]) })],
    ],
    ['a frame of 100 MB, in its header', 1009, () => [frame({ opcode: 2, length: 100 * 1024 ** 2 })]],
    ['a frame of 2^62 bytes', 1009, () => [frame({ opcode: 2, length: 2 ** 62 })]],
    ['one byte more than maxMessage', 1009, () => [frame({ opcode: 2, payload: Buffer.alloc(1024 ** 2 + 1) })]],
    [
      'more than maxMessage in fragments',
      1009,
      () => [frame({ opcode: 2, payload: Buffer.alloc(1024 ** 2), fin: false }), frame({ opcode: 0, payload: 'x' })],
    ],
    [
      'fragments without end',
      1008,
      () => [frame({ opcode: 2, fin: false }), ...Array.from({ length: 5000 }, () => frame({ opcode: 0, fin: false }))],
    ],
    ['RSV1: compression that nobody agreed on', 1002, () => [text('x', { rsv: 4 })]],
    ['RSV2', 1002, () => [text('x', { rsv: 2 })]],
    ['RSV3', 1002, () => [text('x', { rsv: 1 })]],
    ['no mask', 1002, () => [text('x', { masked: false })]],
    ['an unknown opcode', 1002, () => [frame({ opcode: 3, payload: 'x' })]],
    ['an unknown control opcode', 1002, () => [frame({ opcode: 11 })]],
    ['a continuation of nothing', 1002, () => [frame({ opcode: 0, payload: 'x' })]],
    ['a message inside another', 1002, () => [text('x', { fin: false }), text('y')]],
    ['a ping in fragments', 1002, () => [frame({ opcode: 9, fin: false })]],
    ['a ping of 126 bytes', 1002, () => [frame({ opcode: 9, payload: Buffer.alloc(126) })]],
    ['a close code that nobody may send', 1002, () => [frame({ opcode: 8, payload: Buffer.from([0x03, 0xee]) })]],
    ['a close frame of one byte', 1002, () => [frame({ opcode: 8, payload: 'x' })]],
    ['a ping flood', 1008, () => Array.from({ length: 1000 }, () => frame({ opcode: 9, payload: 'x' }))],
    ['a pong flood', 1008, () => Array.from({ length: 1000 }, () => frame({ opcode: 10 }))],
  ])('(%s) close it with %s; none reaches the API, which is let go', async (_name, code, frames) => {
    const raw = await openRawWebSocket(world, alice);
    await until(() => api.sockets.size === 1);
    const arrived: unknown[] = [];
    for (const socket of api.sockets) socket.on('message', (data) => arrived.push(data));
    raw.connection.write(Buffer.concat(frames())).catch(() => undefined);
    expect(await raw.closeCode()).toBe(code);
    expect(await raw.connection.peerClosed()).toBe(true);
    await until(() => api.closed.length === 1);
    expect(api.closed[0]?.code).toBe(1001);
    expect(arrived).toEqual([]);
    raw.connection.close();
  });

  it('of the API close it too, and the page hears that the gateway is bad', async () => {
    const page = await openWebSocket(world, alice);
    for (const socket of api.sockets) socket.send(Buffer.alloc(1024 ** 2 + 1));
    expect((await page.closed).code).toBe(1014);
    await until(() => api.closed.length === 1);
    expect(api.closed[0]?.code).toBe(1009);
  });

  it('just as large as maxMessage go through, in either way, also in fragments', async () => {
    const raw = await openRawWebSocket(world, alice);
    const half = Buffer.alloc(1024 ** 2 / 2, 'x');
    await raw.connection.write(
      Buffer.concat([frame({ opcode: 2, payload: half, fin: false }), frame({ opcode: 0, payload: half })]),
    );
    await until(() => raw.bytes().length >= 1024 ** 2);
    raw.connection.close();
  });

  it('(a ping now and then) are answered, and stay between us and the page', async () => {
    const raw = await openRawWebSocket(world, alice);
    let pings = 0;
    for (const socket of api.sockets) socket.on('ping', () => pings++);
    await raw.connection.write(frame({ opcode: 9, payload: 'are you there' }));
    await until(() => raw.bytes().includes('are you there'));
    expect(raw.bytes()[0]).toBe(0x8a);
    expect(pings).toBe(0);
    raw.connection.close();
  });

  it('that never end hold nothing: what the connection costs is bounded', async () => {
    const raw = await openRawWebSocket(world, alice);
    // A header that promises 1 MiB, and then one byte at a time.
    await raw.connection.write(frame({ opcode: 2, length: 1024 ** 2 }));
    for (let count = 0; count < 50; count++) await raw.connection.write('x');
    expect(raw.bytes()).toHaveLength(0);
    raw.connection.close();
    await until(() => api.closed.length === 1);
  });
});

describe('T104 compression', () => {
  it('is offered by the page and never agreed on', async () => {
    const page = await openWebSocket(world, alice);
    expect(page.socket.extensions).toBe('');
    expect(world.upstream.requests[0]?.header('sec-websocket-extensions')).toBeUndefined();
    page.socket.terminate();
  });
});

describe('T104 thousands of WebSockets of one session', () => {
  it('are as many as it may have, and others go on', async () => {
    const answers = await Promise.all(
      Array.from({ length: 1100 }, () =>
        openWebSocket(world, alice).then(
          ({ socket }) => socket,
          (error: unknown) => String(error),
        ),
      ),
    );
    const refused = answers.filter((answer) => typeof answer === 'string');
    expect(refused).toHaveLength(100);
    expect(refused.every((text) => text.includes('BFF_WEBSOCKET_LIMIT'))).toBe(true);
    const bob = await openWebSocket(world, await world.loggedIn('bob'));
    bob.socket.terminate();
    for (const answer of answers) if (typeof answer !== 'string') answer.terminate();
  });
});
