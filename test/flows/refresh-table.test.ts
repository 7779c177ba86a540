import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { call, sessionOf } from '../support/api-calls.ts';
import type { Faults, JwtFault, TokenFault } from '../support/evil-provider/faults.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// "What ends a session" in docs/sessions-and-tokens.md, read from there: each row is caused, each cell is asked for.

const page = readFileSync(join(import.meta.dirname, '../../docs/sessions-and-tokens.md'), 'utf8');
const table = [...page.matchAll(/^\| (A\d+) \| (.*?) \| (.*?) \| (\d{3})(.*?) \|(.*?)\| `([\w-]+)` \|$/gm)].map(
  ([, id = '', answer = '', session = '', status = '', details = '', log = '', outcome = '']) => ({
    id,
    answer,
    fate: /^\w+/.exec(session)?.[0],
    isRevoked: session.includes('are revoked'),
    status: Number(status),
    hasLoginUrl: details.includes('`loginUrl`'),
    log: /`(.*)`/.exec(log)?.[1],
    outcome,
  }),
);

const refresh = (refreshResponse: TokenFault): Faults => ({ refreshResponse });
const idToken = (refreshIdToken: JwtFault): Faults => ({ refreshIdToken });
const newKey: Faults = { refreshIdToken: { header: (header) => ({ ...header, kid: 'new' }) } };
const inHtml = { 'content-type': 'text/html' };
const member = (changed: Record<string, unknown>) => refresh({ mutate: (json) => ({ ...json, ...changed }) });

/** How often a refresh token may come, where that is not once for each try. */
type Row = [what: string, cause: Faults | ((world: World) => unknown), sends?: number];
const rows: Record<string, Row[]> = {
  A1: [
    ['new ones', {}],
    ['W25 null members', member({ refresh_token: null, expires_in: null, scope: null })],
    ['W25 a list of scopes', member({ scope: ['openid', 'profile'] })],
  ],
  A2: [
    ['W38 a later auth_time', idToken({ claims: { auth_time: 4_000_000_000 } })],
    ['W38 an earlier auth_time', idToken({ claims: { auth_time: 1 } })],
    ['W38 a stronger acr and amr', idToken({ claims: { acr: 'gold', amr: ['pwd', 'otp'] } })],
  ],
  A3: [
    [
      'a key that nobody has',
      (world) => {
        world.provider.faults.refreshIdToken = { header: (header) => ({ ...header, kid: 'unknown' }) };
      },
    ],
    ['keys that can’t be read', (world) => Object.assign(world.provider.faults, { jwks: { status: 500 } }, newKey)],
    [
      'a clock that is an hour behind',
      idToken({ claims: ({ iat, ...rest }) => ({ ...rest, iat: Number(iat) - 3600 }) }),
    ],
  ],
  A4: [
    ['another sub', idToken({ claims: { sub: 'mallory' } })],
    ['another nonce', idToken({ claims: { nonce: 'another' } })],
    ['another aud', idToken({ claims: { aud: 'another' } })],
    ['another iss', idToken({ claims: { iss: 'https://id.example' } })],
    ['a forged one', idToken({ alg: 'forged' })],
    ['an unsigned one', idToken({ alg: 'none' })],
  ],
  A5: [['an end in the past', idToken({ claims: { session_expiry: 1 } })]],
  A6: [
    ['a page', refresh({ body: '<h1>Maintenance</h1>', headers: inHtml, commit: true })],
    ['half of it', refresh({ truncate: true })],
    ['half of it, then the connection ends', refresh({ truncate: 'connection' })],
    ['W22 an access token that fits no header', member({ access_token: 'a'.repeat(20_000) })],
    ['W25 no type of token', member({ token_type: null })],
    ['no access token', member({ access_token: null })],
    ['an absurd life', member({ expires_in: -5 })],
    ['status 201', refresh({ status: 201, commit: true, mutate: (json) => json })],
    ['invalid_grant, with status 200', refresh({ status: 200, body: { error: 'invalid_grant' }, commit: true })],
  ],
  A7: [['invalid_grant', (world) => world.provider.revokeGrants('alice')]],
  A8: ['login_required', 'interaction_required', 'consent_required', 'account_selection_required'].map(
    (error): Row => [`W23 ${error}`, refresh({ body: { error } })],
  ),
  A9: [
    ['W24 invalid_client for a dead token', refresh({ status: 401, body: { error: 'invalid_client' } })],
    ['W24 with a challenge', refresh({ status: 401, headers: { 'www-authenticate': 'Basic' } })],
    ['W24 invalid_request', refresh({ body: { error: 'invalid_request' } })],
    ['unauthorized_client', refresh({ body: { error: 'unauthorized_client' } })],
    ['invalid_scope', refresh({ body: { error: 'invalid_scope' } })],
    ['403 and access_denied', refresh({ status: 403, body: { error: 'access_denied' } })],
    ['an error nobody knows', refresh({ body: { error: 'bad_refresh_token' } })],
  ],
  A10: [
    [
      'W24 a 401 in words',
      refresh({ status: 401, body: 'Unauthorized', headers: { 'content-type': 'text/plain' } }),
      2,
    ],
    ['W24 a 400 in words', refresh({ status: 400, body: 'Bad Request', headers: { 'content-type': 'text/plain' } }), 2],
    ['403 of a firewall', refresh({ status: 403, body: '<h1>Forbidden</h1>', headers: inHtml }), 2],
  ],
  A11: [
    ...[408, 425, 429, 500, 502, 503, 504].map((status): Row => [String(status), refresh({ status })]),
    ['500 and a page', refresh({ status: 500, body: '<h1>Oops</h1>', headers: inHtml })],
    ['500 and invalid_grant', refresh({ status: 500, body: { error: 'invalid_grant' } })],
    ['429 and invalid_grant', refresh({ status: 429, body: { error: 'invalid_grant' } })],
    ...['temporarily_unavailable', 'server_error', 'slow_down'].map(
      (error): Row => [error, refresh({ body: { error } })],
    ),
  ],
  A12: [['a redirect', refresh({ redirectTo: 'http://127.0.0.1:1/' }), 2]],
  A13: [['a closed port', (world) => world.provider.down(), 0]],
  A14: [['a dropped connection', refresh({ reset: true }), 2]],
  A15: [['W40 silence', refresh({ hang: true })]],
  A16: [['none', {}, 0]],
  A17: [
    ['W29 503', { userinfo: { status: 503 } }],
    ['W29 no sub', { userinfo: { body: '{}' } }],
    ['W29 a forged JWT', { userinfoJwt: { alg: 'forged' } }],
  ],
  A18: [['W29 another sub', { userinfo: { mutate: (json) => ({ ...json, sub: 'mallory' }) } }]],
  A19: [['W47 Keycloak after an exchange for less', member({ scope: 'profile', id_token: null })]],
};

