import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';
import { handshake } from '../support/websocket/raw.ts';
import { createWebSocketApi, echo } from '../support/websocket/upstream.ts';

// W8: load balancers write addresses in their own ways, some with the port of each connection.

const perMinute = 3;
let world: ProxyWorld;
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.trustedProxies = ['127.0.0.1', '10.0.0.0/8'];
    data.limits.loginsPerMinute = perMinute;
    data.apis.orders.websocket = {};
  });
});
afterAll(() => world.stop());
beforeEach(() => world.fresh());

const navigation = 'Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n';
const logIn = async (forwardedFor: string, localAddress?: string) => {
  const lines = `Host: localhost:${world.port}\r\n${navigation}X-Forwarded-For: ${forwardedFor}\r\n`;
  const from = localAddress === undefined ? {} : { localAddress };
  return (await rawRequest(world.port, `GET /bff/login HTTP/1.1\r\n${lines}\r\n`, from)).status;
};
const statuses = async (lists: string[], localAddress?: string) => {
  const seen: number[] = [];
  for (const list of lists) seen.push(await logIn(list, localAddress));
  return seen;
};
const allowed = Array.from({ length: perMinute }, () => 303);

describe('W8 the limit of logins', () => {
  it('W8 holds over ports, and over spellings', async () => {
    expect(await statuses(['203.0.113.9:50123', '203.0.113.9:50124', '::ffff:203.0.113.9'])).toEqual(allowed);
    const others = ['203.0.113.9', '203.0.113.9:50125', '"[::ffff:cb00:7109]:1"', '203.0.113.9, 10.1.1.1:8080'];
    expect(await statuses(others)).toEqual([429, 429, 429, 429]);
    expect(await statuses(['203.0.113.10:50123'])).toEqual([303]);
  });

  it('W8 holds over the addresses that one IPv6 host can take', async () => {
    expect(await statuses(['2001:db8:1:2::1', '[2001:DB8:1:2::2]:443', '2001:db8:1:2:ffff::3'])).toEqual(allowed);
    expect(await statuses(['2001:db8:1:2::4', '[2001:db8:1:2:3:4:5:6]'])).toEqual([429, 429]);
    expect(await statuses(['2001:db8:1:3::1'])).toEqual([303]);
  });

  it('W8 holds whatever a client wrote in front', async () => {
    expect(await statuses(['1.1.1.1, 203.0.113.20:1', 'x, 203.0.113.20:2', ', 203.0.113.20'])).toEqual(allowed);
    expect(await statuses(['8.8.8.8:5, 203.0.113.20:3'])).toEqual([429]);
  });

  it('W8 counts a peer that is no trusted proxy by its own address', async () => {
    expect(await statuses(['203.0.113.31', '203.0.113.32', '203.0.113.33'], '127.0.0.9')).toEqual(allowed);
    expect(await statuses(['203.0.113.34'], '127.0.0.9')).toEqual([429]);
  });

  it('W8 counts what is no address for the proxy that wrote it', async () => {
    expect(await statuses(['unknown, 10.7.7.7', 'a, 10.7.7.7', 'b, 10.7.7.7:80'])).toEqual(allowed);
    expect(await statuses(['c, 10.7.7.7'])).toEqual([429]);
  });
});

describe('W8 an API', () => {
  const cases: [string, string][] = [
    ['203.0.113.9:50123', '203.0.113.9'],
    ['6.6.6.6, "[2001:DB8::1]:443", 10.1.1.1:80', '2001:db8::1'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['203.0.113.9, unknown', '127.0.0.1'],
    ['<script>', '127.0.0.1'],
  ];

  it.each(cases)('W8 sees the bare address of %s', async (list, address) => {
    await rawRequest(world.port, world.head('/api/orders/1', [`X-Forwarded-For: ${list}`]));
    expect(world.upstream.requests[0]?.all('x-forwarded-for')).toEqual([address]);
  });

  it('W8 sees that of several lines as of one', async () => {
    const lines = ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-For: 203.0.113.9:5', 'X-Forwarded-For: 10.1.1.1:6'];
    await rawRequest(world.port, world.head('/api/orders/1', lines));
    expect(world.upstream.requests[0]?.all('x-forwarded-for')).toEqual(['203.0.113.9']);
  });

  it('W8 sees it with a WebSocket too', async () => {
    world.upstream.respond = createWebSocketApi(echo).respond;
    const text = handshake(world, world.alice, { 'X-Forwarded-For': '6.6.6.6, 203.0.113.9:50123' });
    await rawRequest(world.port, text, { timeoutMs: 2000 });
    expect(world.upstream.requests[0]?.all('x-forwarded-for')).toEqual(['203.0.113.9']);
  });
});
