import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { Config } from '../../src/config/config.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { explainCall } from '../../src/explain/explain.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { type RawResult, rawRequest } from '../support/raw-client.ts';

// W10: there are three doors to one decision: a call through our proxy, a question of another proxy (forward-auth), and
// `cloakroom explain`. A path that one of them lets through and another does not is a way around the rule.

const key = randomBytes(32).toString('base64url');
let world: ProxyWorld;
let config: Config;

beforeAll(async () => {
  world = await startProxyWorld((data) => {
    data.trustedProxies = ['127.0.0.2/32'];
    data.forwardAuth = { key };
    data.apis.orders.routes = ['/refunds', '/*/refunds', '/v1.0', '/.well-known', '/file.json'].map((path) => ({
      path,
      require: { roles: ['admin'] },
    }));
    const parsed = parseConfig('world.yaml', stringify(data), {});
    if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
    config = parsed.config;
  });
});
beforeEach(() => world.fresh());
afterAll(() => world.stop());

/** Allowed, or why not; a place of no API is 404 to our proxy's callers and 403 to another proxy. */
const verdictOf = ({ status, body }: RawResult) => {
  if (status === 200) return 'allowed';
  const { code } = JSON.parse(body) as { code: string };
  if (code === 'BFF_FORWARD_AUTH_DENIED') return 'BFF_ROUTE_UNKNOWN';
  return code === 'FST_ERR_BAD_URL' ? 'BFF_PATH_NOT_CANONICAL' : code; // the router comes before our guard
};

const throughUs = async (target: string) => verdictOf(await rawRequest(world.port, world.head(target)));
const throughAnother = async (target: string) => {
  const asked = [`X-Forward-Auth-Key: ${key}`, 'X-Original-Method: GET', `X-Original-URI: ${target}`];
  return verdictOf(await rawRequest(world.port, world.head('/bff/forward-auth', asked), { localAddress: '127.0.0.2' }));
};
const explained = (target: string) => {
  const { isAllowed, text } = explainCall(config, { method: 'GET', target, claims: { sub: 'alice' } });
  return isAllowed ? 'allowed' : (/refused, \d+ (\w+)/.exec(text)?.[1] ?? text);
};

const piece = fc.constantFrom(
  'refunds', 'REFUNDS', 'ref%75nds', '7', 'v1.0', 'v1', 'file', '.json', '.geojson', '.tar.gz', '.', '%2e', ';', ';v=1', '%3b', '%3F', '%3fx', '%23', '%23x', '%20',
  '/', '/', '/', '//', '..', '%2f', '%5c', '%2561', '%00', '%zz', '%c3%bc', '.well-known', '~', '@', ':', '%40', '&',
); // biome-ignore format: an alphabet reads better in rows
const path = fc
  .tuple(
    fc.constantFrom('/api/orders', '/api/orders/', '/api/orders/', '/api/orders/', '/api/%6frders/', '/API/orders/'),
    fc.array(piece, { maxLength: 6 }),
    fc.constantFrom('', '', '?x=/refunds', '?'),
  )
  .map(([prefix, pieces, query]) => prefix + pieces.join('') + query);

describe('W10 one decision at three doors', () => {
  it('W10 is the same, however a path is written', async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(path, async (target) => {
        const [us, another] = [await throughUs(target), await throughAnother(target)];
        seen.add(us);
        // Letters that the router decodes and the upstream would not are no path of an API: 400 here, no API there.
        const isEscapedPrefix = us === 'BFF_PATH_NOT_CANONICAL' && another === 'BFF_ROUTE_UNKNOWN';
        if (!(isEscapedPrefix && target.startsWith('/api/%6f'))) expect(another, target).toBe(us);
        expect(explained(target), target).toBe(us);
      }),
      { numRuns: 400 },
    );
    expect([...seen].sort()).toEqual(['BFF_PATH_NOT_CANONICAL', 'BFF_POLICY_DENIED', 'BFF_ROUTE_UNKNOWN', 'allowed']);
  });

  const guarded = [
    '/refunds.geojson', '/refunds.jsonld', '/refunds.tar.gz', '/refunds.anything.else/x', '/refunds;a=b.c', '/refunds%3Fx', '/refunds%23/x', '/7/refunds.csv',
    '/7.0/refunds', '/v1.0', '/v1.0.json', '/v1.0/items', '/.well-known', '/.well-known.json', '/file.json', '/file.json.gz', '/refunds%2etar%2Egz',
  ]; // biome-ignore format: a corpus reads better in rows
  it.each(guarded)('W10 guards %s', async (below) => {
    for (const verdict of [throughUs, throughAnother, explained])
      expect(await verdict(`/api/orders${below}`)).toBe('BFF_POLICY_DENIED');
    expect(world.upstream.requests).toEqual([]);
  });

  it.each(['/refund.s', '/v1', '/v1.1', '/file', '/.well', '/C%23', '/what%3F.pdf', '/.refunds'])(
    'W10 lets %s through',
    async (below) => {
      for (const verdict of [throughUs, throughAnother, explained])
        expect(await verdict(`/api/orders${below}`)).toBe('allowed');
      expect(world.upstream.requests.map(({ target }) => target)).toEqual([below]);
    },
  );

  it.each(['/..%3F', '/x/..%23/refunds', '/.%3fx', '/%2e%2E%3f'])('W10 refuses %s', async (below) => {
    for (const verdict of [throughUs, throughAnother, explained])
      expect(await verdict(`/api/orders${below}`)).toBe('BFF_PATH_NOT_CANONICAL');
  });
});
