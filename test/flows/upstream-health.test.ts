import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hang, type Reply, type Respond, reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { until } from '../support/wait.ts';
import { startWorld } from '../support/world.ts';

// Health checks of targets, and statuses that count like no answer.

let world: ProxyWorld;
let one: EchoUpstream;
let two: EchoUpstream;
let behind: EchoUpstream;
let endless: EchoUpstream;

const health = { path: '/healthz?full', interval: '30ms', timeout: '300ms', unhealthyAfter: 2, healthyAfter: 2 };

/** What a target says to health checks; everything else is answered with 200. */
function checked(target: EchoUpstream, answer: Respond): void {
  target.respond = (request, socket) =>
    request.target === health.path ? answer(request, socket) : reply({ body: { ok: true } })(request, socket);
}
const checks = (target: EchoUpstream) => target.requests.filter((request) => request.target === health.path);
const calls = (target: EchoUpstream) => target.requests.filter((request) => request.target !== health.path);

async function isUp(target: EchoUpstream): Promise<boolean> {
  const text = (await world.app.ops.inject('/metrics')).body;
  return text.includes(`cloakroom_upstream_up{frontend="default",api="checked",target="${target.url}"} 1\n`);
}
const get = () => world.alice.fetch('/api/checked/1');

beforeAll(async () => {
  [one, two, behind, endless] = (await Promise.all(Array.from({ length: 4 }, () => startEchoUpstream()))) as [
    EchoUpstream,
    EchoUpstream,
    EchoUpstream,
    EchoUpstream,
  ];
  world = await startProxyWorld((data) => {
    data.apis.checked = { path: '/api/checked', upstream: [one.url, two.url], health };
    const patient = { ...health, timeout: '60s' };
    data.apis.endless = { path: '/api/endless', upstream: endless.url, health: patient };
    data.apis.behind = { path: '/api/behind', upstream: behind.url, breaker: { failures: 3, statuses: [502, 503] } };
  });
});
beforeEach(async () => {
  for (const target of [one, two]) {
    target.requests.length = 0;
    checked(target, reply());
    await until(() => isUp(target), { message: 'the target to be asked again' });
  }
});
afterAll(async () => {
  await world.stop();
  await Promise.all([one, two, behind, endless].map((target) => target.stop()));
});

