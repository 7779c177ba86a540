import { afterEach, describe, expect, it } from 'vitest';
import { attemptLogin, expectRefused } from '../support/login-attempt.ts';
import { deliver, pendingLogin } from '../support/login-steps.ts';
import { dumpRedis } from '../support/redis-dump.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

const untrusted = [502, 'BFF_LOGIN_ANSWER_INVALID'] as const;

let world: World;
afterEach(() => world.stop());

async function start(options: WorldOptions = { store: 'memory' }): Promise<void> {
  world = await startWorld(options);
}

/** The answer to the code, with one member replaced or left out. */
function answerWith(changed: Record<string, unknown>): void {
  // Without at_hash, so that it can't be what refuses another access token.
  world.provider.faults.idToken = { claims: { at_hash: undefined } };
  world.provider.faults.tokenResponse = { mutate: (json) => ({ ...json, ...changed }) };
}

describe('a token response', () => {
  it('T35 is refused unless its type is Bearer, in any case', async () => {
    await start();
    for (const type of [
      undefined,
      null,
      '',
      'mac',
      'DPoP',
      'dpop',
      'N_A',
      'Bearer ',
      ' Bearer',
      'Bearer,DPoP',
      7,
      {},
      ['Bearer'],
    ]) {
      answerWith({ token_type: type });
      await expectRefused(world, `token_type ${JSON.stringify(type)}`, ...untrusted);
    }
    for (const type of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
      answerWith({ token_type: type });
      expect((await attemptLogin(world)).isLoggedIn, type).toBe(true);
    }
  });

  it('T36 gives a token a life of one second to one day, whatever it says', async () => {
    await start({ store: 'redis' });
    const lives: [expiresIn: string | undefined, seconds: number | 'refused'][] = [
      [undefined, 60],
      ['60', 60],
      ['"60"', 60],
      ['0', 60],
      ['0.5', 1],
      ['1', 1],
      ['59.9', 59],
      ['86401', 86_400],
      ['1e300', 86_400],
      ['9007199254740993', 86_400],
      ['"9007199254740993"', 86_400],
      ['-5', 'refused'],
      ['"-5"', 'refused'],
      ['-1e300', 'refused'],
      ['1e999', 'refused'],
      ['null', 60], // a null member is absent (W25)
      ['true', 'refused'],
      ['"soon"', 'refused'],
      ['""', 'refused'],
      ['{}', 'refused'],
      ['[]', 'refused'],
    ];
    for (const [expiresIn, seconds] of lives) {
      world.provider.faults.tokenResponse = {
        mutate: ({ expires_in: _, ...json }) => json,
        mutateText: (text) => (expiresIn === undefined ? text : text.replace('{', `{"expires_in":${expiresIn},`)),
      };
      if (seconds === 'refused') {
        await expectRefused(world, `expires_in ${expiresIn}`, ...untrusted);
        continue;
      }
      const browser = await world.loggedIn();
      const { token } = (await browser.fetch('/bff/session')).json<{ token: { expiresInSeconds: number } }>();
      expect.soft(token.expiresInSeconds, `expires_in ${expiresIn}`).toBeGreaterThanOrEqual(Math.max(0, seconds - 3));
      expect.soft(token.expiresInSeconds, `expires_in ${expiresIn}`).toBeLessThanOrEqual(seconds);
    }
    const sessions = (await dumpRedis(String(world.redisUrl), `${world.keyPrefix}*`)).filter(({ key }) =>
      key.endsWith(':s'),
    );
    expect(sessions).toHaveLength(lives.filter(([, seconds]) => seconds !== 'refused').length);
    for (const { pttl } of sessions) {
      expect(pttl).toBeGreaterThan(0);
      expect(pttl).toBeLessThanOrEqual(30 * 60_000); // the idle timeout
    }
  });

  it('T37 is refused when a token could break out of a header, or would not fit one', async () => {
    await start();
    const tokens = [
      '',
      ' ',
      'a b',
      'a\r\nx-admin: 1',
      'a\nb',
      'a\r',
      '\na',
      'a\0b',
      'a\tb',
      'tökén',
      'a\u2028b',
      '\ud800',
      'a,b',
      'a"b',
      '=a',
    ];
    for (const token of [...tokens, 'a'.repeat(100_000), 'a'.repeat(16_385), 42, null, {}, ['a']]) {
      answerWith({ access_token: token });
      await expectRefused(world, `access_token ${JSON.stringify(token).slice(0, 40)}`, ...untrusted);
    }
    for (const [name, value] of [
      ['refresh_token', 7],
      ['refresh_token', ['r']],
      ['id_token', 'a'.repeat(100_000)],
      ['scope', 7],
      ['scope', ['openid', 7]],
    ] as const) {
      answerWith({ [name]: value });
      await expectRefused(world, `${name} ${JSON.stringify(value).slice(0, 40)}`, ...untrusted);
    }
    for (const token of ['a', 'aZ09-._~+/==', 'a'.repeat(16_384)]) {
      answerWith({ access_token: token });
      expect((await attemptLogin(world)).isLoggedIn, token.slice(0, 20)).toBe(true);
    }
  });

  it('T37 with any characters in its refresh token works: that one travels in a form', async () => {
    await start();
    answerWith({ refresh_token: 'r&grant_type=client_credentials\r\nx: ü' });
    const browser = await world.loggedIn();
    world.provider.faults.refreshResponse = { status: 503 };
    await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
    const [request] = world.provider.tokenRequests('refresh_token');
    expect(request?.params.getAll('grant_type')).toEqual(['refresh_token']);
    expect(request?.params.get('refresh_token')).toBe('r&grant_type=client_credentials\r\nx: ü');
  });

  it('T38 cannot give roles or flags through a prototype', async () => {
    await start({
      store: 'memory',
      config: ({ apis }) => {
        apis.orders.require = { roles: ['admin'] };
      },
    });
    const poison = '"__proto__":{"roles":["admin"],"polluted":true},"constructor":{"prototype":{"polluted":true}}';
    world.provider.faults.tokenResponse = { mutateText: (text) => text.replace('{', `{${poison},`) };
    world.provider.faults.idToken = {
      claims: (regular) => JSON.parse(JSON.stringify(regular).replace('{', `{${poison},`)),
    };
    const browser = await world.loggedIn();
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ user: { sub: 'alice' } });
    expect((await browser.fetch('/bff/session')).text).not.toContain('admin');
    expect((await browser.fetch('/api/orders/1', { headers: { 'x-csrf': '1' } })).status).toBe(403);
    expect(Object.prototype).not.toHaveProperty('polluted');
  });

  it('T38 with a doubled key means one thing only', async () => {
    await start();
    world.provider.faults.idToken = { claims: { at_hash: undefined } };
    world.provider.faults.tokenResponse = {
      mutateText: (text) => text.replace('{', '{"access_token":"first","token_type":"mac",'),
    };
    const browser = await world.loggedIn();
    await browser.fetch('/api/orders/1', { headers: { 'x-csrf': '1' } });
    expect(world.upstream.requests[0]?.headers.filter(([name]) => name.toLowerCase() === 'authorization')).toHaveLength(
      1,
    );
    expect(world.upstream.requests[0]?.header('authorization')).not.toContain('first');
  });

  it.each([
    ['arrays', '[', ']'],
    ['objects', '{"a":', '}'],
  ])('T38 with 100 000 nested %s is answered, not crashed on', async (_what, open, close) => {
    await start();
    const nested = `${open.repeat(100_000)}${open === '[' ? '' : '1'}${close.repeat(100_000)}`;
    world.provider.faults.tokenResponse = { mutateText: (text) => text.replace('{', `{"extra":${nested},`) };
    expect([303, 502]).toContain((await attemptLogin(world)).status);
    delete world.provider.faults.tokenResponse;
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
  });

  it('T38 with claims nested deeper than 32 levels is refused, not crashed on', async () => {
    await start();
    const { issuer, clientId } = world.provider;
    for (const [depth, status] of [
      [31, 303],
      [32, 502],
      [1000, 502],
      [5700, 502],
    ] as const) {
      const browser = world.browser();
      const { authorizationUrl, callbackUrl } = await pendingLogin(browser);
      const now = Math.floor(Date.now() / 1000);
      const nonce = authorizationUrl.searchParams.get('nonce');
      const claims = JSON.stringify({ iss: issuer, aud: clientId, sub: 'alice', iat: now, exp: now + 60, nonce });
      const nested = `${'['.repeat(depth)}${']'.repeat(depth)}`;
      world.provider.faults.idToken = { payload: claims.replace('{', `{"extra":${nested},`) };
      const answer = await deliver(browser, callbackUrl);
      expect.soft(answer.status, `depth ${depth}`).toBe(status);
    }
  });
});

it.each([
  ['of another client', { claims: { aud: 'another' } }],
  ['without a signature', { alg: 'none' }],
  ['with a forged signature', { alg: 'forged' }],
] as const)('T23 an answer whose ID token is %s leaves no refresh token behind', async (_what, idToken) => {
  await start();
  world.provider.faults.idToken = idToken;
  await expectRefused(world, 'ID token', ...untrusted);
  await until(() => world.provider.revoked.length > 0);
  expect(world.provider.revoked).toEqual(world.provider.issuedSecrets('refresh_token'));
});
