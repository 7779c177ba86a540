import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../../src/config/load.ts';
import { proxyFor, readForwardProxies } from '../../../src/outbound/forward-proxy.ts';
import { type Data, problemsOf, smallest } from './support.ts';

/** `direct`, or the proxy and what it gets as credentials. */
function wayTo(url: string, env: Record<string, string>): string {
  const { protocol, hostname, port } = new URL(url);
  const { proxies, faults } = readForwardProxies(env);
  expect(faults).toEqual([]);
  const proxy = proxyFor(proxies, { protocol, hostname: hostname.replace(/^\[(.*)\]$/, '$1'), port });
  if (proxy === undefined) return 'direct';
  const authorization = proxy.authorization?.reveal().replace('Basic ', '');
  const credentials = authorization === undefined ? '' : `${Buffer.from(authorization, 'base64').toString()} at `;
  return `${credentials}${proxy.isTls ? 'https' : 'http'} ${proxy.hostname} ${proxy.port}`;
}

describe('the forward proxy of the environment', () => {
  it.each([
    ['http://proxy:3128', 'http proxy 3128'],
    ['proxy.example.com:3128', 'http proxy.example.com 3128'],
    ['http://proxy', 'http proxy 80'],
    ['HTTPS://proxy/', 'https proxy 443'],
    ['http://[fd00::1]:3128', 'http fd00::1 3128'],
    ['http://user:pass@proxy:1', 'user:pass at http proxy 1'],
    ['http://user@proxy:1', 'user: at http proxy 1'],
    ['http://us%40er:p%3A%2Fss@proxy:1', 'us@er:p:/ss at http proxy 1'],
    ['  http://proxy:1 ', 'http proxy 1'],
    ['', 'direct'],
  ])('W33 %s', (value, way) => {
    expect(wayTo('https://id.example.com', { HTTPS_PROXY: value })).toBe(way);
  });

  it.each(['HTTPS_PROXY', 'HTTP_PROXY', 'https_proxy', 'http_proxy'])(
    'W33 %s that is no URL is named, not shown',
    (name) => {
      for (const value of [
        'socks5://user:hunter2secret@proxy:1080',
        'http://user:hunter2secret@',
        'http://user:hunter2secret%@proxy:1',
        'http://user:hunter2secret%ff@proxy:1',
        'http://user:hunter2secret@proxy:99999',
        'http://',
        'hunter2secret proxy',
      ]) {
        const parsed = parseConfig('app.yaml', stringify(smallest()), { [name]: value });
        const lines = parsed.ok ? [] : parsed.problems.map(formatProblem);
        expect([value, lines.length]).toEqual([value, 1]);
        expect(lines[0]).toMatch(
          new RegExp(`^app\\.yaml:1:1 the environment variable ${name} is not the URL .*write it like http://proxy`),
        );
        expect(lines[0]).not.toContain('hunter2secret');
      }
    },
  );

  it('W33 is one for each scheme, and lower case wins', () => {
    const env = { HTTP_PROXY: 'http://plain:1', HTTPS_PROXY: 'http://upper:1', https_proxy: 'http://lower:1' };
    expect(wayTo('https://id.example.com', env)).toBe('http lower 1');
    expect(wayTo('http://api.example.com', env)).toBe('http plain 1');
    expect(wayTo('https://id.example.com', { ...env, https_proxy: '' })).toBe('direct');
    expect(wayTo('https://id.example.com', { HTTP_PROXY: 'http://plain:1' })).toBe('direct');
  });

  it.each([
    ['*', 'https://id.example.com', 'direct'],
    ['none.example, *', 'https://id.example.com', 'direct'],
    ['id.example.com', 'https://id.example.com', 'direct'],
    ['ID.example.com.', 'https://id.EXAMPLE.com', 'direct'],
    ['id.example.com', 'https://id.example.com.', 'direct'],
    ['example.com', 'https://id.example.com', 'direct'],
    ['.example.com', 'https://id.example.com', 'direct'],
    ['.example.com', 'https://example.com', 'direct'],
    ['*.example.com', 'https://id.example.com', 'direct'],
    ['*.example.com', 'https://example.com', 'proxy'],
    ['ample.com', 'https://example.com', 'proxy'],
    ['com.evil', 'https://example.com', 'proxy'],
    ['example.com:8443', 'https://example.com:8443', 'direct'],
    ['example.com:8443', 'https://example.com', 'proxy'],
    ['example.com:443', 'https://example.com', 'direct'],
    ['*:443', 'https://example.com:8443', 'proxy'],
    ['other.example  id.example.com', 'https://id.example.com', 'direct'],
    ['10.0.0.0/8', 'https://10.1.2.3', 'direct'],
    ['10.0.0.0/8', 'https://11.1.2.3', 'proxy'],
    ['10.0.0.0/8', 'https://id.example.com', 'proxy'],
    ['10.1.2.3:8443', 'https://10.1.2.3:8443', 'direct'],
    ['10.1.2.3:8443', 'https://10.1.2.3', 'proxy'],
    ['fd00::/8', 'https://[fd12::1]', 'direct'],
    ['[fd12::1]', 'https://[fd12::1]:8443', 'direct'],
    ['[fd12:0:0::1]:443', 'https://[fd12::1]', 'direct'],
    ['[fd12::1]:8443', 'https://[fd12::1]', 'proxy'],
    ['[x], :, ., /8, 1.2.3.4/99, a:b:c', 'https://id.example.com', 'proxy'],
    ['', 'https://id.example.com', 'proxy'],
  ])('W33 NO_PROXY=%s: %s is reached %s', (exceptions, url, way) => {
    for (const name of ['NO_PROXY', 'no_proxy'])
      expect(wayTo(url, { HTTPS_PROXY: 'http://proxy:1', [name]: exceptions }).replace('http proxy 1', 'proxy')).toBe(
        way,
      );
  });

  it.each(['localhost', 'id.localhost', '127.0.0.1', '127.9.9.9', '[::1]'])(
    'W33 a proxy elsewhere is not asked for %s, which would be its own',
    (host) => {
      const env = { HTTPS_PROXY: 'http://proxy.example.com:1', HTTP_PROXY: 'http://192.0.2.1:1' };
      for (const scheme of ['http', 'https']) expect(wayTo(`${scheme}://${host}:8080`, env)).toBe('direct');
      expect(wayTo(`https://${host}:8080`, { HTTPS_PROXY: 'http://localhost:1' })).toBe('http localhost 1');
      expect(wayTo(`https://${host}:8080`, { HTTPS_PROXY: 'http://[::1]:1' })).toBe('http ::1 1');
    },
  );
});

