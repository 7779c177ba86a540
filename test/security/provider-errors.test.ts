import { afterEach, describe, expect, it } from 'vitest';
import { deliver, pendingLogin } from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

describe('an error of the token endpoint', () => {
  /** Ways in which providers, or whoever stands before them, give back what they were sent. */
  const echoes = (secret: string) => [
    { status: 400, body: { error: 'invalid_request', error_description: `unknown token ${secret}` } },
    { status: 400, body: { error: secret } },
    { status: 400, body: { error: 'invalid_scope', error_uri: `https://id.example/?token=${secret}` } },
    { status: 401, headers: { 'www-authenticate': `Bearer error="${secret}", error_description="${secret}"` } },
    { status: 500, body: `<h1>${secret}</h1>`, headers: { 'content-type': 'text/html' } },
    { status: 503, headers: { 'retry-after': secret } },
    { status: 200, body: { token_type: secret, access_token: secret } },
    { status: 200, body: `{"access_token":"${secret}"` },
    { status: 200, body: { access_token: secret, token_type: 'Bearer', id_token: secret } },
    { redirectTo: `https://id.example/?${secret}` },
  ];

  it('T39 that echoes the refresh token reaches neither a log nor the browser', async () => {
    world = await startWorld({ store: 'memory' });
    world.allowErrors(); // an operator must look at invalid_client; the search for secrets goes on
    for (const index of echoes('').keys()) {
      const browser = await world.loggedIn();
      const refreshToken = String(world.provider.issuedSecrets('refresh_token').at(-1));
      world.provider.faults.refreshResponse = echoes(refreshToken)[index];
      const answer = await browser.fetch('/bff/refresh', { method: 'POST', headers: { 'x-csrf': '1' } });
      expect.soft(answer.status, JSON.stringify(echoes('…')[index])).toBe(503);
      expect(answer.text).not.toContain(refreshToken);
      expect(world.log.text()).not.toContain(refreshToken);
    }
  });

  it('T39 that echoes the code and the client secret reaches neither a log nor the browser', async () => {
    world = await startWorld({ store: 'memory' });
    for (const secret of ['code', 'client_secret'] as const) {
      for (const index of echoes('').keys()) {
        const browser = world.browser();
        const { callbackUrl } = await pendingLogin(browser);
        const value = String(world.provider.issuedSecrets(secret).at(-1));
        world.provider.faults.tokenResponse = echoes(value)[index];
        const refused = await deliver(browser, callbackUrl);
        expect.soft([502, 503], JSON.stringify(echoes('…')[index])).toContain(refused.status);
        expect(JSON.stringify(refused.headers) + refused.text).not.toContain(value);
        expect(world.log.text()).not.toContain(value);
      }
    }
  });

  // What reads like words is shown to operators (W41): a password that people made up does too.
  it.each([
    ['client_secret_basic', 'correct-horse-battery'],
    ['client_secret_post', 'correct-horse-battery'],
    ['client_secret_basic', 'Summer "2026" & more%'],
    ['client_secret_post', 'Summer "2026" & more%'],
  ])('T39 that echoes a client secret of plain words (%s) is shown without it', async (method, clientSecret) => {
    world = await startWorld({
      store: 'memory',
      provider: { clientSecret },
      config: ({ authorizationServer }) => Object.assign(authorizationServer, { clientAuthentication: method }),
    });
    world.provider.faults.tokenResponse = {
      status: 401,
      body: { error: 'invalid_client', error_description: `secret ${clientSecret} is not it` },
    };
    const browser = world.browser();
    const { callbackUrl } = await pendingLogin(browser);
    expect((await deliver(browser, callbackUrl)).status).toBe(502);
    expect(world.log.text()).not.toContain(clientSecret);
    expect(world.log.lines.find(({ msg }) => msg === 'the code could not be redeemed')).toMatchObject({
      mistake: 'client-credentials',
      fault: { said: { description: 'secret (not shown) is not it' } },
    });
  });
});
