import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { METHODS } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { Config } from '../../src/config/config.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { explainCall } from '../../src/explain/explain.ts';
import { startTwoUpstreams, type TwoUpstreams } from '../support/proxy-world.ts';
import { type RawResult, rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';

// W59, W60, W63, W66: whose a path is, and what its owner takes. APIs below each other, ids with slashes, methods beyond
// the usual ones, and pages at paths that no API may have. What one door says, the other two say too.

const key = randomBytes(32).toString('base64url');
let folder: string;
let world: TwoUpstreams;
let config: Config;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-places-'));
  await writeFile(join(folder, 'index.html'), 'the SPA');
  world = await startTwoUpstreams((data, otherUrl) => {
    const { upstream } = data.apis.orders;
    data.files = folder;
    data.trustedProxies = ['127.0.0.2/32'];
    data.forwardAuth = { key };
    data.apis.outer = { path: '/shop', upstream, methods: ['GET', 'POST', 'QUERY'], encodedSlashes: true };
    data.apis.inner = { path: '/shop/admin', upstream: otherUrl, methods: ['GET', 'PROPFIND', 'REPORT'] };
    data.apis.innermost = { path: '/shop/admin/open', upstream, token: 'none' };
    data.apis.version = { path: '/shop/v1', upstream: otherUrl };
    data.apis.minor = { path: '/shop/v1.0', upstream };
    data.apis.projects = {
      path: '/git',
      upstream,
      encodedSlashes: true,
      routes: [
        { path: '/secret', require: { roles: ['admin'] } },
        { path: '/*/hidden', require: { roles: ['admin'] } },
        { path: '/a/b/c', require: { roles: ['admin'] } },
      ],
    };
    const parsed = parseConfig('world.yaml', stringify(data), {});
    if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
    config = parsed.config;
  });
});
beforeEach(() => world.fresh());
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

const send = (target: string, method = 'GET', lines: string[] = []) =>
  rawRequest(world.port, world.head(target, lines, method));
const codeOf = ({ status, body }: RawResult) => {
  if (status === 200) return body === 'other' ? 'other' : body === 'the SPA' ? 'page' : 'ok';
  return (JSON.parse(body) as { code: string }).code;
};
const ask = (target: string, method = 'GET') =>
  rawRequest(
    world.port,
    world.head('/bff/forward-auth', [
      `X-Forward-Auth-Key: ${key}`,
      `X-Original-Method: ${method}`,
      `X-Original-URI: ${target}`,
    ]),
    { localAddress: '127.0.0.2' },
  );
/** Envoy's way: the original path behind ours. */
const askBehind = (target: string, method = 'GET') =>
  rawRequest(world.port, world.head(`/bff/forward-auth${target}`, [`X-Forward-Auth-Key: ${key}`], method), {
    localAddress: '127.0.0.2',
  });
const explain = (target: string, method = 'GET') => explainCall(config, { method, target, claims: { sub: 'alice' } });

/** Through all doors: the answer of the first, after the others were compared with it. */
async function decided(target: string, method = 'GET'): Promise<RawResult> {
  const result = await send(target, method);
  const code = codeOf(result);
  const isAllowed = code === 'ok' || code === 'other';
  const isFiles = code === 'page' || code === 'BFF_ROUTE_UNKNOWN';
  const isDenied = code === 'BFF_METHOD_NOT_ALLOWED' || isFiles;
  for (const answer of [await ask(target, method), await askBehind(target, method)])
    expect(codeOf(answer), `${method} ${target}`).toBe(isAllowed ? 'ok' : isDenied ? 'BFF_FORWARD_AUTH_DENIED' : code);
  const { isAllowed: explained, text } = explain(target, method);
  expect(explained ? 'allowed' : /refused, \d+ (\w+)/.exec(text)?.[1], text).toBe(
    isAllowed || isFiles ? 'allowed' : code,
  );
  return result;
}

