import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { hang } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw, type RawConnection } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// W13: what connections cost before anybody has a session.

let world: ProxyWorld;
const opened: RawConnection[] = [];
const open = async (localAddress = '127.0.0.1') => {
  const connection = await openRaw(world.port, { localAddress });
  opened.push(connection);
  return connection;
};
beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.limits.connectionsPerAddress = 20;
    data.trustedProxies = ['127.0.0.9'];
  });
});
afterAll(() => world.stop());
beforeEach(() => world.fresh());
afterEach(() => {
  for (const connection of opened.splice(0)) connection.close();
});

const metricsText = async () => (await world.app.ops.inject({ url: '/metrics' })).payload;
const refused = async (limit: string) =>
  Number(
    new RegExp(`^cloakroom_connections_refused_total\\{limit="${limit}"\\} (\\d+)$`, 'm').exec(
      await metricsText(),
    )?.[1] ?? 0,
  );
const anonymous = `GET /api/orders/1 HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n`;

it.each([
  ['requests', anonymous],
  ['requests with an expectation that Node would refuse itself', anonymous.replace('Host', 'Expect: x\r\nHost')],
  ['requests without a Host, which Node would refuse itself', 'GET / HTTP/1.1\r\n\r\n'],
])('W13 closes a connection with more than 32 unanswered %s, and reads no more of them', async (_what, one) => {
  const before = await refused('pipelining');
  const connection = await open();
  const { server } = world.app.server;
  let parsed = 0;
  const countOne = () => void parsed++;
  server.on('request', countOne);
  void connection.write(one.replace('PORT', String(world.port)).repeat(44_400)).catch(() => undefined);
  expect(await connection.peerClosed(10_000)).toBe(true);
  expect(await refused('pipelining')).toBe(before + 1);
  // The one that is too many was the last that Node's parser made.
  expect(parsed).toBe(33);
  server.off('request', countOne);
  expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
});

it('W13 counts requests that have no answer yet, not all of a connection', async () => {
  const connection = await open();
  for (let answered = 1; answered <= 100; answered++) {
    await connection.write(anonymous.replace('PORT', String(world.port)));
    await connection.response(answered);
  }
  expect(connection.closed()).toBe(false);
});

it('W13 ends what was asked behind an answer when its browser leaves', async () => {
  world.upstream.respond = hang();
  const connection = await open();
  await connection.write(world.head('/api/public/1') + world.head('/api/public/2') + world.head('/api/public/3'));
  await until(() => world.upstream.active === 3);
  connection.close();
  await until(() => world.upstream.active === 0);
});

it('W13 one address has no more than its connections; others, and the proxy in front, are not concerned', async () => {
  const before = await refused('address');
  await Promise.all(Array.from({ length: 20 }, () => open('127.0.0.2')));
  const more = await open('127.0.0.2');
  expect(await more.peerClosed()).toBe(true);
  expect(await refused('address')).toBe(before + 1);
  const other = await open('127.0.0.3');
  await other.write(world.head('/api/orders/1'));
  expect((await other.response()).status).toBe(200);
  const proxy = await Promise.all(Array.from({ length: 30 }, () => open('127.0.0.9')));
  expect(proxy.some((connection) => connection.closed())).toBe(false);
  await proxy[29]?.write(world.head('/api/orders/1'));
  expect((await proxy[29]?.response())?.status).toBe(200);
  // What is closed makes room.
  opened[0]?.close();
  await until(async () => {
    const again = await open('127.0.0.2');
    await again.write(world.head('/api/orders/1')).catch(() => undefined);
    return (await again.response().catch(() => undefined))?.status === 200;
  });
});
