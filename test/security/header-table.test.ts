import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { requestHeaders, responseHeaders, responseTrailers } from '../../src/config/schema/headers.ts';
import type { ConfigData } from '../support/config-data.ts';
import { rawBytes, reply } from '../support/echo-upstream/answers.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// W50: docs/headers.md says of each header what becomes of it in both directions. Here every row is played, and the lists
// of the code have to be the page's.

type Fate = 'passed' | 'on demand' | 'ours' | 'dropped';
interface Row {
  name: string;
  request: Fate;
  response: Fate;
  isTrailer: boolean;
}

const page = readFileSync(join(import.meta.dirname, '../../docs/headers.md'), 'utf8');
const rowsOf = (heading: string) => {
  const section = page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `([^`]+)` \|(?: (?:permanent|provisional|deprecated|obsoleted) \|)? (.*) \|$/gm)];
};
const rows = ['Registered fields', 'Others'].flatMap(rowsOf).map(([, name = '', cells = '']): Row => {
  const [request, response] = cells.split(' | ') as [Fate, string];
  const [fate, trailer] = response.split(', ') as [Fate, string | undefined];
  return { name: name.toLowerCase(), request, response: fate, isTrailer: trailer === 'trailer too' };
});
const named = (keep: (row: Row) => boolean) => rows.filter(keep).map(({ name }) => name).sort(); // biome-ignore format: one line

let world: ProxyWorld;
let data: ConfigData;
beforeAll(async () => {
  world = await startProxyWorld((changed) => {
    const { upstream } = changed.apis.orders;
    changed.apis.open = {
      path: '/api/open',
      upstream,
      forwardHeaders: named(({ request }) => request === 'on demand'),
      returnHeaders: named(({ response }) => response === 'on demand'),
    };
    data = changed;
  });
});
afterAll(() => world.stop());

describe('the page', () => {
  it('has every name once, and as many registered ones as it says', () => {
    expect(rows.map(({ name }) => name)).toEqual([...new Set(rows.map(({ name }) => name))]);
    expect(rowsOf('Registered fields')).toHaveLength(Number(/all (\d+) names/.exec(page)?.[1]));
    for (const { name, request, response } of rows)
      for (const fate of [request, response]) expect(['passed', 'on demand', 'ours', 'dropped'], name).toContain(fate);
  });

  it('and the lists of the code say the same', () => {
    expect(named(({ request }) => request === 'passed')).toEqual([...requestHeaders].sort());
    expect(named(({ response }) => response === 'passed')).toEqual([...responseHeaders].sort());
    expect(named(({ isTrailer }) => isTrailer)).toEqual([...responseTrailers].sort());
  });

  it('and the configuration refuses what never crosses, and nothing else', () => {
    const refused = (key: 'forwardHeaders' | 'returnHeaders', name: string) => {
      const changed = structuredClone(data);
      changed.apis = { orders: { ...changed.apis.orders, [key]: [name] } } as unknown as ConfigData['apis'];
      return !parseConfig('table.yaml', stringify(changed), {}).ok;
    };
    const never = (fate: Fate) => fate === 'ours' || fate === 'dropped';
    for (const { name, request, response } of rows) {
      if (request !== 'passed') expect([name, refused('forwardHeaders', name)]).toEqual([name, never(request)]);
      if (response !== 'passed') expect([name, refused('returnHeaders', name)]).toEqual([name, never(response)]);
    }
  });
});

/** What is not free to say anything. */
const requestValues: Record<string, string> = {
  authorization: 'Bearer probe',
  'content-length': '2',
  'content-type': 'text/probe',
  cookie: 'probe=1',
  expect: '100-continue',
  via: '1.1 probe',
};

describe('requests', () => {
  /** The values of a header that arrive, sent with a body of two bytes. */
  async function arriving(path: string, name: string): Promise<[sent: string, values: string[]]> {
    world.fresh();
    let value = requestValues[name] ?? 'probe';
    let lines = [`${name}: ${value}`];
    if (name === 'host') [value, lines] = [`localhost:${world.port}`, []]; // the request has one, and may have no other
    if (name === 'sec-fetch-site') [value, lines] = ['same-origin', []];
    if (name === 'x-csrf') [value, lines] = ['1', []];
    if (name === 'origin') [value, lines] = [world.origin, [`Origin: ${world.origin}`]];
    if (name === 'transfer-encoding') [value, lines] = ['Chunked', ['Transfer-Encoding: Chunked']];
    const framing = name === 'content-length' || name === 'transfer-encoding' ? [] : ['Content-Length: 2'];
    const body = name === 'transfer-encoding' ? '2\r\nhi\r\n0\r\n\r\n' : 'hi';
    const result = await rawRequest(world.port, [world.head(path, [...lines, ...framing], 'PUT'), body]);
    expect(result.status, `${name}: ${result.text}`).toBe(200);
    const [request] = world.upstream.requests;
    expect(request?.body.toString()).toBe('hi');
    return [value, request?.all(name) ?? []];
  }

  for (const { name, request } of rows)
    it(`W50 ${name}: ${request}`, async () => {
      const [sent, values] = await arriving('/api/orders/1', name);
      if (request === 'passed') expect(values).toEqual([sent]);
      else expect(values).not.toContain(sent);
      if (request === 'dropped' || request === 'on demand') expect(values).toEqual([]);
      if (request !== 'on demand') return;
      const [named, opened] = await arriving('/api/open/1', name);
      expect(opened).toEqual([named]);
    });
});

const responseValues: Record<string, string> = {
  'content-length': '5',
  location: '2',
  refresh: '7',
  'transfer-encoding': 'chunked',
  'www-authenticate': 'Bearer probe',
  'x-accel-buffering': 'probe',
};

describe('answers', () => {
  async function passed(path: string, name: string): Promise<[sent: string, values: string[]]> {
    const value = responseValues[name] ?? 'probe';
    const isChunked = name === 'transfer-encoding';
    world.upstream.respond = isChunked
      ? rawBytes('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n')
      : reply({ headers: [[name, value]], body: 'hello' });
    const answer = await rawRequest(world.port, world.head(path));
    expect(answer.status).toBe(200);
    expect(answer.body).toBe('hello');
    const { headers } = answer.responses[0] as (typeof answer.responses)[0];
    return [value, headers.filter(([each]) => each.toLowerCase() === name).map(([, each]) => each)];
  }

  for (const { name, response } of rows)
    it(`W50 ${name}: ${response}`, async () => {
      const [sent, values] = await passed('/api/orders/1', name);
      if (response === 'passed') expect(values).toEqual([sent]);
      else if (name !== 'transfer-encoding') expect(values).not.toContain(sent); // the same word, of another framing
      if (response === 'dropped' || response === 'on demand') expect(values).toEqual([]);
      if (response !== 'on demand') return;
      const [named, opened] = await passed('/api/open/1', name);
      expect(opened).toEqual([named]);
    });

  it('W50 trailers', async () => {
    // A trailer can't frame a message that is over; parsers refuse some of those.
    const framing = ['transfer-encoding', 'content-length', 'connection', 'upgrade', 'proxy-connection', 'keep-alive'];
    const sent = rows.map(({ name }) => name).filter((name) => !framing.includes(name));
    const lines = sent.map((name) => `${name}: probe\r\n`).join('');
    const trailersOf = async (path: string) => {
      world.upstream.respond = rawBytes(
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n${lines}\r\n`,
      );
      const { responses, body } = await rawRequest(world.port, world.head(path));
      expect(body).toBe('hello');
      return responses[0]?.trailers.map(([name]) => name.toLowerCase()).sort();
    };
    expect(await trailersOf('/api/orders/1')).toEqual(named(({ isTrailer }) => isTrailer));
    expect(await trailersOf('/api/open/1')).toEqual(
      named(({ isTrailer, response }) => isTrailer || response === 'on demand'),
    );
  });
});