describe('forwardProxy of an API', () => {
  const warningsWith = (env: Record<string, string>, upstream: unknown) => {
    const data = smallest();
    Object.assign(data.apis.orders, { upstream, forwardProxy: true });
    const parsed = parseConfig('app.yaml', stringify(data), env);
    return parsed.ok ? parsed.warnings.filter((warning) => warning.includes('forwardProxy')) : ['refused'];
  };

  it('W33 is warned of where the environment names none', () => {
    expect(warningsWith({}, 'https://api.example.com')).toEqual([
      'frontend default: apis.orders.forwardProxy has no effect: HTTPS_PROXY is not set',
    ]);
    expect(warningsWith({ HTTPS_PROXY: 'http://proxy:1' }, ['https://a', 'http://b'])).toEqual([
      expect.stringMatching(/HTTP_PROXY is not set/),
    ]);
    expect(warningsWith({ HTTPS_PROXY: 'http://proxy:1' }, 'https://api.example.com')).toEqual([]);
  });

  it('W33 is refused for sockets alone', () => {
    const set = (data: Data) => Object.assign(data.apis.orders, { upstream: 'unix:/run/x.sock', forwardProxy: true });
    expect(problemsOf(set)).toEqual([expect.stringMatching(/^apis\.orders\.forwardProxy: has no effect/)]);
  });
});