describe('W66 APIs below each other', () => {
  it.each([
    ['/shop', 'ok', '/'],
    ['/shop/administration/1', 'ok', '/administration/1'],
    ['/shop/orders/admin', 'ok', '/orders/admin'],
    ['/shop/admin', 'other', '/'],
    ['/shop/admin?x=/shop/orders', 'other', '/?x=/shop/orders'],
    ['/shop/admin/users/7', 'other', '/users/7'],
    ['/shop/admin/opened', 'other', '/opened'],
    ['/shop/admin/open/x', 'ok', '/x'],
    ['/shop/v1/x', 'other', '/x'],
    ['/shop/v1.0/x', 'ok', '/x'],
    ['/shop/v1a/x', 'ok', '/v1a/x'],
  ])('W66 gives %s to the longest path', async (target, code, arrived) => {
    expect(codeOf(await decided(target))).toBe(code);
    const { requests } = code === 'ok' ? world.upstream : world.other;
    expect(requests.map((request) => request.target)).toEqual([arrived]);
  });

  it.each([
    '/shop/Admin/users', '/shop/ADMIN', '/shop/%61dmin/users', '/shop/admi%6e', '/shop/admin;v=1/users', '/shop/admin.json',
    '/shop/admin%3Fx/users', '/shop/admin%23', '/shop/admin(1)', '/shop/admin%20/users', '/shop/admin%2Fusers', '/shop/admin%2fopen%2Fx',
    '/shop/admin/Open/x', '/shop/admin/op%65n', '/shop/v1.5/x', '/shop/V1/x', '/shop%2Fadmin/users', '/shop/%2561dmin', '/shop%2Forders',
    '/%73hop/orders', '/shop/v1%2e0/x',
  ])('W66 refuses %s, which some would take to another API', async (target) => {
    expect(codeOf(await decided(target))).toBe('BFF_PATH_NOT_CANONICAL');
    expect([...world.upstream.requests, ...world.other.requests]).toEqual([]);
  }); // biome-ignore format: a corpus reads better in rows

  it('W66 refuses a method that the longest path does not take, whatever the shorter one takes', async () => {
    for (const method of ['POST', 'QUERY', 'DELETE', 'OPTIONS']) {
      const result = await decided('/shop/admin/users', method);
      expect(result.status, method).toBe(405);
      expect(headerValues(result.headers, 'allow')).toEqual(['GET, PROPFIND, REPORT']);
    }
    for (const method of ['PROPFIND', 'REPORT', 'PUT'])
      expect((await decided('/shop/orders', method)).status, method).toBe(405);
    expect([...world.upstream.requests, ...world.other.requests]).toEqual([]);
  });
});

const piece = fc.constantFrom(
  'admin', 'ADMIN', 'adm%69n', 'open', 'v1', 'v1.0', 'secret', 'hidden', 'a', 'b', 'c', '.json', '(1)', ';x', '%3bx', '%3F', '%23', '%20',
  '/', '/', '/', '//', '%2f', '%2F', '%252f', '%5c', '..', '%2e', '.', '%00', '%zz', '%E9', '%c3%bc',
); // biome-ignore format: an alphabet reads better in rows
const oddPath = fc
  .tuple(
    fc.constantFrom('/shop/', '/shop/', '/git/', '/git/', '/shop', '/sh%6fp/', '/'),
    fc.array(piece, { maxLength: 7 }),
  )
  .map(([prefix, pieces]) => prefix + pieces.join(''));

it('W10, W60, W66 is the same decision at all doors, however a path is written', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(oddPath, async (target) => {
      world.fresh();
      seen.add(codeOf(await decided(target)));
      const arrived = [...world.upstream.requests, ...world.other.requests].map((request) => request.target);
      expect(arrived.length, target).toBeLessThan(2);
    }),
    { numRuns: 600, examples: ['/git/secret', '/shop/admin', '/shop/x', '/git/%2f', '/x'].map((target) => [target]) },
  );
  for (const outcome of ['BFF_PATH_NOT_CANONICAL', 'BFF_POLICY_DENIED', 'BFF_ROUTE_UNKNOWN', 'ok', 'other'])
    expect(seen).toContain(outcome);
});

