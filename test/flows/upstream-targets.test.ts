import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { statuses } from '../support/fault-table.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';

// Several targets of one API: who is asked, what happens when some or all of them are gone, and when they are back.

let world: ProxyWorld;
let targets: EchoUpstream[] = [];
/** Targets of `turns`, `busy` and `single`; the last is one API with one target. */
let single: EchoUpstream;

const answering = (one: EchoUpstream) => {
  one.respond = reply({ body: { ok: true } });
  return one;
};

beforeAll(async () => {
  const ports = [await freePort(), await freePort(), await freePort()];
  targets = await Promise.all(ports.map((port) => startEchoUpstream({ port })));
  single = await startEchoUpstream({ port: await freePort() });
  world = await startProxyWorld((data) => {
    const several = { upstream: targets.map(({ url }) => url), breaker: { openFor: '100ms' } };
    data.apis.turns = { path: '/api/turns', ...several };
    data.apis.busy = { path: '/api/busy', ...several, balance: 'least-outstanding' };
    data.apis.narrow = { path: '/api/narrow', ...several, limits: { connections: 1 } };
    data.apis.single = {
      path: '/api/single',
      upstream: single.url,
      breaker: { openFor: '200ms' },
      timeouts: { headers: '300ms' },
    };
  });
});
beforeEach(async () => {
  for (const one of [...targets, single]) {
    one.reset();
    answering(one);
  }
});
afterAll(async () => {
  await world.stop();
  await Promise.all([...targets, single].map((one) => one.stop()));
});

const get = (target: string) => world.alice.fetch(target);
const post = (target: string) => world.alice.fetch(target, { method: 'POST', body: 'x', headers: { 'x-csrf': '1' } });
const counts = () => targets.map(({ requests }) => requests.length);
const total = () => counts().reduce((sum, count) => sum + count, 0);

/** The value of a series in /metrics. */
async function metric(name: string, api: string, target: string, outcome?: string): Promise<number | undefined> {
  const text = (await world.app.ops.inject('/metrics')).body;
  const labels = `frontend="default",api="${api}",target="${target}"${outcome === undefined ? '' : `,outcome="${outcome}"`}`;
  const line = text.split('\n').find((each) => each.startsWith(`cloakroom_${name}{${labels}} `));
  return line === undefined ? undefined : Number(line.split(' ').at(-1));
}

/** Stops one target; the function starts it again on its port, and waits until it is asked again. */
async function takeDown(index: number): Promise<() => Promise<void>> {
  const { port } = targets[index] as EchoUpstream;
  await targets[index]?.stop();
  return async () => {
    const back = answering(await startEchoUpstream({ port }));
    targets[index] = back;
    await until(async () => {
      expect((await get('/api/turns/1')).status).toBe(200);
      await get('/api/busy/1');
      const up = ['turns', 'busy'].map((api) => metric('upstream_up', api, back.url));
      return (await Promise.all(up)).every((value) => value === 1);
    });
  };
}

describe('targets that are all there', () => {
  it('are asked in turn', async () => {
    for (let count = 0; count < 30; count++) expect((await get('/api/turns/1')).status).toBe(200);
    expect(counts()).toEqual([10, 10, 10]);
  });

  it('get what the least busy one can take, with least-outstanding', async () => {
    (targets[1] as EchoUpstream).respond = hang();
    const hanging = [get('/api/busy/1'), get('/api/busy/1'), get('/api/busy/1')];
    await until(() => total() === 3);
    for (let count = 0; count < 20; count++) await get('/api/busy/2');
    expect(counts()[1]).toBe(1); // the one that hangs was never the least busy again
    expect(counts()[0]).toBeGreaterThan(5);
    expect(counts()[2]).toBeGreaterThan(5);
    targets[1]?.cut();
    await Promise.all(hanging);
  });

  it('are passed over in turn while they have no free connection', async () => {
    (targets[0] as EchoUpstream).respond = hang();
    const hanging = [get('/api/narrow/1'), get('/api/narrow/1'), get('/api/narrow/1')];
    await until(() => targets[0]?.active === 1);
    for (let count = 0; count < 6; count++) expect((await get('/api/narrow/2')).status).toBe(200);
    expect(targets[0]?.requests).toHaveLength(1);
    targets[0]?.cut();
    await Promise.all(hanging);
  });
});

