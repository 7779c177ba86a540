import * as oidc from 'openid-client';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Faults } from '../../support/evil-provider/faults.ts';
import { type EvilProvider, startEvilProvider } from '../../support/evil-provider.ts';
import { until } from '../../support/wait.ts';

const redirectUri = 'http://localhost:1/bff/callback';
let provider: EvilProvider;
beforeAll(async () => {
  provider = await startEvilProvider();
});
afterEach(() => provider.reset());
afterAll(() => provider.stop());

function discover(at = provider) {
  const { clientId, clientSecret } = at;
  return oidc.discovery(new URL(at.issuer), clientId, clientSecret, oidc.ClientSecretBasic(clientSecret), {
    execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks],
    timeout: 1,
  });
}

async function login(config: oidc.Configuration, parameters: Record<string, string> = {}) {
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
  const expectedState = oidc.randomState();
  const expectedNonce = oidc.randomNonce();
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: 'openid profile offline_access',
    state: expectedState,
    nonce: expectedNonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    ...parameters,
  });
  const answer = await fetch(url, { redirect: 'manual' });
  const current = new URL(answer.headers.get('location') ?? '');
  return oidc.authorizationCodeGrant(config, current, {
    pkceCodeVerifier,
    expectedState,
    expectedNonce,
    idTokenExpected: true,
  });
}

test('logs in, rotates, and revokes the family when a refresh token comes twice', async () => {
  provider.nextLogin({ sub: 'bob', claims: { roles: ['admin'] }, accessTokenClaims: { roles: ['admin'] } });
  const config = await discover();
  const tokens = await login(config, { resource: 'https://api.example', acr_values: 'gold silver' });
  expect(tokens.claims()).toMatchObject({
    sub: 'bob',
    roles: ['admin'],
    acr: 'gold',
    sid: expect.stringMatching(/^sid-/),
  });
  const payload = JSON.parse(Buffer.from(tokens.access_token.split('.')[1] ?? '', 'base64url').toString());
  expect(payload).toMatchObject({ aud: 'https://api.example', sub: 'bob', roles: ['admin'], client_id: 'cloakroom' });
  expect((await oidc.fetchUserInfo(config, tokens.access_token, 'bob')).roles).toEqual(['admin']);

  const first = tokens.refresh_token ?? '';
  const second = (await oidc.refreshTokenGrant(config, first)).refresh_token ?? '';
  expect(second).not.toBe(first);
  await oidc.refreshTokenGrant(config, second);
  await expect(oidc.refreshTokenGrant(config, first)).rejects.toMatchObject({ error: 'invalid_grant' });
  expect(provider.reuseDetected()).toBe(1);
  expect(provider.refreshFamilies()).toMatchObject([{ revoked: true, rotations: 2 }]);
  expect(provider.tokenRequests('refresh_token')).toHaveLength(3);
  await expect(oidc.fetchUserInfo(config, tokens.access_token, 'bob')).rejects.toMatchObject({ status: 401 });
  expect(provider.issuedSecrets()).toEqual(
    expect.arrayContaining([first, second, tokens.access_token, tokens.id_token]),
  );
});

test('within the grace a used refresh token works again', async () => {
  provider.settings.reuseGraceSeconds = 30;
  const config = await discover();
  const { refresh_token: token = '' } = await login(config);
  provider.faults.refreshResponse = { commitThenCut: true, times: 1 };
  await expect(oidc.refreshTokenGrant(config, token)).rejects.toThrow('fetch failed');
  await oidc.refreshTokenGrant(config, token);
  expect(provider.reuseDetected()).toBe(0);
});

test('signs ID tokens of the refresh grant, exchanges tokens, revokes, speaks PAR', async () => {
  provider.settings.par = 'required';
  const config = await discover();
  const url = oidc.buildAuthorizationUrl(config, { redirect_uri: redirectUri, scope: 'openid' });
  expect(
    new URL((await fetch(url, { redirect: 'manual' })).headers.get('location') ?? '').searchParams.get('error'),
  ).toBe('invalid_request');
  provider.settings.requirePkce = false;
  const pushed = await oidc.buildAuthorizationUrlWithPAR(config, {
    redirect_uri: redirectUri,
    scope: 'openid',
    nonce: 'n',
  });
  const location = (await fetch(pushed, { redirect: 'manual' })).headers.get('location') ?? '';
  const tokens = await oidc.authorizationCodeGrant(config, new URL(location), { expectedNonce: 'n' });
  const exchanged = await oidc.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', {
    subject_token: tokens.access_token,
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    audience: 'orders',
  });
  expect(exchanged.access_token).not.toBe(tokens.access_token);
  expect((await oidc.clientCredentialsGrant(config, { scope: 'a' })).scope).toBe('a');
  await oidc.tokenRevocation(config, tokens.refresh_token ?? '');
  expect(provider.revoked).toEqual([tokens.refresh_token]);
  await expect(oidc.refreshTokenGrant(config, tokens.refresh_token ?? '')).rejects.toMatchObject({
    error: 'invalid_grant',
  });
});

