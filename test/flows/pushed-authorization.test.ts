import { generateKeyPairSync } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { toJwk } from '../support/evil-provider/jwt.ts';
import { isLoggedIn, startLogin } from '../support/login-steps.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

const start = async (provider: WorldOptions['provider'], config: Record<string, unknown> = {}) => {
  world = await startWorld({
    store: 'memory',
    provider: provider ?? {},
    config: (data) => Object.assign(data.authorizationServer, config),
  });
};

describe('pushed authorization requests (RFC 9126)', () => {
  it('pushes the request when the server offers it; the browser carries a reference only', async () => {
    await start({ par: true });
    const browser = world.browser();
    const url = await startLogin(browser);
    expect([...url.searchParams.keys()].sort()).toEqual(['client_id', 'request_uri']);
    const [pushed] = world.provider.requestsTo('par');
    expect(pushed?.headers.authorization).toMatch(/^Basic /);
    expect(Object.fromEntries(pushed?.params ?? [])).toMatchObject({
      redirect_uri: `${world.origin}/bff/callback`,
      response_type: 'code',
      code_challenge_method: 'S256',
      scope: 'openid profile',
    });
    await browser.login('/');
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('pushes it when the server insists', async () => {
    await start({ par: 'required' }, { pushedAuthorizationRequests: 'never' });
    const browser = world.browser();
    await browser.login('/');
    expect(world.provider.requestsTo('par')).toHaveLength(1);
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('does not push when the configuration says so, or nothing is offered', async () => {
    await start({ par: true }, { pushedAuthorizationRequests: 'never' });
    expect((await startLogin(world.browser())).searchParams.has('code_challenge')).toBe(true);
    expect(world.provider.requestsTo('par')).toHaveLength(0);
  });

  it.each([
    ['500', { status: 500 }, 503],
    ['hanging up', { reset: true }, 503],
    ['a request_uri that is none', { body: { request_uri: 7, expires_in: 60 }, status: 201 }, 503],
    ['invalid_request', { body: { error: 'invalid_request' } }, 503],
  ] as const)('starts no login when the push ends in %s', async (_name, fault, status) => {
    await start({ par: true });
    world.provider.faults = { par: fault };
    const page = await world.browser().navigate('/bff/login', { from: world.origin, followRedirects: false });
    expect(page.status).toBe(status);
    expect(page.header('location')).toBeUndefined();
    expect(page.setCookies).toEqual([]);
  });

  it('makes a new client assertion for every call, also when it tries again', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await start(
      { par: true, clientJwks: [toJwk({ kid: 'cloakroom-1', publicKey })] },
      {
        clientSecret: undefined,
        privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        privateKeyId: 'cloakroom-1',
      },
    );
    const browser = world.browser();
    world.provider.faults = { par: { status: 503, times: 1 } };
    expect((await browser.navigate('/bff/login', { from: world.origin })).status).toBe(503);
    await browser.login('/');
    expect(await isLoggedIn(browser)).toBe(true);
    await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(world.provider.tokenRequests('refresh_token')).toHaveLength(1);

    const calls = [...world.provider.requestsTo('par'), ...world.provider.requestsTo('token')];
    expect(calls).toHaveLength(4);
    const claims = calls.map(({ params }) => decode(params.get('client_assertion')));
    expect(new Set(claims.map(({ jti }) => jti)).size).toBe(4);
    for (const { iss, sub, aud, exp, iat } of claims) {
      expect({ iss, sub, aud }).toEqual({ iss: 'cloakroom', sub: 'cloakroom', aud: world.provider.issuer });
      expect(Number(exp) - Number(iat)).toBeLessThanOrEqual(300);
    }
    for (const { params, headers } of calls) {
      expect(params.has('client_secret')).toBe(false);
      expect(headers.authorization).toBeUndefined();
    }
  });
});

function decode(assertion: string | null): Record<string, unknown> {
  return JSON.parse(Buffer.from(assertion?.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
}
