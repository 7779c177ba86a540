import { describe, expect, it } from 'vitest';
import { configOf, type Data, problemsOf } from './support.ts';

const withRedis = (redis: Data) => (data: Data) => Object.assign(data.session, { redis });
const sentinel = { name: 'mymaster', nodes: ['redis://sentinel-1:26379', 'redis://sentinel-2'] };
const cluster = ['redis://redis-1:6379', 'redis://redis-2:6379'];

describe('where Redis is', () => {
  it.each<[string, Data]>([
    ['a single one', { url: 'redis://redis:6379' }],
    ['Sentinels', { sentinel }],
    ['Sentinels with a password of their own', { sentinel: { ...sentinel, username: 'watch', password: 'pw-4711' } }],
    ['a cluster', { cluster, username: 'cloakroom', password: 'pw-4711' }],
    ['a cluster over TLS', { cluster: ['rediss://redis-1', 'rediss://[::1]:6380'], caFile: '/etc/ca.pem' }],
  ])('may be %s', (_what, redis) => {
    expect(configOf(withRedis(redis)).session.redis).toMatchObject({ keyPrefix: 'cr:', commandTimeout: 1000 });
  });

  it.each<[string, Data, string, RegExp]>([
    ['nowhere', {}, 'session.redis', /does not say where.*exactly one of url, sentinel and cluster/],
    ['in two places', { url: 'redis://redis', cluster }, 'session.redis', /has url and cluster.*exactly one/],
    ['in three', { url: 'redis://redis', cluster, sentinel }, 'session.redis', /has url and sentinel and cluster/],
    [
      'behind no Sentinel',
      { sentinel: { ...sentinel, nodes: [] } },
      'session.redis.sentinel.nodes',
      /names no Sentinel/,
    ],
    [
      'behind nameless Sentinels',
      { sentinel: { nodes: sentinel.nodes } },
      'session.redis.sentinel.name',
      /is required/,
    ],
    ['in an empty cluster', { cluster: [] }, 'session.redis.cluster', /names no node/],
    ['on a node of another scheme', { cluster: ['http://redis-1'] }, 'session.redis.cluster.0', /redis:\/\/redis:6379/],
    ['on a node with a database', { cluster: ['redis://redis-1/2'] }, 'session.redis.cluster.0', /not a plain node/],
    ['on a node with a query', { cluster: [...cluster, 'redis://r?x'] }, 'session.redis.cluster.2', /not a plain node/],
    [
      'on a node with a password',
      { cluster: ['redis://:pw@redis-1'] },
      'session.redis.cluster.0',
      /hold for all nodes/,
    ],
    [
      'behind a Sentinel with a password in its URL',
      { sentinel: { ...sentinel, nodes: ['redis://u:pw-4711@sentinel-1'] } },
      'session.redis.sentinel.nodes.0',
      /username and password of session\.redis\.sentinel/,
    ],
    [
      'half behind TLS',
      { cluster: ['redis://redis-1', 'rediss://redis-2'] },
      'session.redis.cluster',
      /use TLS for all nodes or for none/,
    ],
  ])('may not be %s', (_where, redis, key, message) => {
    const problems = problemsOf(withRedis(redis));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(message);
    expect(problems[0]?.split(': ')[0]).toBe(key);
    expect(problems.join()).not.toContain('pw-4711');
  });
});
