import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type EvilProvider, startEvilProvider } from '../support/evil-provider.ts';
import { attemptLogin } from '../support/login-attempt.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// What is wrong with a registration must say so itself (W41): to operators in one line with its cure, and to users that
// trying again does not help.

let world: World;
let server: EvilProvider;

interface Case {
  mistake: string;
  what: string;
  config?: (data: ConfigData) => void;
  cause?: (provider: EvilProvider) => unknown;
  told?: object;
}

const cases: Case[] = [
  {
    mistake: 'client-credentials',
    what: 'a wrong secret',
    config: ({ authorizationServer }) => Object.assign(authorizationServer, { clientSecret: 'another-one' }),
    told: { fault: { said: { status: 401, error: 'invalid_client' } } },
  },
  {
    mistake: 'client-credentials',
    what: 'a wrong secret, at the pushed authorization request',
    config: ({ authorizationServer }) =>
      Object.assign(authorizationServer, { clientSecret: 'another-one', pushedAuthorizationRequests: 'always' }),
    cause: ({ settings }) => Object.assign(settings, { par: true }),
  },
  {
    mistake: 'client-not-allowed',
    what: 'a disabled client',
    cause: ({ faults }) =>
      Object.assign(faults, {
        tokenResponse: { body: { error: 'unauthorized_client', error_description: 'Client is disabled' } },
      }),
    told: { fault: { said: { status: 400, error: 'unauthorized_client', description: 'Client is disabled' } } },
  },
  {
    mistake: 'client-not-allowed',
    what: 'an unknown client',
    cause: ({ faults }) =>
      Object.assign(faults, {
        tokenResponse: { status: 401, body: { error: 'invalid_client', error_description: 'client not found' } },
      }),
  },
  {
    mistake: 'client-not-allowed',
    what: 'a client that may not use the code flow',
    cause: ({ faults }) => Object.assign(faults, { authorize: { error: 'unauthorized_client' } }),
    told: { fault: { said: { error: 'unauthorized_client' } } },
  },
  {
    mistake: 'redirect-uri',
    what: 'another redirect URI',
    cause: ({ faults }) =>
      Object.assign(faults, {
        tokenResponse: { body: { error: 'invalid_grant', error_description: 'Incorrect redirect_uri' } },
      }),
  },
  {
    mistake: 'scope',
    what: 'an unknown scope',
    cause: ({ faults }) =>
      Object.assign(faults, {
        authorize: { error: 'invalid_scope', errorDescription: 'Invalid scopes: openid profil' },
      }),
    told: { fault: { said: { error: 'invalid_scope', description: 'Invalid scopes: openid profil' } } },
  },
  {
    mistake: 'sender-constrained',
    what: 'a client with DPoP only',
    cause: ({ faults }) =>
      Object.assign(faults, {
        tokenResponse: { body: { error: 'invalid_request', error_description: 'DPoP proof is missing' } },
      }),
  },
  {
    mistake: 'sender-constrained',
    what: 'a token of type DPoP',
    cause: ({ faults }) =>
      Object.assign(faults, { tokenResponse: { mutate: (json: object) => ({ ...json, token_type: 'DPoP' }) } }),
    told: { fault: { expected: 'Bearer', received: 'dpop' } },
  },
  {
    mistake: 'id-token-encrypted',
    what: 'an encrypted ID token',
    cause: ({ faults }) => Object.assign(faults, { idToken: { raw: 'eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d' } }),
  },
  {
    mistake: 'id-token-algorithm',
    what: 'an ID token with HS256',
    cause: ({ faults }) => Object.assign(faults, { idToken: { alg: 'HS256-secret' } }),
    told: { fault: { received: 'HS256' } },
  },
  {
    mistake: 'id-token-algorithm',
    what: 'an ID token with HS256, of a server that offers it',
    cause: ({ faults }) =>
      Object.assign(faults, {
        idToken: { alg: 'HS256-secret' },
        discovery: {
          mutate: (json: object) => ({ ...json, id_token_signing_alg_values_supported: ['RS256', 'HS256'] }),
        },
      }),
    told: { fault: { received: 'HS256' } },
  },
  {
    mistake: 'issuer-differs',
    what: 'a slash too many',
    config: ({ authorizationServer }) =>
      Object.assign(authorizationServer, { issuer: `${authorizationServer.issuer}/` }),
  },
  {
    mistake: 'issuer-differs',
    what: 'the metadata of another issuer',
    cause: ({ faults }) => Object.assign(faults, { discovery: { issuer: 'https://id.example/realms/other' } }),
    told: { fault: { received: 'https://id.example/realms/other' } },
  },
  {
    mistake: 'metadata-missing',
    what: 'an unknown realm',
    cause: ({ faults }) =>
      Object.assign(faults, { discovery: { status: 404, body: { error: 'Realm does not exist' } } }),
    told: { fault: { received: '404 application/json' } },
  },
  {
    mistake: 'metadata-missing',
    what: 'a page where the metadata should be',
    cause: ({ faults }) =>
      Object.assign(faults, {
        discovery: { status: 200, body: '<h1>Hello</h1>', headers: { 'content-type': 'text/html' } },
      }),
  },
];

describe('a mistake in the registration', () => {
  afterEach(async () => {
    await world.stop();
    await server.stop();
  });

  it.each(cases)('W41 names itself $mistake: $what', async ({ mistake, config, cause, told = {} }) => {
    // Wrong from the start: a server whose metadata are known already is believed.
    server = await startEvilProvider({ clientSecret: 'secret-of-the-client' });
    cause?.(server);
    const { issuer } = server;
    world = await startWorld({
      store: 'memory',
      config(data) {
        Object.assign(data.authorizationServer, { issuer, clientSecret: 'secret-of-the-client' });
        config?.(data);
      },
    });
    const { page, status } = await attemptLogin(world);
    const lines = world.log.lines.filter((line) => line.mistake !== undefined);
    expect(lines.map((line) => line.mistake)).toContain(mistake);
    expect(new Set(lines.map((line) => line.mistake)).size).toBe(1);
    expect(lines[0]).toMatchObject({ level: 'warn', ...told });
    expect(String(lines[0]?.cure)).toMatch(/.{40,}/);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(page.text).toContain('trying again does not help');
    expect(page.text).not.toMatch(/shortly/i);
    expect(page.header('x-request-id')).toMatch(/\S/);
    expect(page.text).toContain(page.header('x-request-id'));
  });
});

it('W41 knows nine mistakes, and operators find the name of each', () => {
  const names = new Set(cases.map(({ mistake }) => mistake));
  expect(names.size).toBe(9);
  const page = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
  expect([...names].filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});
