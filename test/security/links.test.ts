import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import type { HeaderLine } from '../support/raw-response.ts';

// W51: wherever an API believes to be, what it links to leads browsers through us; and to no other place than it named.

let world: ProxyWorld;
let local: EchoUpstream;
let second: EchoUpstream;
const socketPath = join(tmpdir(), `cloakroom-links-${process.pid}.sock`);

beforeAll(async () => {
  [local, second] = await Promise.all([startEchoUpstream({ socketPath }), startEchoUpstream()]);
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    data.apis.orders.returnHeaders = ['refresh'];
    data.apis.versioned = { path: '/api/versioned', upstream, rewritePath: '/v1' };
    data.apis.tail = { path: '/api/tail/v1', upstream, rewritePath: '/v1' };
    data.apis.local = { path: '/api/local', upstream: local.url };
    data.apis.several = { path: '/api/several', upstream: [upstream, second.url, 'http://[::1]:3100'] };
  });
});
beforeEach(() => world.fresh());
afterAll(async () => {
  await world.stop();
  await Promise.all([local.stop(), second.stop()]);
  rmSync(socketPath, { force: true });
});

/** The header as the browser gets it, when the API answers with this one. */
async function passed(target: string, [name, value]: HeaderLine, status = 302) {
  const respond = reply({ status, headers: [[name, value]], body: 'x' });
  for (const upstream of [world.upstream, local, second]) upstream.respond = respond;
  const answer = await world.alice.fetch(target);
  expect(answer.status).toBe(status);
  return answer.all(name);
}

const own = () => world.upstream.url;
const secured = () => own().replace('http:', 'https:');
const bare = () => own().replace(/:\d+$/, '');
const ours = () => world.origin;

type Case = [name: string, target: string, link: () => string, expected: () => string];

const cases: Case[] = [
  ["the upstream's origin", '/api/orders/1', () => `${own()}/2?x=1#y`, () => '/api/orders/2?x=1#y'],
  ["the upstream's path", '/api/orders/1', () => '/2', () => '/api/orders/2'],
  ['a path inside rewritePath', '/api/versioned/1', () => '/v1/2', () => '/api/versioned/2'],
  ['rewritePath itself', '/api/versioned/1', () => '/v1', () => '/api/versioned'],
  ['a path outside rewritePath', '/api/versioned/1', () => '/v10/2', () => '/v10/2'],
  ['a relative path', '/api/orders/1', () => '2', () => '2'],
  ['a query alone', '/api/orders/1', () => '?page=2', () => '?page=2'],
  ['another site', '/api/orders/1', () => 'https://other.example/x', () => 'https://other.example/x'],
  ['userinfo of the upstream', '/api/orders/1', () => own().replace('//', '//u:p@'), () => '/api/orders/'],
  ['two slashes at the upstream', '/api/versioned/1', () => `${own()}//evil.example`, () => '/evil.example'],
  ['a backslash at the upstream', '/api/versioned/1', () => `${own()}/\\evil.example`, () => '/evil.example'],
  // an API that believes X-Forwarded-Proto and keeps Host
  ['the upstream with the other scheme', '/api/orders/1', () => `${secured()}/items/`, () => '/api/orders/items/'],
  ['the upstream without its port', '/api/orders/1', () => `${bare()}/items/`, () => '/api/orders/items/'],
  ['both', '/api/orders/1', () => `${bare().replace('http:', 'https:')}/items/`, () => '/api/orders/items/'],
  ['capitals', '/api/orders/1', () => `${secured().replace('https', 'HTTPS')}/A`, () => '/api/orders/A'],
  ['no scheme', '/api/orders/1', () => `${own().replace('http:', '')}/2`, () => '/api/orders/2'],
  ['backslashes instead of slashes', '/api/orders/1', () => own().replace('http://', '\\\\'), () => '/api/orders/'],
  ['another way to write the address', '/api/orders/1', () => `${own().replace('127.0.0.1', '127.1')}/2`, () => '/api/orders/2'],
  ['the second target', '/api/several/1', () => `${second.url}/2`, () => '/api/several/2'],
  ['a target with an IPv6 address', '/api/several/1', () => 'https://[0:0::1]:3100/2', () => '/api/several/2'],
  ['what a unix socket is called', '/api/local/1', () => 'https://localhost/2', () => '/api/local/2'],
  ['another port of the same host', '/api/orders/1', () => `${bare()}:1/2`, () => `${bare()}:1/2`],
  ['another scheme than HTTP', '/api/orders/1', () => own().replace('http', 'ftp'), () => own().replace('http', 'ftp')],
  ['a longer name of the same host', '/api/orders/1', () => `${bare()}.evil.example/`, () => `${bare()}.evil.example/`],
  ['the host as userinfo', '/api/orders/1', () => `${bare()}@evil.example/`, () => `${bare()}@evil.example/`],
  // an API that knows what was stripped
  ['the whole path', '/api/orders/1', () => '/api/orders/2', () => '/api/orders/2'],
  ['the whole path at the upstream', '/api/orders/1', () => `${secured()}/api/orders/2`, () => '/api/orders/2'],
  ['the whole path above rewritePath', '/api/tail/v1/1', () => '/api/tail/v1/2', () => '/api/tail/v1/2'],
  ['a path that only begins alike', '/api/orders/1', () => '/api/orders2', () => '/api/orders/api/orders2'],
  ['a path that no prefix tells of', '/api/versioned/1', () => '/v1/api/versioned', () => '/api/versioned/api/versioned'],
  // an API that believes X-Forwarded-Host
  ['our origin and the whole path', '/api/orders/1', () => `${ours()}/api/orders/2`, () => '/api/orders/2'],
  ['our host with the other scheme', '/api/orders/1', () => `${ours().replace('http:', 'https:')}/api/orders/2`, () => '/api/orders/2'],
  ['our origin and the path with a slash', '/api/orders/items?x', () => `${ours()}/items/?x`, () => '/api/orders/items/?x'],
  ['our origin and a path inside rewritePath', '/api/versioned/1', () => `${ours()}/v1/2`, () => '/api/versioned/2'],
  ['a page of the SPA', '/api/orders/1', () => `${ours()}/settings?done`, () => `${ours()}/settings?done`],
  ['what breaks off', '/api/orders/1', () => 'http://[', () => 'http://['],
]; // biome-ignore format: a table

