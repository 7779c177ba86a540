import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { sortFault } from '../../src/issuer/faults.ts';
import { describeError } from '../../src/ops/logging.ts';
import { problem, problemTypes } from '../../src/problems/errors.ts';
import type { Browser } from '../support/browser.ts';
import { assertNoSecrets } from '../support/canary.ts';
import { rawBytes, reset } from '../support/echo-upstream/answers.ts';
import { rawRequest } from '../support/raw-client.ts';
import { startRedis } from '../support/redis.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

// world.stop() searches log, answers, metrics and Redis for every secret (L1); these tests make them say as much as
// they can before that.

let world: World | undefined;
const cleanups: (() => unknown)[] = [];
const csrf = { 'x-csrf': '1' };
const start = async (options: WorldOptions = {}) => {
  world = await startWorld(options);
  return world;
};
afterEach(async () => {
  await world?.stop();
  world = undefined;
  for (const cleanup of cleanups.splice(0)) await cleanup();
});
const refresh = (browser: Browser) => browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });

describe('L1 and L2 at log level trace', () => {
  it('L2 leaks nothing when the provider puts tokens into its errors', async () => {
    const { provider, ...rest } = await start();
    rest.allowErrors(); // invalid_client is an alarm
    const browser = await rest.loggedIn();
    const secrets = () => provider.issuedSecrets().join(' ');
    const answers = [
      { status: 400, body: { error: 'invalid_request', error_description: secrets() } },
      { status: 401, body: { error: 'invalid_client', error_description: secrets() } },
      { status: 401, headers: { 'www-authenticate': `Basic realm="${secrets()}"` }, body: secrets() },
      { status: 500, body: secrets(), headers: { 'content-type': 'text/plain' } },
      { status: 200, body: `{"access_token":"${secrets()}"` },
      { status: 200, body: { access_token: secrets(), token_type: 'mac' } },
      { status: 302, redirectTo: `http://127.0.0.1:1/?token=${encodeURIComponent(secrets())}` },
    ];
    for (const answer of answers) {
      provider.faults.refreshResponse = answer;
      expect([401, 503]).toContain((await refresh(browser)).status);
      provider.faults.tokenResponse = answer;
      expect((await rest.browser().login('/')).status).toBeGreaterThanOrEqual(500);
    }
  });

  it('L2 leaks nothing of an answer that fails its checks', async () => {
    const { provider, ...rest } = await start();
    const faults = [
      { alg: 'forged' as const },
      { claims: { nonce: 'other' } },
      { claims: { iss: 'https://evil.example' } },
    ];
    for (const fault of faults) {
      provider.faults.idToken = fault;
      expect((await rest.browser().login('/')).status).toBe(502);
    }
    provider.faults.idToken = undefined;
    provider.faults.authorize = { error: 'access_denied', errorDescription: provider.issuedSecrets().join(' ') };
    expect((await rest.browser().login('/')).status).toBe(403);
  });

  it('L2 leaks nothing when an upstream fails, hangs up or answers with the token', async () => {
    const { upstream, ...rest } = await start();
    const browser = await rest.loggedIn();
    const echo = (text: (authorization: string) => string) => {
      upstream.respond = (request, socket) => rawBytes(text(request.header('authorization') ?? ''))(request, socket);
    };
    echo((token) => `HTTP/1.1 999 ${token}\r\n\r\n`);
    await browser.fetch('/api/orders/1');
    echo((token) => `${token}\r\n\r\n`);
    expect((await browser.fetch('/api/orders/1')).status).toBe(502);
    echo((token) => `HTTP/1.1 200 OK\r\nX-Echo: ${token}\r\nSet-Cookie: t=${token}\r\nContent-Length: 0\r\n\r\n`);
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    echo((token) => `HTTP/1.1 200 OK\r\n${token}\r\n\r\n`);
    expect((await browser.fetch('/api/orders/1')).status).toBe(502);
    upstream.respond = reset();
    expect((await browser.fetch('/api/orders/1', { method: 'POST', headers: csrf, body: 'x' })).status).toBe(502);
  });

  it('L2 leaks nothing while Redis fails in the middle of a login and a refresh', async () => {
    const redis = await startRedis();
    cleanups.push(() => redis.stop());
    const { ...rest } = await start({
      redisUrl: redis.url,
      config: (data) => Object.assign(data.session.redis, { commandTimeout: '300ms' }),
    });
    const browser = await rest.loggedIn();
    redis.pause();
    expect((await refresh(browser)).status).toBe(503);
    expect((await rest.browser().login('/')).status).toBe(503);
    redis.resume();
  });

  it('L2 logs paths without their query', async () => {
    const { browser: open, log } = await start();
    const browser = open();
    await browser.navigate('/bff/callback?code=code-canary-123&state=state-canary-123');
    await browser.fetch('/api/orders/1?access_token=query-canary-123');
    await browser.fetch('/nothing?x=query-canary-123#frag');
    await expect.poll(() => log.lines.filter(({ msg }) => msg === 'request').length).toBe(3);
    expect(log.lines.filter(({ msg }) => msg === 'request').map(({ path }) => path)).toEqual([
      '/bff/callback',
      '/api/orders/1',
      '/nothing',
    ]);
    assertNoSecrets({
      secrets: ['code-canary-123', 'state-canary-123', 'query-canary-123'],
      haystacks: [{ name: 'log', text: log.text() }],
    });
  });
});