it('the table has a row for every answer that is played', () => {
  expect(table.map(({ id }) => id)).toEqual(Object.keys(rows));
});

describe.each(['memory', 'redis'] as const)('what ends a session in %s', (store) => {
  let world: World;
  afterEach(() => world.stop());

  const plays = table.flatMap((row) =>
    (rows[row.id] ?? []).map(([what, cause, sends]) => ({ ...row, what, cause, sends })),
  );
  it.each(plays)('$id $what', async ({ id, cause, sends = 1, fate, isRevoked, status, hasLoginUrl, log, outcome }) => {
    world = await startWorld({
      store,
      provider: { accessTokenSeconds: 1, ...(id === 'A16' ? { rotation: 'omit' as const } : {}) },
      config: ({ authorizationServer }) => {
        Object.assign(authorizationServer, { timeout: '500ms', refreshTimeout: '500ms' });
        if (['A17', 'A18'].includes(id)) authorizationServer.userInfo = 'always';
      },
    });
    world.allowErrors();
    if (id === 'A16') world.provider.faults.tokenResponse = member({ refresh_token: null }).refreshResponse;
    const browser = await world.loggedIn();
    const { provider } = world;
    if (typeof cause === 'function') await cause(world);
    else Object.assign(provider.faults, cause);
    const known = provider.issuedSecrets('refresh_token').length;
    const firstToken = provider.issuedSecrets('access_token').at(-1);

    let last = await call(browser);
    if (store === 'memory') world.clock.advance(1100);
    await until(async () => {
      last = await call(browser);
      const used = world.upstream.requests.at(-1)?.header('authorization');
      return last.status !== 200 || used !== `Bearer ${firstToken}`;
    });
    expect(last.status).toBe(status);
    const body = status === 200 ? {} : last.json<{ loginUrl?: string }>();
    expect('loginUrl' in body).toBe(hasLoginUrl || status === 401);
    if (status === 503) expect(Number(last.header('retry-after'))).toBeGreaterThan(0);
    expect((await sessionOf(browser)).authenticated).toBe(status !== 401);
    expect({ ended: 'ended', lasts: 'ended', goes: 'goes', stays: 'stays' }[String(fate)]).toBe(
      status === 401 ? 'ended' : status === 200 ? 'goes' : 'stays',
    );
    if (log !== undefined) expect(world.log.text()).toContain(log);
    expect((await world.app.ops.inject('/metrics')).body).toMatch(
      new RegExp(`cloakroom_refreshes_total\\{frontend="default",outcome="${outcome}"\\} [1-9]`),
    );
    if (isRevoked) {
      await until(() => provider.revoked.length > 0);
      const issued = provider.issuedSecrets('refresh_token');
      expect(provider.revoked.map((token) => issued.length - issued.indexOf(token))).toEqual([1]);
    } else expect(provider.revoked).toEqual([]);
    // Nobody’s refresh token is sent when it is spent: asked for by a server that detects it.
    expect(provider.reuseDetected()).toBe(0);
    const sent = provider.tokenRequests('refresh_token').map(({ params }) => params.get('refresh_token'));
    const first = sent.filter((token) => token === provider.issuedSecrets('refresh_token')[known - 1]);
    expect(first).toHaveLength(id === 'A16' ? 0 : sends);
  });
});