describe('W63 methods', () => {
  it('W63 passes on what the configuration names, with its body', async () => {
    const body = '<propfind/>';
    const lines = [`Content-Length: ${body.length}`, 'Content-Type: application/xml'];
    for (const [method, target, upstream] of [
      ['PROPFIND', '/shop/admin/files', world.other],
      ['REPORT', '/shop/admin/files', world.other],
      ['QUERY', '/shop/files', world.upstream],
    ] as const) {
      world.fresh();
      const result = await rawRequest(world.port, world.head(target, lines, method) + body);
      expect(result.status, method).toBe(200);
      const [request] = upstream.requests;
      expect([request?.method, request?.target, request?.body.toString()]).toEqual([method, '/files', body]);
      expect(request?.header('content-type')).toBe('application/xml');
    }
  });

  it('W63 answers 405 to all others, at any API', async () => {
    for (const method of METHODS.filter((name) => !['CONNECT', 'GET', 'PROPFIND', 'REPORT', 'HEAD'].includes(name))) {
      const result = await send('/shop/admin/x', method);
      expect([result.status, codeOf(result)], method).toEqual([405, 'BFF_METHOD_NOT_ALLOWED']);
      expect(headerValues(result.headers, 'allow'), method).toEqual(['GET, PROPFIND, REPORT']);
      expect(headerValues(result.headers, 'x-request-id'), method).toHaveLength(1);
    }
    expect(world.other.requests).toEqual([]);
  });

  it('W63 leaves it to the API what a QUERY without Content-Type is, and answers 405 and 404 to it as to others', async () => {
    expect(codeOf(await send('/shop/x', 'QUERY'))).toBe('ok');
    expect(world.upstream.requests.map(({ requestLine }) => requestLine)).toEqual(['QUERY /x HTTP/1.1']);
    expect(codeOf(await send('/api/orders/x', 'QUERY'))).toBe('BFF_METHOD_NOT_ALLOWED');
    expect(codeOf(await send('/nowhere', 'QUERY'))).toBe('BFF_ROUTE_UNKNOWN');
    expect(codeOf(await askBehind('/shop/x', 'QUERY'))).toBe('ok');
  });

  it('W63 asks for the CSRF proof with each of them', async () => {
    for (const [method, target] of [
      ['QUERY', '/shop/x'],
      ['PROPFIND', '/shop/admin/x'],
    ] as const) {
      const head = world.head(target, [], method).replace('X-CSRF: 1\r\n', '');
      expect(codeOf(await rawRequest(world.port, head)), method).toBe('BFF_CSRF_REJECTED');
    }
  });

  it('W63 says which methods there are', () => {
    const parse = (methods: string[]) =>
      parseConfig(
        'world.yaml',
        stringify({ apis: { files: { path: '/dav', upstream: 'http://localhost:1', methods } } }),
        {},
      );
    for (const method of ['TRACE', 'CONNECT', 'BREW', 'get', '']) {
      const parsed = parse([method]);
      expect(
        parsed.ok
          ? []
          : parsed.problems
              .map(formatProblem)
              .filter((text) => text.includes('methods'))
              .join(),
      ).toMatch(/must be one of GET, .*PROPFIND/);
    }
  });
});

describe('W60 ids with slashes', () => {
  it.each(['/git/group%2Fproject', '/git/group%2fsub%2Fproject/issues?x=%2F', '/git/a%20b%2Fc', '/shop/x%2Fy'])(
    'W60 passes %s on as it came',
    async (target) => {
      expect(codeOf(await decided(target))).toBe('ok');
      expect(world.upstream.requests.map((request) => request.target)).toEqual([target.slice(target.indexOf('/', 1))]);
    },
  );

  it.each([
    '/git/secret%2Fx', '/git/Secret%2F1', '/git/x%2Fhidden', '/git/x%2Fy/hidden', '/git/x/hidden%2Fy', '/git/a%2Fb/c', '/git/a/b%2Fc', '/git/a%2fb%2Fc',
    '/git/a%2Fb%2Fc.json',
  ])('W60 holds %s to the rules of both readings', async (target) => {
    expect(codeOf(await decided(target))).toBe('BFF_POLICY_DENIED');
    expect(world.upstream.requests).toEqual([]);
  }); // biome-ignore format: a corpus reads better in rows

  it.each([
    '/git/..%2Fx', '/git/x%2F..%2Fsecret', '/git/x%2F.', '/git/x%2F%2Fy', '/git/%2Fx', '/git/x/%2F', '/git/x%2F/y', '/git/x%252Fy',
    '/git/x%5Cy', '/git/x%2F%00', '/git/x%2F%2e%2e/secret', '/git/x%2F..;/secret', '/git/x%2F;a/y', '/git/x%2Fy%ff', '/git/x%2Fy%zz',
    '/git%2Fx', '/git/%252e%252e%2Fx', '/git/..%3Fx%2Fy', '/git/x%25%32%46y', '/shop/x%2F..%2Fadmin',
  ])('W60 refuses %s', async (target) => {
    expect(codeOf(await decided(target))).toBe('BFF_PATH_NOT_CANONICAL');
    expect(world.upstream.requests).toEqual([]);
  }); // biome-ignore format: a corpus reads better in rows

  it('W60 refuses them at an API that does not say so', async () => {
    for (const target of ['/api/orders/a%2Fb', '/shop/admin/a%2Fb', '/shop/admin/open/a%2Fb'])
      expect(codeOf(await decided(target)), target).toBe('BFF_PATH_NOT_CANONICAL');
    expect([...world.upstream.requests, ...world.other.requests]).toEqual([]);
  });
});

