import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Certificates, createCertificates } from '../support/certificates.ts';
import type { DiscoveryFault } from '../support/evil-provider/faults.ts';
import { type EvilProvider, type EvilProviderOptions, startEvilProvider } from '../support/evil-provider.ts';
import { attemptLogin, problemCode } from '../support/login-attempt.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

let world: World;
const others: EvilProvider[] = [];
afterEach(async () => {
  await world.stop();
  await Promise.all(others.splice(0).map((other) => other.stop()));
});

interface Start {
  fault?: (issuer: string) => DiscoveryFault;
  issuer?: (issuer: string) => string;
  provider?: EvilProviderOptions;
  config?: (data: ConfigData) => void;
}

/** A world whose provider goes wrong from the first request on. */
async function start({ fault, issuer = (own) => own, provider, config }: Start): Promise<EvilProvider> {
  const other = await startEvilProvider(provider);
  others.push(other);
  const faults = fault?.(other.issuer);
  if (faults !== undefined) other.faults.discovery = faults;
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      const { clientId, clientSecret } = other;
      Object.assign(data.authorizationServer, { issuer: issuer(other.issuer), clientId, clientSecret, timeout: '1s' });
      config?.(data);
    },
  });
  return other;
}

const metadata = (changed: Record<string, unknown>) => (): DiscoveryFault => ({
  mutate: (json) => ({ ...json, ...changed }),
});
const warnings = () => world.log.warnings().filter(({ msg }) => msg === 'authorization server metadata is not usable');

/** No login begins, the browser is told when to come back, operators read why. */
async function expectNoLogin(reason: RegExp): Promise<void> {
  const browser = world.browser();
  const page = await browser.navigate('/bff/login', { from: world.origin, followRedirects: false });
  expect({ status: page.status, code: problemCode(page) }).toEqual({
    status: 503,
    code: 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE',
  });
  expect(page.header('retry-after')).toMatch(/^\d+$/);
  expect(page.header('location')).toBeUndefined();
  expect(page.setCookies).toEqual([]);
  expect(warnings().map(({ reason: told }) => told)).toEqual(warnings().map(() => expect.stringMatching(reason)));
  expect(warnings().length).toBeGreaterThan(0);
}

describe('metadata', () => {
  const refused: [what: string, start: Start, reason: RegExp][] = [
    ['without PKCE', { fault: metadata({ code_challenge_methods_supported: undefined }) }, /PKCE S256/],
    ['with plain PKCE only', { fault: metadata({ code_challenge_methods_supported: ['plain'] }) }, /PKCE S256/],
    ['with "S256" as a text', { fault: metadata({ code_challenge_methods_supported: 'S2567' }) }, /PKCE S256|OAUTH/],
    [
      'of an issuer with a slash more',
      { fault: (issuer) => ({ issuer: `${issuer}/` }) },
      /issuer in the metadata is another one/,
    ],
    ['of an issuer with a slash less', { issuer: (issuer) => `${issuer}/` }, /issuer in the metadata is another one/],
    [
      'of another tenant',
      { fault: (issuer) => ({ issuer: `${issuer}/tenant-b` }) },
      /issuer in the metadata is another one/,
    ],
    ['of another host', { fault: () => ({ issuer: 'https://id.example' }) }, /issuer in the metadata is another one/],
    ['without issuer', { fault: metadata({ issuer: undefined }) }, /OAUTH_INVALID_RESPONSE/],
    ['without token endpoint', { fault: metadata({ token_endpoint: undefined }) }, /token_endpoint/],
    [
      'without authorization endpoint',
      { fault: metadata({ authorization_endpoint: undefined }) },
      /authorization_endpoint/,
    ],
    [
      'with an endpoint that is no URL',
      { fault: metadata({ token_endpoint: '/token' }) },
      /token_endpoint is not a URL/,
    ],
    ['with an endpoint that is no text', { fault: metadata({ token_endpoint: { href: 'x' } }) }, /token_endpoint/],
    [
      'with a script as login page',
      { fault: metadata({ authorization_endpoint: 'javascript:alert(1)' }) },
      /authorization_endpoint is not https/,
    ],
    ['without a key set', { fault: metadata({ jwks_uri: undefined }) }, /has no jwks_uri/],
    ['with a file as key set', { fault: metadata({ jwks_uri: 'file:///etc/passwd' }) }, /jwks_uri is not https/],
    [
      'with plain http over the network',
      { fault: metadata({ token_endpoint: 'http://id.example/token' }) },
      /token_endpoint is not https/,
    ],
    ['that is somewhere else', { fault: () => ({ redirectTo: 'http://127.0.0.1:1/' }) }, /answered with 302/],
    ['that is a page', { fault: () => ({ body: '<h1>', headers: { 'content-type': 'text/html' } }) }, /is no JSON/],
    ['that is null', { fault: () => ({ body: 'null' }) }, /OAUTH_INVALID_RESPONSE/],
    ['that is an array', { fault: () => ({ body: '[]' }) }, /OAUTH_INVALID_RESPONSE/],
    ['of 5 MB', { fault: () => ({ hugeBytes: 5_000_000 }) }, /UND_ERR_RES_EXCEEDED_MAX_SIZE/],
    ['that never comes', { fault: () => ({ hang: true }) }, /timeout/],
    ['that drips', { fault: () => ({ slowBytesPerSecond: 10 }) }, /timeout/],
    ['that breaks off', { fault: () => ({ truncate: 'connection' as const }) }, /authorization server: /],
  ];

  it.each(refused)('T12 %s: no login begins, and the log says why', async (_what, options, reason) => {
    await start(options);
    await expectNoLogin(reason);
  });

  it('T12 without PKCE are accepted where an operator knows better', async () => {
    const other = await start({
      fault: metadata({ code_challenge_methods_supported: undefined }),
      config: ({ authorizationServer }) => {
        authorizationServer.assumePkceS256 = true;
      },
    });
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    expect(other.requestsTo('authorize')[0]?.params.get('code_challenge_method')).toBe('S256');
  });
});

describe('metadata of a provider with TLS', () => {
  let certificates: Certificates | undefined;
  let folder = '';
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function startTls(fault?: Start['fault'], kind: 'good' | 'wrongName' | 'expired' | 'selfSigned' = 'good') {
    certificates ??= await createCertificates();
    folder = await mkdtemp(join(tmpdir(), 'cloakroom-ca-'));
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, certificates.ca);
    return start({
      ...(fault === undefined ? {} : { fault }),
      provider: { tls: certificates[kind] },
      config: ({ authorizationServer }) => {
        authorizationServer.caFile = caFile;
      },
    });
  }

  it('T12 are used when everything in them is https', async () => {
    await startTls();
    const page = await world.browser().navigate('/bff/login', { from: world.origin, followRedirects: false });
    expect(page.header('location')).toMatch(/^https:\/\/localhost:/);
  });

  it.each([
    'authorization_endpoint',
    'token_endpoint',
    'jwks_uri',
    'revocation_endpoint',
    'end_session_endpoint',
    'pushed_authorization_request_endpoint',
  ])('T12 with a plain http %s: no login begins', async (name) => {
    await startTls(metadata({ [name]: 'http://127.0.0.1:1/x' }));
    await expectNoLogin(new RegExp(`${name} is not https`));
  });

  it.each(['wrongName', 'expired', 'selfSigned'] as const)(
    'T121 are not read from a server with a bad certificate (%s)',
    async (kind) => {
      const other = await startTls(undefined, kind);
      await expectNoLogin(/authorization server: (ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE)/);
      expect(other.requests).toEqual([]);
    },
  );
});
