import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { startWorld, type World } from '../support/world.ts';

// W37: a port that is the scheme's own may be written or left out, or be empty (RFC 9110 §4.2.3, RFC 3986 §3.2.3).
// Balancers write it; every other port is another place.

const key = randomBytes(32).toString('base64url');
let world: World;
beforeAll(async () => {
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      const { authorizationServer, apis } = data;
      const frontend = (publicUrl: string, more = {}) => ({ publicUrl, authorizationServer, ...more });
      apis.orders.websocket = {};
      data.trustedProxies = ['127.0.0.1'];
      data.frontends = {
        app: frontend('https://app.example.com', { apis, forwardAuth: { key, hosts: ['cloakroom', 'auth:8080'] } }),
        high: frontend('https://high.example.com:8443'),
        local: frontend('http://localhost'),
        six: frontend('https://[2001:db8::1]'),
      };
      for (const name of ['publicUrl', 'authorizationServer', 'apis']) delete data[name];
    },
  });
});
afterAll(() => world.stop());

const ask = (host: string, target = '/bff/session', lines: string[] = []) =>
  rawRequest(world.port, [`GET ${target} HTTP/1.1`, `Host: ${host}`, ...lines, '', ''].join('\r\n'));
const redirectUri = ({ headers }: { headers: [string, string][] }) =>
  new URL(headerValues(headers, 'location')[0] ?? '').searchParams.get('redirect_uri');

const same: [host: string, redirectUri: string][] = [
  ['app.example.com', 'https://app.example.com'],
  ['app.example.com:443', 'https://app.example.com'],
  ['App.Example.COM:443', 'https://app.example.com'],
  ['app.example.com:', 'https://app.example.com'],
  ['high.example.com:8443', 'https://high.example.com:8443'],
  ['localhost', 'http://localhost'],
  ['localhost:80', 'http://localhost'],
  ['localhost:', 'http://localhost'],
  ['[2001:db8::1]', 'https://[2001:db8::1]'],
  ['[2001:DB8::1]:443', 'https://[2001:db8::1]'],
];
it.each(same)('W37 Host: %s is %s', async (host, origin) => {
  expect((await ask(host)).status).toBe(200);
  const login = await ask(host, '/bff/login', ['Accept: text/html']);
  expect(redirectUri(login)).toBe(`${origin}/bff/callback`);
});

const others = [
  'app.example.com:80',
  'app.example.com:8443',
  'app.example.com:4430',
  'app.example.com:443:443',
  'app.example.com::443',
  'app.example.com::',
  'app.example.com:443.',
  'high.example.com',
  'high.example.com:',
  'high.example.com:443',
  'localhost:443',
  'localhost:8080',
  '[2001:db8::1]:80',
  'evil.example:443',
  ':443',
  ':',
];
it.each(others)('W37 Host: %s is nobody’s', async (host) => {
  expect((await ask(host)).status).toBe(421);
});

it.each([
  ['https://app.example.com/bff/login', 'https://app.example.com'],
  ['https://app.example.com:443/bff/login', 'https://app.example.com'],
  ['https://app.example.com:/bff/login', 'https://app.example.com'],
  // Behind what ends TLS the scheme may be the inner one, and the port either's.
  ['http://app.example.com/bff/login', 'https://app.example.com'],
  ['http://app.example.com:80/bff/login', 'https://app.example.com'],
  ['http://app.example.com:443/bff/login', 'https://app.example.com'],
  ['http://localhost:80/bff/login', 'http://localhost'],
  ['https://high.example.com:8443/bff/login', 'https://high.example.com:8443'],
])('W37 the absolute target %s is of %s', async (target, origin) => {
  expect(redirectUri(await ask('evil.example', target, ['Accept: text/html']))).toBe(`${origin}/bff/callback`);
});

it.each(['https://app.example.com:80/', 'https://high.example.com/', 'http://evil.example:80/'])(
  'W37 the absolute target %s is nobody’s',
  async (target) => {
    expect((await ask('app.example.com', target)).status).toBe(421);
  },
);

it('W37 a WebSocket handshake may name the port too', async () => {
  const lines = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
  const handshake = (host: string) =>
    ask(host, '/api/orders/ws', [
      ...lines,
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Origin: https://app.example.com',
    ]);
  for (const host of ['app.example.com', 'app.example.com:443']) expect((await handshake(host)).status).toBe(401);
  expect((await handshake('app.example.com:444')).status).toBe(421);
});

describe('W37 forward-auth', () => {
  const asked = (host: string, lines: string[] = []) =>
    ask(host, '/bff/forward-auth', [
      `X-Forward-Auth-Key: ${key}`,
      'X-Original-Method: GET',
      'X-Original-URI: /api/orders/1',
      'X-CSRF: 1',
      ...lines,
    ]);

  it.each(['cloakroom', 'cloakroom:80', 'cloakroom:443', 'cloakroom:', 'auth:8080', 'app.example.com:443'])(
    'W37 may be asked as %s',
    async (host) => {
      const { status, body } = await asked(host);
      expect([status, JSON.parse(body).code]).toEqual([401, 'BFF_SESSION_REQUIRED']);
    },
  );
  it.each(['cloakroom:8080', 'auth', 'auth:80'])('W37 may not be asked as %s', async (host) => {
    expect((await asked(host)).status).toBe(421);
  });
  it.each([
    ['app.example.com', 401],
    ['app.example.com:443', 401],
    ['APP.example.com:', 401],
    ['app.example.com:80', 421],
    ['high.example.com:8443', 421],
  ])('W37 X-Forwarded-Host: %s', async (host, status) => {
    expect((await asked('cloakroom', [`X-Forwarded-Host: ${host}`])).status).toBe(status);
  });
});
