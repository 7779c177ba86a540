import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assertNoSecrets } from '../support/canary.ts';
import { type Certificates, createCertificates } from '../support/certificates.ts';
import type { DiscoveryFault } from '../support/evil-provider/faults.ts';
import { startEvilProvider } from '../support/evil-provider.ts';
import { startWorld } from '../support/world.ts';

type Provider = Awaited<ReturnType<typeof startEvilProvider>>;

let certificates: Certificates;
let folder: string;
beforeAll(async () => {
  certificates = await createCertificates();
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-metadata-'));
  await writeFile(join(folder, 'ca.pem'), certificates.ca);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Starts a login at a provider over TLS whose metadata is changed from the very beginning. */
async function start(fault: (provider: Provider) => DiscoveryFault, config: Record<string, unknown> = {}) {
  const provider = await startEvilProvider({ tls: certificates.good });
  provider.faults = { discovery: fault(provider) };
  const world = await startWorld({
    store: 'memory',
    config: (data) => {
      const { issuer, clientSecret } = provider;
      Object.assign(data.authorizationServer, { issuer, clientSecret, caFile: join(folder, 'ca.pem'), ...config });
    },
  });
  const page = await world.browser().navigate('/bff/login', { from: world.origin, followRedirects: false });
  const warnings = world.log.warnings();
  await world.stop();
  await provider.stop();
  assertNoSecrets({
    secrets: [provider.clientSecret],
    haystacks: [
      { name: 'log', text: world.log.text() },
      { name: 'page', text: page.text },
    ],
  });
  return { page, warnings, provider };
}

const withMetadata = (change: Record<string, unknown>): DiscoveryFault => ({
  mutate: (json) => ({ ...json, ...change }),
});

const endpoints = [
  'authorization_endpoint',
  'token_endpoint',
  'jwks_uri',
  'revocation_endpoint',
  'end_session_endpoint',
];
const changes: Record<string, (provider: Provider) => DiscoveryFault> = {
  'no PKCE at all': () => withMetadata({ code_challenge_methods_supported: undefined }),
  'plain PKCE only': () => withMetadata({ code_challenge_methods_supported: ['plain'] }),
  'an issuer with a slash more': ({ issuer }) => ({ issuer: `${issuer}/` }),
  'an issuer in another case': ({ issuer }) => ({ issuer: issuer.toUpperCase() }),
  'the issuer of another tenant': ({ issuer }) => ({ issuer: `${issuer}/tenant-b` }),
  'the issuer of another host': () => ({ issuer: 'https://evil.example' }),
  'no issuer': () => withMetadata({ issuer: undefined }),
  'no token endpoint': () => withMetadata({ token_endpoint: undefined }),
  'a token endpoint that is no URL': () => withMetadata({ token_endpoint: '/token' }),
  'a script as authorization endpoint': () => withMetadata({ authorization_endpoint: 'javascript:alert(1)' }),
  ...Object.fromEntries(
    endpoints.map((name) => [`http in ${name}`, () => withMetadata({ [name]: `http://127.0.0.1:1/${name}` })]),
  ),
  'a redirect to elsewhere': () => ({ redirectTo: 'https://evil.example/.well-known/openid-configuration' }),
  'a page instead of JSON': () => ({ body: '<html>', headers: { 'content-type': 'text/html' } }),
  null: () => ({ body: 'null' }),
};

describe('T12 metadata that can’t be trusted', () => {
  it.each(Object.entries(changes))('T12 refuses to log in, and says so in the log: %s', async (_name, change) => {
    const { page, warnings } = await start(change);
    expect(page.status).toBe(503);
    expect(Number(page.header('retry-after'))).toBeGreaterThan(0);
    expect(page.text).toContain('BFF_AUTHORIZATION_SERVER_UNAVAILABLE');
    expect(page.header('location')).toBeUndefined();
    expect(page.setCookies).toEqual([]);
    expect(warnings.map(({ msg }) => msg)).toContain('authorization server metadata is not usable');
  });

  it('T12 logs in without S256 in the metadata when the configuration says that it is supported', async () => {
    const { page } = await start(changes['no PKCE at all'] as () => DiscoveryFault, { assumePkceS256: true });
    expect(page.status).toBe(303);
    expect(new URL(page.header('location') ?? '').searchParams.get('code_challenge_method')).toBe('S256');
  });

  it('logs in with metadata as it is', async () => {
    const { page, provider } = await start(() => ({}));
    expect(page.status).toBe(303);
    expect(page.header('location')).toContain(`${provider.issuer}/authorize?`);
  });
});
