import { describe, expect, it } from 'vitest';
import { configOf, type Data, problemsOf } from './support.ts';

const set = (api: Data) => (data: Data) => Object.assign(data.apis.orders, api);
const orders = (api: Data = {}) => configOf(set(api)).frontends[0]?.apis[0];
const problems = (api: Data) => problemsOf(set(api));

describe('the targets of an API', () => {
  it('are one origin, a socket, or a list', () => {
    expect(orders({ upstream: 'http://orders:8080/' })?.upstream).toEqual(['http://orders:8080']);
    expect(orders({ upstream: 'unix:/run/orders.sock' })?.upstream).toEqual(['unix:/run/orders.sock']);
    const list = ['https://Orders-1', 'http://[::1]:8080', 'unix:/run/orders.sock'];
    expect(orders({ upstream: list })?.upstream).toEqual(['https://orders-1', ...list.slice(1)]);
  });

  it.each([
    ['a path in a list', ['http://a', 'http://b/x'], 'apis.orders.upstream.1', /put a path into rewritePath/],
    ['credentials', ['http://user:pw@b'], 'apis.orders.upstream.0', /must be an origin/],
    ['a relative socket', 'unix:run/x', 'apis.orders.upstream', /unix:\/path\/to\/socket/],
    ['a socket with a query', 'unix:/run/x?y', 'apis.orders.upstream', /unix:\/path\/to\/socket/],
    ['a long socket', `unix:/${'x'.repeat(107)}`, 'apis.orders.upstream', /107 bytes/],
    ['the same twice', ['http://a:80', 'http://a/'], 'apis.orders.upstream.1', /in the list twice/],
    ['no list', [], 'apis.orders.upstream', /1/],
    ['too many', Array.from({ length: 33 }, (_, index) => `http://a-${index}`), 'apis.orders.upstream', /32/],
    ['a number', 8080, 'apis.orders.upstream', /must be an origin .* or a list/],
    ['a map', { url: 'http://a' }, 'apis.orders.upstream', /must be an origin .* or a list/],
  ])('are refused: %s', (_name, upstream, key, message) => {
    const [problem = '', ...others] = problems({ upstream });
    expect(others).toEqual([]);
    expect(problem.split(': ')[0]).toBe(key);
    expect(problem).toMatch(message);
    expect(problem).not.toContain('user:pw');
  });
});

describe('W64 affinity', () => {
  it('means nothing where nobody is asked, and no harm where there is one target', () => {
    expect(orders({ affinity: 'session' })?.affinity).toBe('session');
    const unasked = problemsOf((data) => {
      Object.assign(data, { forwardAuth: { key: 'x'.repeat(43) } });
      delete data.apis.orders.upstream;
      data.apis.orders.affinity = 'session';
    });
    expect(unasked.filter((problem) => problem.includes('affinity'))).toEqual([
      'apis.orders.affinity: has no effect without an upstream: remove it',
    ]);
  });
});

describe('what keeps an API reachable', () => {
  it('has a breaker and a bounded line by default, and neither a health check nor a limit for the whole exchange', () => {
    const api = orders();
    expect(api?.breaker).toEqual({ failures: 5, openFor: 1000, statuses: [] });
    expect(api?.limits).toMatchObject({ connections: 1024, queue: 1024 });
    expect([api?.health, api?.timeouts.total, api?.balance]).toEqual([undefined, undefined, 'round-robin']);
    expect([api?.connections, api?.affinity]).toEqual([{ idle: 1500, life: 300_000 }, undefined]);
    expect(orders({ health: { path: '/healthz' } })?.health).toEqual({
      path: '/healthz',
      interval: 10_000,
      timeout: 2000,
      unhealthyAfter: 3,
      healthyAfter: 2,
    });
  });

  it.each([
    ['no failures', { breaker: { failures: 0 } }, /breaker\.failures/],
    ['a pause of nothing', { breaker: { openFor: '0s' } }, /breaker\.openFor/],
    ['a status that is an answer', { breaker: { statuses: [404] } }, /breaker\.statuses/],
    ['a check without a path', { health: {} }, /health\.path/],
    ['a check of another host', { health: { path: 'http://evil/' } }, /health\.path/],
    ['a check with a line break', { health: { path: '/x\r\nHost: evil' } }, /health\.path/],
    ['a check without a pause', { health: { path: '/x', interval: '0s' } }, /health\.interval/],
    ['a negative line', { limits: { queue: -1 } }, /limits\.queue/],
    ['idle time of nothing', { connections: { idle: '0s' } }, /connections\.idle/],
    ['a life of nothing', { connections: { life: '0ms' } }, /connections\.life/],
    ['affinity to who knows what', { affinity: 'cookie' }, /affinity: must be one of session/],
    [
      'affinity and another choice',
      { affinity: 'session', balance: 'least-outstanding' },
      /balance: has no effect with affinity.* remove one of them/,
    ],
    ['a choice that does not exist', { balance: 'random' }, /balance: must be one of round-robin, least-outstanding/],
    ['a certificate without its key', { upstream: 'https://a', clientCertificate: { certFile: '/c' } }, /keyFile/],
    ['a certificate for nobody', { clientCertificate: { certFile: '/c', keyFile: '/k' } }, /no upstream is https/],
    ['a CA for nobody', { upstream: 'unix:/run/x', caFile: '/ca' }, /caFile: has no effect: no upstream is https/],
  ])('refuses %s', (_name, api, message) => {
    const [problem = '', ...others] = problems(api);
    expect(others).toEqual([]);
    expect(problem).toMatch(message);
  });
});
