import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hang, reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { statuses } from '../support/fault-table.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { startVanishingPeer } from '../support/vanishing-peer.ts';
import { until } from '../support/wait.ts';

// T98: two dead APIs under load, one that accepts and never answers, one whose packets vanish. The third keeps its pace.

let world: ProxyWorld;
let hung: EchoUpstream;
let vanished: Awaited<ReturnType<typeof startVanishingPeer>>;

beforeAll(async () => {
  hung = await startEchoUpstream();
  hung.respond = hang();
  vanished = await startVanishingPeer();
  world = await startProxyWorld((data) => {
    const limits = { connections: 200, queue: 100 };
    const breaker = { failures: 1_000_000 }; // without it: what keeps them apart is shown, not what makes it short
    const timeouts = { connect: '1s', headers: '30s' };
    data.apis.hung = { path: '/api/hung', upstream: hung.url, limits, breaker, timeouts };
    data.apis.gone = { path: '/api/gone', upstream: `http://127.0.0.1:${vanished.port}`, limits, breaker, timeouts };
    data.apis.lively = { path: '/api/lively', upstream: data.apis.orders.upstream };
    data.apis.guarded = { ...data.apis.gone, path: '/api/guarded', breaker: { openFor: '10s' } };
  });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([hung.stop(), vanished.stop()]);
});

/** Calls the healthy API from ten places at once; sorted milliseconds. `beside`, before each, is what others call. */
async function measure(beside: () => void = () => undefined): Promise<number[]> {
  const times: number[] = [];
  const caller = async () => {
    for (let count = 0; count < 40; count++) {
      beside();
      const startedAt = performance.now();
      const answer = await world.alice.fetch('/api/orders/1');
      times.push(performance.now() - startedAt);
      expect([answer.status, answer.text]).toEqual([200, '{"ok":true}']);
    }
  };
  await Promise.all(Array.from({ length: 10 }, caller));
  return times.sort((a, b) => a - b);
}

const median = (times: number[]) => times[Math.floor(times.length / 2)] as number;
const slowest = (times: number[]) => times.at(-1) as number;

describe('T98 two dead APIs under hundreds of calls', () => {
  it('neither slow nor fail the calls of another, and hold no more connections and callers than their limits say', async () => {
    world.upstream.respond = reply({ body: { ok: true } });
    const leaving = new AbortController();
    const calls: Promise<unknown>[] = [];
    const answers: { status: number }[] = [];
    const call = (api: string) => {
      const fetched = world.alice.fetch(`/api/${api}/1`, { signal: leaving.signal });
      calls.push(fetched.catch(() => ({ status: 0 })).then((answer) => answers.push(answer)));
    };
    await measure();
    const before = await measure(() => {
      call('lively');
      call('lively');
    });

    for (let count = 0; count < 300; count++) {
      call('hung');
      call('gone');
    }
    await until(() => hung.active === 200, { timeoutMs: 15_000, message: 'all connections to hang' });
    const during = await measure(() => {
      call('hung');
      call('gone');
    });
    expect(hung.connections).toBe(200);
    expect(hung.requests).toHaveLength(200);
    expect(median(during)).toBeLessThan(Math.max(median(before) * 4, 250));
    expect(slowest(during)).toBeLessThan(Math.max(slowest(before) * 4, 5000)); // the machine’s own stalls included

    await until(() => answers.some(({ status }) => status === 504), {
      timeoutMs: 20_000,
      message: 'the vanished API to be given up',
    });
    leaving.abort();
    await until(() => hung.active === 0, { timeoutMs: 20_000, message: 'the hanging calls to be given up' });
    await Promise.all(calls);
    const seen = statuses(answers);
    // 300 calls of `hung` were let in (200 hang, 100 wait), the other 400 refused; those of `gone` run into its timeout.
    expect(Object.keys(seen)).toEqual(['0', '200', '503', '504']);
    expect(seen[200]).toBe(800);
    expect(seen[503]).toBeGreaterThanOrEqual(400);
    expect((await world.alice.fetch('/api/orders/1')).status).toBe(200);
  }, 60_000);

  it('answer at once once the breaker has seen enough', async () => {
    const first = await Promise.all(Array.from({ length: 20 }, () => world.alice.fetch('/api/guarded/1')));
    expect(statuses(first)).toEqual({ 504: 20 });
    const then = await Promise.all(Array.from({ length: 100 }, () => world.alice.fetch('/api/guarded/1')));
    expect(statuses(then)).toEqual({ 503: 100 }); // an attempt to connect would have ended as 504
  });
});