describe('L3 log injection', () => {
  it('L3 writes one escaped line for a request, whatever it is made of', async () => {
    const { port, log, provider, ...rest } = await start();
    const forged = '\n{"level":"error","msg":"forged"}';
    provider.nextLogin({ sub: `x${forged}`, claims: { name: `\u2028${forged}\u001b[31m`, roles: [forged] } });
    const browser = rest.browser();
    await browser.login('/');
    await browser.fetch('/api/orders/1', { headers: csrf });
    const escaped = encodeURIComponent(forged);
    for (const head of [
      `GET /x${escaped} HTTP/1.1\r\nHost: localhost:${port}`,
      `GET /x?y=${escaped} HTTP/1.1\r\nHost: localhost:${port}`,
      `GET /bff/callback?error=${escaped}&state=${escaped} HTTP/1.1\r\nHost: localhost:${port}`,
      `GET / HTTP/1.1\r\nHost: localhost:${port}\r\nUser-Agent: ${forged.trim()}\r\nX-Request-Id: ${forged.trim()}`,
      `GET / HTTP/1.1\r\nHost: ${forged.trim()}`,
      `GET /${'x'.repeat(8000)} HTTP/1.1\r\nHost: localhost:${port}`,
    ])
      await rawRequest(port, `${head}\r\n\r\n`);
    expect(log.lines.some(({ msg }) => msg === 'forged')).toBe(false);
    expect(log.errors()).toEqual([]);
    for (const line of log.text().split('\n')) expect(line.length).toBeLessThan(2000);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals act on them
    expect(log.text().replaceAll('\n', '')).not.toMatch(/[\x00-\x1f\x7f\u2028]/);
  });
});

describe('L4 oracles', () => {
  it('L4 answers an ended, an unknown and a forged session alike, and finds sessions by a hash only', async () => {
    const running = await start();
    const browser = await running.loggedIn();
    const ended = browser.clone();
    await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
    const forger = running.browser();
    forger.setCookie('cloakroom=forged.forged; Path=/');
    const shapes = [];
    for (const one of [ended, forger]) {
      const page = await one.fetch('/api/orders/1', { headers: { ...csrf, 'x-request-id': 'same-request-id' } });
      shapes.push([page.status, page.text, page.headers.filter(([name]) => !/^date$/i.test(name))]);
    }
    expect(shapes[0]).toEqual(shapes[1]);
    await ended.close();
  });
});

describe('L5 pages', () => {
  it('L5 load nothing from elsewhere and send no referrer', async () => {
    const running = await start();
    const browser = running.browser();
    const begun = await browser.navigate('/bff/login', { followRedirects: false });
    const page = await browser.navigate('/bff/callback?code=secret-code&state=made-up', { followMetaRefresh: false });
    expect(page.status).toBe(400);
    for (const hop of [...begun.hops, ...page.hops]) {
      const header = (name: string) =>
        hop.headers.filter(([each]) => each.toLowerCase() === name).map(([, value]) => value);
      expect(header('referrer-policy')).toEqual(['no-referrer']);
      expect(header('cache-control')).toEqual(['no-store']);
    }
    expect(page.header('content-security-policy')).toContain("default-src 'none'");
    expect(page.text).not.toMatch(/<(script|img|iframe|link|object|embed|form)\b|https?:|\/\/|secret-code|made-up/i);
  });

  it('L5 leaves code and state behind at the end of a login', async () => {
    const running = await start();
    const page = await running.browser().login('/landing');
    const callback = page.hops.find(({ url }) => url.includes('/bff/callback'));
    expect(callback?.location).toBe('/landing');
    expect(page.url).toBe(`${running.origin}/landing`);
  });
});

describe('L1 errors', () => {
  it('L1 describes a foreign error without its words', () => {
    const canary = 'token-canary-4711-0815';
    const foreign = new TypeError(`bad token ${canary}`, { cause: new Error(canary, { cause: canary }) });
    Object.assign(foreign, { response: { body: canary }, code: 'ERR_FOREIGN' });
    const described = [describeError(foreign), describeError(canary), describeError({ canary }), sortFault(foreign)];
    assertNoSecrets({ secrets: [canary], haystacks: [{ name: 'described', text: inspect(described, { depth: 9 }) }] });
    expect(describeError(foreign)).toMatchObject({ type: 'TypeError', code: 'ERR_FOREIGN', cause: { type: 'Error' } });
  });

  it('L1 has fixed words in every problem, for the browser', () => {
    for (const type of problemTypes) {
      const one = problem(type, { cause: new Error('cause-canary-4711') });
      expect(one.message).not.toContain('canary');
      expect(JSON.stringify({ ...one, cause: undefined })).not.toContain('canary');
    }
  });
});