describe('a health check', () => {
  it('asks each target again and again, without a token, cookie or kept connection', async () => {
    await get();
    await until(() => checks(one).length > 3 && checks(two).length > 3);
    const asked = checks(one);
    for (const request of asked) {
      expect(request.method).toBe('GET');
      const names = request.headers.map(([name]) => name.toLowerCase());
      expect(names.sort()).toEqual(['accept', 'connection', 'host', 'user-agent']);
      expect(request.header('connection')).toBe('close');
      expect(request.header('user-agent')).toBe('cloakroom-health');
    }
    expect(new Set(asked.map(({ connection }) => connection)).size).toBe(asked.length);
  });

  const bad: [name: string, answer: () => Respond][] = [
    ['says 500', () => reply({ status: 500 })],
    ['says 404', () => reply({ status: 404 })],
    ['redirects', () => reply({ status: 302, headers: [['Location', `${two.url}/elsewhere`]] } satisfies Reply)],
    ['does not answer', hang],
    ['drops the connection', () => (_request, socket) => void socket.destroy()],
  ];
  it.each(bad)('leaves out a target that %s, and takes it back', async (_name, answer) => {
    world.log.clear();
    checked(one, answer());
    await until(async () => !(await isUp(one)));
    one.requests.length = 0;
    for (let count = 0; count < 6; count++) expect((await get()).status).toBe(200);
    expect(calls(one)).toEqual([]);
    expect(calls(two).length).toBeGreaterThanOrEqual(6);
    expect(two.requests.some(({ target }) => target === '/elsewhere')).toBe(false);

    checked(one, reply());
    await until(() => isUp(one));
    await get();
    await get();
    expect(calls(one).length).toBeGreaterThan(0);
    const lines = world.log.lines.filter(({ target }) => target === one.url);
    expect(lines.map(({ level }) => level)).toEqual(['warn', 'info']);
    expect(lines[0]?.reason).toMatch(/^(\d{3}|timeout|UND_ERR_SOCKET)$/);
  });

  it('that fails now and then changes nothing', async () => {
    let count = 0;
    checked(one, (request, socket) => reply({ status: count++ % 2 === 0 ? 503 : 200 })(request, socket));
    world.log.clear();
    await until(() => count > 10);
    expect(await isUp(one)).toBe(true);
    expect(world.log.lines.filter(({ target }) => target === one.url)).toEqual([]);
  });

  it('reads no more of an endless answer than it needs, and takes it for its status', async () => {
    const piece = Buffer.alloc(16 * 1024);
    checked(endless, (request, socket) => reply({ body: forever(piece) })(request, socket));
    endless.requests.length = 0;
    await until(() => checks(endless).length > 3, { message: 'more checks, long before the time for one is over' });
    for (const { sentBodyBytes } of checks(endless).slice(0, -1)) expect(sentBodyBytes).toBeLessThan(16 * 1024 * 1024); // what fits into the kernel’s buffers
    expect((await world.alice.fetch('/api/endless/1')).status).toBe(200);
  });

  it('that all targets fail answers for the API with 503 at once, and leaves the others and /readyz alone', async () => {
    for (const target of [one, two]) checked(target, reply({ status: 503 }));
    await until(async () => !(await isUp(one)) && !(await isUp(two)));
    for (const target of [one, two]) target.requests.length = 0;
    const answer = await get();
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_UNAVAILABLE' });
    expect(Number(answer.header('retry-after'))).toBeGreaterThanOrEqual(1);
    expect([...calls(one), ...calls(two)]).toEqual([]);
    expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
    expect((await world.app.ops.inject('/readyz')).statusCode).toBe(200);
  });

  it('ends with the process', async () => {
    const third = await startEchoUpstream();
    const closing = await startWorld({
      store: 'memory',
      config: (data) => Object.assign(data.apis.orders, { upstream: third.url, health }),
    });
    checked(third, hang()); // one is under way when it stops
    await until(() => third.active === 1);
    await closing.stop();
    await until(() => third.connections === 0, { message: 'the check under way to be given up' });
    third.requests.length = 0;
    one.requests.length = 0;
    await until(() => checks(one).length > 5, { message: 'some checks of the world that goes on' });
    expect(third.requests).toEqual([]);
    expect(closing.log.text()).not.toContain('health check'); // what we gave up says nothing about the target
    await third.stop();
  });
});

describe('a status that counts like no answer', () => {
  const status = async () => (await world.alice.fetch('/api/behind/1')).status;
  const code = async () => (await world.alice.fetch('/api/behind/1')).text;

  it('is passed on, and leaves the target out once nothing else came for a second', async () => {
    behind.respond = reply({ status: 503, body: 'no server' });
    expect(await code()).toBe('no server');
    await until(async () => (await code()).includes('BFF_UPSTREAM_UNAVAILABLE'));
    behind.respond = reply({ body: 'ok' });
    await until(async () => (await code()) === 'ok');
  });

  it('is none that the configuration does not name', async () => {
    behind.respond = reply({ status: 500 });
    const startedAt = performance.now();
    while (performance.now() - startedAt < 1500) expect(await status()).toBe(500);
  });

  it('T98 leaves nothing out while others are answered', async () => {
    let count = 0;
    behind.respond = (request, socket) => reply({ status: count++ % 5 === 0 ? 200 : 503 })(request, socket);
    for (let call = 0; call < 50; call++) expect(await status()).toBe(call % 5 === 0 ? 200 : 503);
    expect(behind.requests.length).toBeGreaterThanOrEqual(50);
  });
});

async function* forever(piece: Buffer): AsyncGenerator<Buffer> {
  for (;;) yield piece;
}