test('DPoP with a server nonce', async () => {
  const config = await discover();
  const { refresh_token: token = '' } = await login(config);
  const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair());
  provider.faults.dpopNonce = 'server-nonce';
  expect((await oidc.refreshTokenGrant(config, token, {}, { DPoP })).token_type).toBe('dpop');
});

test.each<[string, Faults]>([
  ['alg none', { idToken: { alg: 'none' } }],
  ['HS256 with the secret', { idToken: { alg: 'HS256-secret' } }],
  ['HS256 with the public key', { idToken: { alg: 'HS256-public' } }],
  ['a forged signature', { idToken: { alg: 'forged' } }],
  ['ES256', { idToken: { alg: 'ES256' } }],
  ['PS256', { idToken: { alg: 'PS256' } }],
  ['an unknown crit', { idToken: { header: { crit: ['x'], x: 1 } } }],
  ['another issuer', { idToken: { claims: { iss: 'https://evil' } } }],
  ['no audience', { idToken: { claims: { aud: undefined } } }],
  ['no ID token', { idToken: { omit: true } }],
  ['a broken payload', { idToken: { payload: '[' } }],
  ['an unknown kid', { idToken: { header: { kid: 'x' } } }],
  ['decoy keys without kid', { jwks: { keys: 3, noKid: true } }],
  ['a broken JWKS', { jwks: { body: '{' } }],
  ['iss missing', { authorize: { iss: null } }],
  ['iss of another', { authorize: { iss: 'https://evil' } }],
  ['iss twice', { authorize: { iss: ['a', 'b'] } }],
  ['state twice', { authorize: { state: ['a', 'b'] } }],
  ['an error', { authorize: { error: 'access_denied', errorDescription: '<script>' } }],
  ['status 500', { tokenResponse: { status: 500 } }],
  ['a redirect', { tokenResponse: { redirectTo: 'http://127.0.0.1:1/evil' } }],
  ['HTML', { tokenResponse: { body: '<p>', headers: { 'content-type': 'text/html' } } }],
  ['an error body', { tokenResponse: { body: { error: 'invalid_grant' } } }],
  ['a changed answer', { tokenResponse: { mutate: (json) => delete json.token_type && json } }],
  ['half the text', { tokenResponse: { truncate: true } }],
  ['half the connection', { tokenResponse: { truncate: 'connection' } }],
  ['a reset', { tokenResponse: { reset: true } }],
  ['silence', { tokenResponse: { hang: true } }],
  ['a trickle', { tokenResponse: { slowBytesPerSecond: 1 } }],
])('makes openid-client refuse: %s', async (_name, faults) => {
  const config = await discover();
  Object.assign(provider.faults, faults);
  await expect(login(config)).rejects.toThrow();
});

test.each<[string, Faults]>([
  ['one key without kid', { jwks: { noKid: true }, idToken: { header: { kid: undefined } } }],
  ['many keys', { jwks: { keys: 100 } }],
  ['a large answer', { tokenResponse: { hugeBytes: 1 << 20 } }],
  ['a gzip bomb', { tokenResponse: { gzipBomb: 4 << 20 } }],
  ['a changed text', { tokenResponse: { mutateText: (text) => text.replace('{', '{"__proto__":{"a":1},') } }],
  ['a fault that is over', { tokenResponse: [] }],
])('openid-client lives with: %s', async (_name, faults) => {
  const config = await discover();
  Object.assign(provider.faults, faults);
  expect((await login(config)).claims()?.sub).toBe('alice');
});

test('holds answers, uses sequences up, rotates keys, goes down and up', async () => {
  const config = await discover();
  let release = () => {};
  provider.faults.tokenResponse = [{ holdUntil: new Promise<void>((resolve) => (release = resolve)) }, { status: 503 }];
  const held = login(config);
  await until(() => provider.tokenRequests().length === 1);
  release();
  await held;
  await expect(login(config)).rejects.toThrow();
  expect(provider.faults.tokenResponse).toBeUndefined();
  provider.rotateKeys();
  await expect(login(await discover())).resolves.toBeDefined();
  await provider.down();
  await expect(discover()).rejects.toThrow('fetch failed');
  await provider.up();
  await discover();
});

test('signs logout tokens for the last login and bad ones on demand', async () => {
  await login(await discover());
  const claims = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  expect(claims(provider.logoutToken())).toMatchObject({ sub: 'alice', aud: 'cloakroom', sid: expect.any(String) });
  expect(claims(provider.logoutToken({ sid: null, claims: { nonce: '' } }))).not.toHaveProperty('sid');
  expect(provider.logoutToken({ alg: 'none' })).toMatch(/\.$/);
});

test('a path in the issuer and form_post', async () => {
  const tenant = await startEvilProvider({ issuerPath: '/tenant', clientSecret: null, clientId: 'spa' });
  try {
    const config = await oidc.discovery(new URL(tenant.issuer), 'spa', undefined, oidc.None(), {
      execute: [oidc.allowInsecureRequests],
    });
    expect((await login(config)).token_type).toBe('bearer');
    const html = await (
      await fetch(
        oidc.buildAuthorizationUrl(config, { redirect_uri: redirectUri, response_mode: 'form_post', state: 'a"b' }),
      )
    ).text();
    expect(html).toContain('name="state" value="a&quot;b"');
  } finally {
    await tenant.stop();
  }
});
