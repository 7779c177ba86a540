import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { reply, serverSentEvents } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { until } from '../support/wait.ts';

// APIs behind unix sockets, and T89: addresses that look alike and must never be taken for each other.

let world: ProxyWorld;
let folder: string;
let left: EchoUpstream;
let right: EchoUpstream;
let near: EchoUpstream;
let far: EchoUpstream;

const saying = (target: EchoUpstream, name: string) => {
  target.respond = (request, socket) => reply({ body: `${name} ${request.target}` })(request, socket);
  return target;
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-sockets-'));
  left = await startEchoUpstream({ socketPath: join(folder, 'a') });
  right = await startEchoUpstream({ socketPath: join(folder, 'ab') });
  near = await startEchoUpstream();
  far = await startEchoUpstream();
  world = await startProxyWorld((data) => {
    const apis = {
      left: { upstream: left.url, rewritePath: '/b/c' },
      right: { upstream: right.url, rewritePath: '/c' },
      both: { upstream: [left.url, right.url], rewritePath: '/v1' },
      near: { upstream: near.url, rewritePath: '/a/b' },
      far: { upstream: far.url, rewritePath: '/a' },
      mixed: { upstream: [near.url, far.url, left.url], rewritePath: '/' },
    };
    for (const [name, api] of Object.entries(apis)) data.apis[name] = { path: `/api/${name}`, token: 'none', ...api };
  });
});
beforeEach(() => {
  for (const [name, target] of Object.entries({ left, right, near, far })) {
    target.reset();
    saying(target, name);
  }
});
afterAll(async () => {
  await world.stop();
  await Promise.all([left, right, near, far].map((target) => target.stop()));
  await rm(folder, { recursive: true, force: true });
});

const text = async (path: string) => (await world.alice.fetch(path)).text;

describe('a unix socket', () => {
  it('gets requests with Host: localhost, and its redirects to itself lead back through us', async () => {
    expect(await text('/api/left/7?x=1')).toBe('left /b/c/7?x=1');
    expect(left.requests[0]?.all('host')).toEqual(['localhost']);
    left.respond = reply({ status: 303, headers: [['Location', 'http://localhost/b/c/new']] });
    const answer = await world.alice.fetch('/api/left/7');
    expect(answer.header('location')).toBe('/api/left/new');
  });

  it('streams events', async () => {
    left.respond = serverSentEvents(['one', 'two']);
    expect(await text('/api/left/events')).toBe('data: one\n\ndata: two\n\n');
  });

  it('may go away and come back', async () => {
    await left.stop();
    expect((await world.alice.fetch('/api/left/1')).status).toBe(502);
    left = saying(await startEchoUpstream({ socketPath: join(folder, 'a') }), 'left');
    await until(async () => (await text('/api/left/1')) === 'left /b/c/1');
  });
});

describe('T89 addresses that look alike', () => {
  it('are those that were meant, for two APIs whose addresses and paths put together are the same', async () => {
    // Put together: …/a + /b/c/d and …/ab + /c/d; http://near/a/b + /c and http://far/a + /b/c.
    for (let count = 0; count < 20; count++) {
      expect(await text('/api/left/d')).toBe('left /b/c/d');
      expect(await text('/api/right/d')).toBe('right /c/d');
      expect(await text('/api/near/c')).toBe('near /a/b/c');
      expect(await text('/api/far/b/c')).toBe('far /a/b/c');
    }
  });

  it('are those that were meant, for two sockets of one API: both call themselves http://localhost', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => text(`/api/both/${index}`)));
    expect(answers.filter((answer) => answer.startsWith('left /v1/'))).toHaveLength(20);
    expect(answers.filter((answer) => answer.startsWith('right /v1/'))).toHaveLength(20);
    expect([left.requests.length, right.requests.length]).toEqual([20, 20]);
  });

  it('are those that were meant, when callers of many APIs come at once', async () => {
    const names = ['left', 'right', 'near', 'far'];
    const inside: Record<string, string> = { left: '/b/c', right: '/c', near: '/a/b', far: '/a' };
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const name = names[index % 4] as string;
        return (await text(`/api/${name}/${index}`)) === `${name} ${inside[name]}/${index}`;
      }),
    );
    expect(answers).not.toContain(false);
  });

  it('cannot be chosen by a request: neither by its path, Host, absolute form nor headers', async () => {
    for (const path of ['/api/mixed/http://evil.example/', '/api/mixed/@evil.example/', '/api/mixed/unix:/run/x'])
      await world.alice.fetch(path, { headers: { 'x-forwarded-host': 'evil.example', 'x-target': far.url } });
    const seen = [...near.requests, ...far.requests, ...left.requests];
    const hosts = new Set(seen.flatMap((request) => request.all('host')));
    const own = ['localhost', new URL(near.url).host, new URL(far.url).host];
    expect([...hosts].filter((host) => !own.includes(host))).toEqual([]);
  });
});
