import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { createCertificates } from '../support/certificates.ts';
import type { TokenFault } from '../support/evil-provider/faults.ts';
import { startEvilProvider } from '../support/evil-provider.ts';
import { attemptLogin, expectRefused, problemCode } from '../support/login-attempt.ts';
import { deliver, isLoggedIn, pendingLogin } from '../support/login-steps.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

const MEBIBYTE = 1 << 20;
const unavailable = [503, 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'] as const;
const untrusted = [502, 'BFF_LOGIN_ANSWER_INVALID'] as const;
/** Time for everything but the call. Milliseconds. */
const slackMs = 1500;

let world: World;
afterEach(() => world.stop());

async function start(config: (data: ConfigData) => void = () => {}): Promise<void> {
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      data.authorizationServer.timeout = '1s';
      config(data);
    },
  });
}

describe('a token endpoint', () => {
  const page = { 'content-type': 'text/html' };
  const cases: [what: string, fault: TokenFault, result: readonly [number, string]][] = [
    ['fails', { status: 500 }, unavailable],
    ['is overloaded', { status: 503 }, unavailable],
    ['says "too many requests"', { status: 429 }, unavailable],
    ['fails with an OAuth error', { status: 500, body: { error: 'invalid_grant' } }, unavailable],
    ['says "temporarily unavailable"', { body: { error: 'temporarily_unavailable' } }, unavailable],
    ['answers with a status that does not exist', { status: 999 }, unavailable],
    ['never answers', { hang: true }, unavailable],
    ['drops the connection', { reset: true }, unavailable],
    ['drops the connection half way', { truncate: 'connection' }, unavailable],
    ['sends one byte a second', { slowBytesPerSecond: 1 }, unavailable],
    ['sends 100 MB', { hugeBytes: 100 * MEBIBYTE }, unavailable],
    ['sends a gzip bomb', { gzipBomb: true }, untrusted],
    ['sends gzip although nobody asked', { gzipBomb: 1 }, untrusted],
    ['redirects', { redirectTo: 'http://127.0.0.1:1/token' }, untrusted],
    ['redirects with 307', { status: 307, redirectTo: 'http://127.0.0.1:1/token' }, untrusted],
    ['shows a page', { body: '<h1>Welcome</h1>', headers: page }, untrusted],
    ['sends a page as JSON', { body: '<h1>Welcome</h1>' }, untrusted],
    ['sends an array', { body: '[]' }, untrusted],
    ['sends null', { body: 'null' }, untrusted],
    ['sends a number', { body: '42' }, untrusted],
    ['sends half the JSON', { truncate: true }, untrusted],
    ['sends nothing', { body: '' }, untrusted],
    ['answers 204', { status: 204 }, untrusted],
    ['answers 201', { status: 201, commit: true, mutate: () => undefined }, untrusted],
    ['knows no path', { status: 404 }, untrusted],
    ['does not know us', { status: 401, body: { error: 'invalid_client' } }, untrusted],
    [
      'challenges us',
      { status: 401, headers: { 'www-authenticate': 'Basic' }, body: { error: 'invalid_client' } },
      untrusted,
    ],
    ['does not let us', { body: { error: 'unauthorized_client' } }, untrusted],
    ['does not know the code', { body: { error: 'invalid_grant' } }, [400, 'BFF_LOGIN_RESPONSE_INVALID']],
    ['has an error that is no text', { status: 400, body: { error: { toString: 'x' } } }, untrusted],
    ['has no access token', { mutate: ({ access_token: _, ...json }) => json }, untrusted],
    ['has an ID token only for later', { mutate: ({ id_token: _, ...json }) => json }, untrusted],
  ];

  it.each(cases)('T34 that %s: no session, in time, and the login is used up', async (_what, fault, [status, code]) => {
    await start();
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    world.provider.faults.tokenResponse = fault;
    const startedAt = performance.now();
    const answer = await deliver(browser, callbackUrl);
    expect(performance.now() - startedAt).toBeLessThan(1000 + slackMs);
    expect({ status: answer.status, code: problemCode(answer) }).toEqual({ status, code });
    expect(answer.header('location')).toBeUndefined();
    if (status === 503) expect(Number(answer.header('retry-after'))).toBeGreaterThan(0);
    expect(await isLoggedIn(browser)).toBe(false);

    delete world.provider.faults.tokenResponse;
    expect((await deliver(browser, callbackUrl)).status).toBe(400);
    expect(world.provider.tokenRequests()).toHaveLength(1);
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
  });

  it('T34 that says when to come back is believed, within reason', async () => {
    await start();
    for (const [given, told] of [
      ['7', '7'],
      ['99999999', '300'],
      ['-1', '5'],
      ['soon', '5'],
      ['Infinity', '5'],
    ]) {
      world.provider.faults.tokenResponse = { status: 429, headers: { 'retry-after': given } };
      const { page: answer } = await expectRefused(world, `Retry-After: ${given}`, ...unavailable);
      expect.soft(answer.header('retry-after'), given).toBe(told);
    }
  });

  it('T34 that sends hundreds of megabytes costs no memory', async () => {
    await start();
    await attemptLogin(world);
    const before = process.memoryUsage().rss;
    let most = before;
    const sampler = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 2);
    for (const fault of [{ hugeBytes: 200 * MEBIBYTE }, { gzipBomb: true }, { hugeBytes: 200 * MEBIBYTE }] as const) {
      world.provider.faults.tokenResponse = fault;
      expect((await attemptLogin(world)).isLoggedIn).toBe(false);
    }
    clearInterval(sampler);
    expect((most - before) / MEBIBYTE).toBeLessThan(100);
  });

  it('T34 whose host name does not exist: no session', async () => {
    await startWithTokenEndpoint('https://nowhere.invalid/token');
    await expectRefused(world, 'no such host', ...unavailable);
  });

  it('T34 whose port is closed: no session', async () => {
    await startWithTokenEndpoint('http://127.0.0.1:1/token');
    await expectRefused(world, 'closed port', ...unavailable);
  });

  it.each(['wrongName', 'selfSigned', 'expired'] as const)(
    'T34 whose certificate is not valid (%s) is not sent the code',
    async (kind) => {
      const certificates = await createCertificates();
      const impostor = await startEvilProvider({ tls: certificates[kind] });
      try {
        await startWithTokenEndpoint(`${impostor.issuer}/token`);
        await expectRefused(world, kind, ...unavailable);
        expect(impostor.requests).toEqual([]);
      } finally {
        await impostor.stop();
      }
    },
  );

  /** The token endpoint lives elsewhere from the start, as some providers have it. */
  async function startWithTokenEndpoint(url: string): Promise<void> {
    const provider = await startEvilProvider();
    onTestFinished(() => provider.stop());
    provider.faults.discovery = { mutate: (json) => ({ ...json, token_endpoint: url }) };
    await start((data) => {
      const { issuer, clientId, clientSecret } = provider;
      Object.assign(data.authorizationServer, { issuer, clientId, clientSecret });
    });
  }
});