describe('a target that is gone', () => {
  it('costs no GET: the other target gets it, once', async () => {
    const back = await takeDown(0);
    for (let count = 0; count < 30; count++) expect((await get('/api/turns/1')).status).toBe(200);
    expect(total()).toBe(30);
    await back();
  });

  it('costs only the first POSTs, which are sent nowhere else', async () => {
    const back = await takeDown(1);
    const answers = [];
    for (let count = 0; count < 12; count++) answers.push(await post('/api/busy/1'));
    const failed = answers.filter(({ status }) => status !== 200);
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(12);
    for (const answer of failed) expect(answer.json()).toMatchObject({ status: 502, code: 'BFF_UPSTREAM_UNREACHABLE' });
    expect(total()).toBe(12 - failed.length);
    await back();
  });

  it('costs a GET that has a body, as its body can’t be sent twice', async () => {
    const back = await takeDown(1);
    const answers = [];
    for (let count = 0; count < 3; count++)
      answers.push(await world.alice.fetch('/api/turns/1', { body: 'x', headers: { 'content-length': '1' } }));
    expect(statuses(answers)).toEqual({ 200: 2, 502: 1 });
    expect(total()).toBe(2);
    await back();
  });

  it('is left out after five failures, shown by metrics, and asked again when it is back', async () => {
    const { url } = targets[2] as EchoUpstream;
    world.log.clear();
    const back = await takeDown(2);
    await until(async () => {
      await get('/api/turns/1');
      return (await metric('upstream_up', 'turns', url)) === 0;
    });
    expect(await metric('upstream_circuit_open', 'turns', url)).toBe(1);
    expect(await metric('upstream_responses_total', 'turns', url, 'failed')).toBeGreaterThanOrEqual(5);
    const others = targets.slice(0, 2).map((one) => metric('upstream_up', 'turns', one.url));
    expect(await Promise.all(others)).toEqual([1, 1]);
    expect((await world.app.ops.inject('/readyz')).statusCode).toBe(200);

    await back();
    expect(targets[2]?.requests.length).toBeGreaterThan(0);
    expect(await metric('upstream_up', 'turns', url)).toBe(1);
    expect(await metric('upstream_circuit_open', 'turns', url)).toBe(0);
    const lines = world.log.lines.filter(({ api, target }) => api === 'turns' && target === url).map(({ msg }) => msg);
    expect(lines).toEqual(['an API’s target does not answer and is left out', 'an API’s target answers again']);
  });
});

describe('the only target', () => {
  it('that is gone is answered for with 502, then at once with 503, until it is back', async () => {
    const { port } = single;
    await single.stop();
    const first = [];
    for (let count = 0; count < 5; count++) first.push(await post('/api/single/1'));
    expect(statuses(first)).toEqual({ 502: 5 });
    const refused = await post('/api/single/1');
    expect(refused.status).toBe(503);
    expect(refused.json()).toMatchObject({ code: 'BFF_UPSTREAM_UNAVAILABLE' });
    expect(Number(refused.header('retry-after'))).toBeGreaterThanOrEqual(1);

    single = answering(await startEchoUpstream({ port }));
    await until(async () => (await post('/api/single/1')).status === 200);
    expect((await get('/api/single/1')).status).toBe(200);
  });

  it('T98 that hangs keeps nobody waiting, and is tried by one request at a time', async () => {
    // Silent for longer than a second, as the breaker wants it: an API that is quiet.
    await until(async () => {
      single.respond = hang();
      const answers = await Promise.all(Array.from({ length: 6 }, () => post('/api/single/1')));
      return answers.some(({ status }) => status === 503);
    });
    single.requests.length = 0;
    const startedAt = performance.now();
    const answers = await Promise.all(Array.from({ length: 100 }, () => post('/api/single/1')));
    const tookMs = performance.now() - startedAt;
    expect(answers.filter(({ status }) => status === 503).length).toBeGreaterThanOrEqual(95);
    // One every 200 ms, doubling: what 100 calls that come at once may let through is what the time let through.
    expect(single.requests.length).toBeLessThanOrEqual(1 + tookMs / 150);
    answering(single);
    await until(async () => (await post('/api/single/1')).status === 200);
  });
});