describe('W59 pages at any path that is no API’s', () => {
  const page = (
    target: string,
    lines = ['Accept: text/html', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document'],
  ) => send(target, 'GET', lines);

  it.each([
    '/projects/group%2Fname', '/search/50%2525', '/search/50%25', '/caf%E9', '/50%', '/a%zz', '/%ff%fe', '/a%5Cb', '/x%00y', '/docs//page', '/a;b/%2F',
    '/api.docs/a%20b', '/API/orders%2Fx', '/x%2525252fy', '/bffs%2Fx', '/a%0Ab', '/gitlab%2Fx', '/shopping%2Fadmin',
  ])('W59 gives a navigation to %s the page', async (target) => {
    const result = await page(target);
    expect([result.status, result.body], target).toEqual([200, 'the SPA']);
    expect(explain(target).text).toContain('allowed');
  }); // biome-ignore format: a corpus reads better in rows

  it.each([
    '/api%2Forders', '/api%2Forders/x', '/%61pi/orders', '/api/%6frders/x', '/%2561pi/orders/x', '/bff%2Fsession', '/bff/%2e%2e/x',
    '/x/..%2Fapi/orders', '/x%2F..%2F..%2Fapi/orders', '/api%5Corders', '/api%2F%2Forders/x', '/api//orders/x', '//evil.example/x', '/%2Fevil.example',
    '/%5C/evil.example', '/git%2Fsecret', '/x/../y', '/x/.%2e/y', '/;/x', '/x#y', '/x?y#z', '/%252561pi%25252Forders',
    '/x/%2525252525252e', '/bff//session', '/bff/session%2F', '/bff/%zz', '/api/orders/%E9', '/%61pi/orders/%E9',
  ])('W59 refuses %s as a navigation too', async (target) => {
    const result = await page(target);
    expect(result.status, target).toBe(400);
    expect(headerValues(result.headers, 'proxy-status').join()).toContain('BFF_PATH_NOT_CANONICAL');
    expect(headerValues(result.headers, 'x-request-id')).toHaveLength(1);
    expect([...world.upstream.requests, ...world.other.requests]).toEqual([]);
  }); // biome-ignore format: a corpus reads better in rows

  it.each(['/caf%E9', '/50%', '/projects/group%2Fname', '/docs//page', '/bff/sessions/'.concat('x'.repeat(4000))])(
    'W59 has an error of ours for a call to %.40s',
    async (target) => {
      const result = await send(target, 'GET', ['Accept: application/json']);
      expect([result.status, codeOf(result)]).toEqual([404, 'BFF_ROUTE_UNKNOWN']);
      expect(headerValues(result.headers, 'content-type')).toEqual(['application/problem+json; charset=utf-8']);
      expect(headerValues(result.headers, 'x-content-type-options')).toEqual(['nosniff']);
    },
  );

  it('W59 has an error of ours for a name that is too long to be one', async () => {
    const result = await send(`/bff/sessions/${'x'.repeat(4000)}`, 'DELETE');
    expect([result.status, codeOf(result)]).toEqual([404, 'BFF_ROUTE_UNKNOWN']);
    expect(headerValues(result.headers, 'x-request-id')).toHaveLength(1);
  });

  it('W59 answers HEAD as GET', async () => {
    const { status, body } = await send('/orders/1', 'HEAD', ['Accept: text/html']);
    expect([status, body]).toEqual([200, '']);
  });
});