describe('Location', () => {
  for (const [name, target, link, expected] of cases) {
    it(`W51 leads browsers right for ${name}`, async () => {
      expect(await passed(target, ['Location', link()])).toEqual([expected()]);
      expect(world.upstream.requests.length).toBeLessThanOrEqual(1); // not followed
    });
  }

  it('W51 of what was made is the API’s own, at our origin too', async () => {
    expect(await passed('/api/orders', ['Location', `${ours()}/7`], 201)).toEqual(['/api/orders/7']);
  });
});

describe('other headers', () => {
  it('W51 Content-Location', async () => {
    expect(await passed('/api/orders/1', ['Content-Location', `${secured()}/1.json`], 200)).toEqual([
      '/api/orders/1.json',
    ]);
    expect(await passed('/api/orders/1', ['Content-Location', `${ours()}/1.json`], 200)).toEqual([
      '/api/orders/1.json',
    ]);
    expect(await passed('/api/orders/1', ['Content-Location', '1.json'], 200)).toEqual(['1.json']);
  });

  const links: [link: () => string, expected: string][] = [
    [() => `<${secured()}/?page=2>; rel="next", </?page=9>; rel=last`, '</api/orders/?page=2>; rel="next", </api/orders/?page=9>; rel=last'],
    [() => '<https://cdn.example/a.css>; rel=preload, <2>; rel=next', '<https://cdn.example/a.css>; rel=preload, <2>; rel=next'],
    [() => '</2>; title="a <b> \\" <c>"; rel=next', '</api/orders/2>; title="a <b> \\" <c>"; rel=next'],
    [() => '</2', '</2'],
  ]; // biome-ignore format: a table
  for (const [link, expected] of links) {
    it(`W51 Link: ${expected}`, async () => {
      expect(await passed('/api/orders/1', ['Link', link()], 200)).toEqual([expected]);
    });
  }

  const refreshes: [value: () => string, expected: () => string][] = [
    [() => `0; url=${secured()}/2`, () => '0; url=/api/orders/2'],
    [() => `5;URL='${own()}/2' x`, () => '5;URL=/api/orders/2'],
    [() => '1.5, "/2"', () => '1.5, /api/orders/2'],
    [() => '0 /2', () => '0 /api/orders/2'],
    [() => '10', () => '10'],
    [() => `0; url=${ours()}/settings`, () => `0; url=${ours()}/settings`],
    [() => '0; url=https://other.example/', () => '0; url=https://other.example/'],
  ];
  for (const [value, expected] of refreshes) {
    it(`W51 Refresh, where returnHeaders names it: ${value.toString().slice(6)}`, async () => {
      expect(await passed('/api/orders/1', ['Refresh', value()], 200)).toEqual([expected()]);
    });
  }
});
